"""What judges answer, piece by piece, is what they answer to everything at once."""

import pytest
import torch

from gmi.data.images import Images
from gmi.inversion.judging import Answers, Judged, Panel
from gmi.metrics.distance import perceptual
from gmi.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_rank_is_the_place_of_the_class_among_all_with_ties_and_nan_against_it():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 6, (200, 9), generator=generator).float()  # with ties
    classes = torch.randint(0, 9, (200,), generator=generator)
    answers = Answers.of(logits, classes)
    for row, true in enumerate(classes.tolist()):
        ahead = sum(logits[row, other] >= logits[row, true] for other in range(9) if other != true)
        assert answers.rank[row] == 1 + ahead
        assert logits[row, answers.named[row]] == logits[row].max()
    assert answers.top(3).tolist() == [float(rank <= 3) for rank in answers.rank.tolist()]
    logits[:, 0] = torch.nan
    assert Answers.of(logits, torch.zeros(200, dtype=torch.int64)).rank.tolist() == [9] * 200
    assert (Answers.of(logits, torch.ones(200, dtype=torch.int64)).rank >= 2).all()


def test_answers_join_as_their_images_do():
    logits, classes = torch.randn(7, 4, generator=torch.Generator().manual_seed(1)), torch.arange(7) % 4
    whole = Answers.of(logits, classes)
    joined = Answers.join([Answers.of(logits[rows], classes[rows]).plain for rows in (slice(3), slice(3, 7))])
    assert torch.equal(joined.named, whole.named) and torch.equal(joined.rank, whole.rank)
    assert joined.choices == whole.choices == 4


class Distance:
    """A perceptual judge: the mean absolute difference."""

    name = "difference"

    def distance(self, left, right):
        return (left - right).abs().flatten(1).mean(1)


def test_perceptual_distances_are_those_to_all_enrolment_images_of_the_person(tmp_path, monkeypatch):
    """Only the references of a piece's people are read for it."""
    monkeypatch.setattr("gmi.inversion.judging._PIECE", 4)
    generator = torch.Generator().manual_seed(2)

    def images(count: int) -> Images:
        pixels = torch.randint(0, 256, (count, 1, 5, 5), generator=generator, dtype=torch.uint8)
        return Images.of(pixels, torch.arange(count) % 3)

    enrolment, found = images(12), images(10)
    panel = Panel(Run.open(tmp_path / "run", {}), Judged())
    panel.perceptual(Distance(), enrolment, {"search": found})
    whole = perceptual(Distance(), found.pixels, found.classes, enrolment.pixels, enrolment.classes)
    for name, values in panel.judged.distances["difference"]["search"].items():
        assert values == pytest.approx(whole[name], abs=1e-6)
