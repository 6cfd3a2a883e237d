"""Whether a photograph was trained on: closed forms, planted members, and what is refused."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import norm

from gmi import toy
from gmi.data.images import Images
from gmi.data.people import Faces
from gmi.data.twins import share_of_twins
from gmi.errors import GmiError
from gmi.inversion.membership import Membership, calibrated, confidence, infer, learnt, likelihood_ratio, robust
from gmi.inversion.related import concluded
from gmi.metrics.detection import Detection
from gmi.metrics.statistics import Estimate
from gmi.run import Run
from gmi.targets.module import Input, ModuleTarget, Target
from gmi.training.targets import UNDEFENDED, Scratch
from gmi.views import Views

CPU = torch.device("cpu")


def test_confidence_is_the_log_odds_of_the_class():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(20) % 5
    p = logits.softmax(1)[torch.arange(20), classes].double().numpy()
    np.testing.assert_allclose(confidence(logits, classes), np.log(p / (1 - p)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(confidence(logits.log_softmax(1), classes), np.log(p / (1 - p)), rtol=1e-4, atol=1e-5)
    sure = torch.tensor([[200.0, 0.0]])  # a probability would be 1 and its odds infinite
    assert confidence(sure, torch.tensor([0])).item() == 200


@pytest.mark.parametrize(("learns", "count", "times"), [(5, 6, {3}), (6, 8, {4, 5}), (8, 10, {8})])
def test_shadow_models_learn_from_as_many_photographs_as_the_target(learns: int, count: int, times: set[int]):
    classes, member = torch.arange(7).repeat_interleave(10), (torch.arange(10) < learns).repeat(7)
    inside = torch.stack([learnt(classes, member, count, number) for number in range(count)])
    assert set(inside.sum(0).tolist()) <= times
    for one in inside:
        assert (torch.bincount(classes[one]) == learns).all()
    assert not inside[0].equal(inside[2]) and not inside[0][:10].equal(inside[0][10:20])


def halves(count: int, models: int) -> np.ndarray:
    """Whose half (models, count) of the images each model learns from."""
    classes, member = torch.zeros(count, dtype=torch.long), torch.arange(count) < count // 2
    return np.stack([learnt(classes, member, models, number).numpy() for number in range(models)])


def test_robust_membership_is_its_definition():
    rng = np.random.default_rng(0)
    inside = halves(40, 8)
    shadows, ours = np.where(inside, 2.0, 0.5) + rng.normal(size=inside.shape), rng.normal(1, 1, 40)
    found = robust(ours, shadows, inside)
    p, ratios = (lambda odds: 1 / (1 + np.exp(-odds))), []
    for image in range(40):
        sides = [p(shadows[side[:, image], image]).mean() for side in (inside, ~inside)]
        ratios.append(p(ours[image]) / np.mean(sides))
    for image in (0, 17, 31):
        wins = [ratios[image] / ratios[other] >= 2 for other in range(40) if other != image]
        assert found[image] == pytest.approx(np.mean(wins), abs=1.1e-4)
    with pytest.raises(GmiError, match="must be in some shadow models and not in others"):
        robust(ours, shadows, np.ones_like(inside))


def test_robust_membership_of_who_is_none_is_guessing():
    """Where the target is sure of nearly all alike, most shares are equal: that must not tell members from others."""
    rng, areas = np.random.default_rng(0), []
    member = np.tile([True] * 5 + [False] * 5, 20)
    for _ in range(30):
        inside = halves(200, 8)
        shadows, ours = (np.where(rng.random((*size, 200)) < 0.1, -2.0, 9.0) for size in ((8,), ()))
        found = robust(ours, shadows, inside)
        areas.append(
            (found[member][:, None] > found[~member]).mean() + (found[member][:, None] == found[~member]).mean() / 2
        )
    assert abs(np.mean(areas) - 0.5) < 4 * np.std(areas) / 30**0.5 + 0.005


def test_the_likelihood_ratio_is_that_of_two_normals():
    rng = np.random.default_rng(0)
    inside = halves(40, 8)
    shadows = np.where(inside, 3.0, 1.0) + rng.normal(size=inside.shape) + rng.normal(size=40)
    ours = rng.normal(size=40)
    found = likelihood_ratio(ours, shadows, inside)
    for one in (0, 17):
        means = [shadows[side[:, one], one].mean() for side in (inside, ~inside)]
        spreads = []
        for side in (inside, ~inside):
            apart = [
                value - shadows[side[:, image], image].mean()
                for image in range(40)
                for value in shadows[side[:, image], image]
            ]
            spreads.append(np.sqrt(np.square(apart).sum() / (len(apart) - 40)))
        wanted = norm.logpdf(ours[one], means[0], spreads[0]) - norm.logpdf(ours[one], means[1], spreads[1])
        assert found[one] == pytest.approx(wanted)
    with pytest.raises(GmiError, match="must be in some shadow models and not in others"):
        likelihood_ratio(ours, shadows, np.ones_like(inside))


def test_calibration_takes_away_how_easy_a_photograph_is():
    rng = np.random.default_rng(0)
    member, easy = np.arange(200) < 100, rng.normal(scale=5, size=200)
    inside = halves(200, 4)
    shadows, ours = easy + 2.0 * inside, easy + 2.0 * member
    np.testing.assert_allclose(calibrated(ours, shadows, inside), 2.0 * member, atol=1e-12)
    with pytest.raises(GmiError, match="must be in some shadow models and not in others"):
        calibrated(ours, shadows, np.ones_like(inside))


@pytest.mark.parametrize("memory", [True, False], ids=["remembers", "does not"])
def test_members_are_told_where_the_target_remembers_them_and_not_else(tmp_path, memory):
    people = toy.people(40, 0)
    count = len(people.training)
    member = torch.cat([people.training.bytes, people.enrolment.bytes])

    def opinion(images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Sure of the photographs that it remembers, and of others of the same people a little less so."""
        apart = (images[:, None] - member[None].float() / 255).square().flatten(2).sum(2)
        place = apart.argmin(1)
        classes = torch.cat([people.training.classes, people.enrolment.classes])[place]
        boost = 1.0 + 2.0 * (place < count) * memory
        noise = torch.cos(1e4 * images.flatten(1).sum(1))
        return torch.nn.functional.one_hot(classes, 40) * (boost + noise)[:, None]

    (row,) = infer(Membership(shadows=0, alarms=(0.1,)), None, None, people, opinion, Run.open(tmp_path / "r", {}), CPU)
    assert row.method == "threshold" and row.auc.people == 40
    if memory:
        assert row.auc.low > 0.7 and row.hits["0.1"].low > 0.3
    else:
        assert row.auc.low < 0.5 < row.auc.high


def test_shadow_models_are_trained_as_the_target_was(tmp_path):
    """Photographs that have nothing in common must be remembered, and are found."""
    draws = torch.Generator().manual_seed(0)
    people = toy.people(6, 0)

    def scrambled(some: Images) -> Images:
        return replace(some, bytes=torch.randint(0, 256, some.bytes.shape, generator=draws, dtype=torch.uint8))

    people = replace(people, training=scrambled(people.training), enrolment=scrambled(people.enrolment))
    training = Scratch(steps=80, batch=16, lr=0.01, seed=3, views=Views(scale=(1.0, 1.0), shift=0.0, flip=False))
    config = ModuleTarget(factory="reference.networks:mlp", input=Input(size=(16, 16), colour="grey"))
    with torch.random.fork_rng():
        torch.manual_seed(9)
        module = config.build()
        lesson = UNDEFENDED.loss(module, people.training.classes)
        training(module, config.input, people.training.bytes, lesson)
    target, run = Target(module, config.input, people.names), Run.open(tmp_path / "r", {})
    settings = Membership(shadows=4, alarms=(0.2,))
    rows = infer(settings, config, training, people, lambda images, _: target(images), run, CPU)
    assert [row.method for row in rows] == ["threshold", "calibrated", "LiRA", "RMIA"]
    assert all(row.auc.value > 0.9 and row.auc.low > 0.5 for row in rows)  # of six people
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("*.safetensors")}
    assert (
        len(before) == 5
        and infer(settings, config, training, people, lambda images, _: target(images), run, CPU) == rows
    )
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_shadow_models_need_a_training():
    people = toy.people(3, 0)
    with pytest.raises(GmiError, match=r"add one, or set membership\.shadows: 0"):
        Membership().refuse(toy.plan().target, None, people)
    with pytest.raises(GmiError, match="two or more are needed"):
        Membership(shadows=1).refuse(toy.plan().target, Scratch(), people)
    Membership(shadows=0).refuse(None, None, people)
    classes = torch.zeros(45, dtype=torch.long)
    uneven = replace(people, names=("a",), training=replace(people.training, classes=classes[:40]))
    uneven = replace(uneven, enrolment=replace(people.enrolment, classes=classes[:5]))
    with pytest.raises(GmiError, match=r"with 8 there are photographs from which all of them would learn.*take 9"):
        Membership(shadows=8).refuse(toy.plan().target, Scratch(), uneven)
    Membership(shadows=9).refuse(toy.plan().target, Scratch(), uneven)
    inside = torch.stack([learnt(classes, torch.arange(45) < 40, 9, number) for number in range(9)])
    assert inside.any(0).all() and not inside.all(0).any()


def test_the_threshold_alone_acquits_nobody():
    close = Estimate(0.5, 0.47, 0.53, 400, 400)
    rows = [Detection(name, close, {"0.1": Estimate(0.1, 0.08, 0.12, 400, 400)}) for name in ("threshold", "LiRA")]
    assert concluded(rows, 0.1).finding == "no evidence"
    said = concluded(rows[:1], 0.1)
    assert said.finding == "inconclusive" and "membership.shadows" in said.because[-1]
    leak = replace(rows[0], auc=Estimate(0.7, 0.65, 0.75, 400, 400))
    assert concluded([leak], 0.1).finding == "evidence of leakage"
    same = concluded(rows, 0.1, lambda: 0.5)
    assert same.finding == "inconclusive" and "50% of the enrolment photographs are training photographs" in str(same)
    assert concluded([leak], 0.1, lambda: 0.5).finding == "evidence of leakage"


def encoded(image: Image.Image) -> Image.Image:
    ImageOps.mirror(ImageOps.autocontrast(image)).save(file := BytesIO(), "jpeg", quality=10)
    return Image.open(file)


def cut(image: Image.Image) -> Image.Image:
    return ImageEnhance.Contrast(ImageOps.crop(image, 4).resize(image.size)).enhance(1.2)


@pytest.mark.parametrize(("change", "least"), [(encoded, 0.95), (cut, 0.5)])
def test_training_photographs_in_another_form_are_told_from_others(change, least):
    people = Faces(name="ORL", folder="asset:orl/images", enrolment=5).load()
    training, others = (
        part[(part.classes < 4).nonzero()[:, 0].tolist()] for part in (people.training, people.enrolment)
    )
    people = replace(people, names=people.names[:4], attacked=(0, 1), training=training, enrolment=others)
    assert share_of_twins(people) <= 0.03
    made = [torch.from_numpy(np.array(change(Image.fromarray(each[0].numpy()))))[None] for each in training.bytes]
    again = Images.of(torch.stack(made), training.classes)
    assert share_of_twins(replace(people, enrolment=again)) >= least
    moved = replace(again, classes=(again.classes + 1) % 4)  # of another person it is no twin
    assert share_of_twins(replace(people, enrolment=moved)) == 0
