"""Levels of access: what each grants and shows, and a ledger that counts every image once for each time it is sent."""

import errno
import fcntl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from gmi.errors import GmiError
from gmi.oracles import interface
from gmi.oracles.access import LabelsOnly, ScoresOnly, WholeModel
from gmi.oracles.interface import Embeddings, Labels, Scores
from gmi.oracles.ledger import SHARED, Account, BudgetSpent, Ledger
from gmi.oracles.shape import Shape
from gmi.protocols import LabelOracle, ScoreOracle, WhiteBoxOracle
from gmi.rng import Rng
from gmi.targets.served import Busy, Requests, Unreached, Unsent

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 3.0, 0.0]])


class Counting:
    """A service that answers each image with its mean and its first pixel, and remembers what it was sent."""

    requests = Requests(batch=4, retries=2)

    def __init__(self, failures: list[Exception] | None = None) -> None:
        self.sent: list[int] = []
        self.failures = failures or []

    def __call__(self, images):
        self.sent.append(len(images))
        if self.failures:
            raise self.failures.pop(0)
        flat = images.double().flatten(1) / 255
        return torch.stack([flat.mean(1), flat[:, 0]], 1)


@pytest.fixture
def images():
    return Rng(range(10)).uniform(1, 4, 4)


def asked(service, ledger) -> Embeddings:
    return Embeddings(service, ledger, 2, lambda found: found)


def test_each_level_grants_its_methods_and_no_more(world):
    levels = {
        WholeModel(): (True, True, True),
        ScoresOnly(): (True, True, False),
        LabelsOnly(): (True, False, False),
    }
    for access, grants in levels.items():
        oracle = access.open(world.target, None)
        assert tuple(isinstance(oracle, kind) for kind in (LabelOracle, ScoreOracle, WhiteBoxOracle)) == grants
        assert oracle.people == 6


def test_an_interface_answers_as_the_model_does_of_8_bit_images(world, tmp_path):
    images = world.prior.decode(Rng(range(9)).normal(8))
    bits = (images * 255).round() / 255
    whole = WholeModel().open(world.target, None)
    scores, labels = (kind().open(world.target, tmp_path / kind.__name__) for kind in (ScoresOnly, LabelsOnly))
    assert isinstance(scores, Scores) and isinstance(labels, Labels)
    torch.testing.assert_close(scores.scores(images), whole.scores(bits), rtol=1e-4, atol=1e-4)
    assert labels.labels(images).tolist() == scores.labels(images).tolist() == whole.labels(bits).tolist()
    assert (scores.queries, labels.queries) == (18, 9)
    assert scores.ledger.total == Account(9, 9)  # the second time from the ledger


def test_what_is_shown():
    whole = Shape()(LOGITS)
    torch.testing.assert_close(whole, LOGITS.double().softmax(1))
    torch.testing.assert_close(Shape(temperature=2)(LOGITS), (LOGITS.double() / 2).softmax(1))
    assert Shape(top=2)(LOGITS).isnan().tolist() == [[False, False, True, True], [False, True, False, True]]
    assert Shape(top=9)(LOGITS).equal(whole)
    assert Shape(decimals=2)(LOGITS)[0].tolist() == pytest.approx([0.64, 0.24, 0.09, 0.03])
    assert str(Shape()) == "" and str(Shape(top=5, decimals=2)) == " (top 5, 2 decimals)"


def test_what_an_adversary_reads():
    """All of it where all is shown; else a distribution in which nothing hidden beats what is shown."""
    torch.testing.assert_close(Shape().read(Shape()(LOGITS)), LOGITS.log_softmax(1))
    top = Shape(top=2)
    read = top.read(top(LOGITS)).exp()
    torch.testing.assert_close(read.sum(1), torch.ones(2))
    torch.testing.assert_close(read[0, :2], LOGITS.softmax(1)[0, :2])
    assert read[0, 2] == read[0, 3] <= read[0, 1]
    rough = Shape(decimals=1)
    read = rough.read(rough(torch.tensor([[9.0, 0.0, 0.0]]))).exp()
    torch.testing.assert_close(read, torch.tensor([[1.0, 0.05, 0.05]]) / 1.1)  # a rounded 0 may be up to half a unit
    only = Shape(top=1)
    assert only.read(only(LOGITS)).argmax(1).tolist() == [0, 2]


def test_images_are_sent_in_requests_and_answered_from_the_ledger_after_that(images, tmp_path):
    service = Counting()
    first = asked(service, Ledger(tmp_path / "l")).embed(images)
    torch.testing.assert_close(first, Counting()((images * 255).round().byte()).float())
    assert service.sent == [4, 4, 2]
    again = asked(service, Ledger(tmp_path / "l"))  # another process, later
    assert again.embed(images.flip(0)).equal(first.flip(0)) and again.queries == 10
    assert service.sent == [4, 4, 2] and again.ledger.total == Account(10, 10)


def test_whose_queries(images, tmp_path):
    ledger = Ledger(tmp_path / "l")
    oracle = asked(Counting(), ledger)
    ledger.at("pool/0")
    oracle.embed(images[:3])
    ledger.at("search/0")
    oracle.embed(images, torch.tensor([5] * 6 + [2] * 4))
    assert ledger.by("person") == {SHARED: Account(3, 3), 5: Account(3, 3), 2: Account(4, 4)}
    assert ledger.by("step") == {"pool/0": Account(3, 3), "search/0": Account(7, 7)}


def test_repeats_that_are_asked_anew_are_charged_but_not_when_a_killed_run_repeats_itself(images, tmp_path):
    service = Counting()
    for _ in range(2):
        ledger = Ledger(tmp_path / "l", repeats="asked")
        oracle = asked(service, ledger)
        for step in ("one", "two"):
            ledger.at(step)
            oracle.embed(images[:2])
            oracle.embed(images[:2])
        assert ledger.total == Account(8, 8)
    assert service.sent == [2] * 4


def test_a_budget_is_not_exceeded_by_one_image(images, tmp_path):
    service, ledger = Counting(), Ledger(tmp_path / "l", budget=9)
    with pytest.raises(BudgetSpent, match=r"budget of 9 images is spent \(8 were sent, 2 more"):
        asked(service, ledger).embed(images)
    assert service.sent == [4, 4] and ledger.total == Account(8, 8)
    more = Ledger(tmp_path / "l", budget=10)
    assert asked(service, more).embed(images).shape == (10, 2)
    assert service.sent == [4, 4, 2] and more.total == Account(10, 10)


def test_retries_are_charged_and_wait_as_they_are_told(images, tmp_path, monkeypatch, caplog):
    waits = []
    monkeypatch.setattr(interface.time, "sleep", waits.append)
    service, ledger = Counting([Busy("429", 7.0), Busy("503")]), Ledger(tmp_path / "l")
    asked(service, ledger).embed(images[:3])
    assert caplog.messages[0] == "The model does not answer (429): asked again in 7 seconds."
    assert waits == [7.0, 1.0] and service.sent == [3, 3, 3] and ledger.total == Account(3, 9)
    service.failures = [Busy("503")] * 3
    with pytest.raises(GmiError, match=r"did not answer in 3 tries \(503\).*what it answered is not asked again"):
        asked(service, ledger).embed(images)
    assert asked(service, ledger).embed(images).shape == (10, 2)
    assert ledger.total == Account(10, 9 + 3 * 4 + 7)


def test_what_could_not_be_sent_is_not_charged(images, tmp_path, monkeypatch):
    monkeypatch.setattr(interface.time, "sleep", lambda _: None)
    service, ledger = Counting([Unreached("refused"), Busy("503"), Unreached("refused")]), Ledger(tmp_path / "l")
    with pytest.raises(GmiError, match="did not answer in 3 tries"):
        asked(service, ledger).embed(images[:3])
    assert ledger.total == Account(3, 3)  # of the one that was sent
    service.failures = [Unsent("its certificate is not trusted")]
    with pytest.raises(GmiError, match="certificate"):
        asked(service, ledger).embed(images[3:])
    assert ledger.total == Account(3, 3)
    asked(service, ledger).embed(images)
    assert ledger.total == Account(10, 13)


def test_a_lost_ledger_does_not_begin_anew(images, tmp_path):
    asked(Counting(), Ledger(tmp_path / "ledger.sqlite")).embed(images)
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    with pytest.raises(GmiError, match="is gone, and with it the count"):
        Ledger(tmp_path / "ledger.sqlite")


def test_a_disk_that_cannot_lock_parts_of_a_file_holds_no_ledger(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(GmiError, match=r"cannot lock parts of a file \(no locks available\).*choose an --out"):
        Ledger(tmp_path / "l")


def test_a_ledger_may_be_begun_by_several_at_once(tmp_path):
    """Without a lock, one in six of these ledgers was locked for one of the four."""

    def begun(folder, start):
        start.wait()
        ledger = Ledger(folder / "ledger.sqlite")
        ledger.charge([b"a"], [SHARED])
        ledger.keep([b"a"], [b"answer"])

    for number in range(60):
        folder, start = tmp_path / str(number), threading.Barrier(4, timeout=10)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(begun, [folder] * 4, [start] * 4))
        assert Ledger(folder / "ledger.sqlite").total == Account(1, 4)


def test_several_machines_share_no_ledger(world, tmp_path, monkeypatch):
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    WholeModel().open(world.target, tmp_path)
    with pytest.raises(GmiError, match="One machine keeps the ledger of queries, and 2 share this run"):
        ScoresOnly().open(world.target, tmp_path)


@pytest.mark.parametrize("wrong", [torch.ones(2, 2), torch.ones(3), torch.full((3, 2), torch.nan)])
def test_answers_that_are_none_are_refused_and_not_kept(images, tmp_path, wrong):
    class Odd(Counting):
        def __call__(self, images):
            return wrong

    ledger = Ledger(tmp_path / "l")
    with pytest.raises(GmiError, match="it is not what the configuration says"):
        asked(Odd(), ledger).embed(images[:3])
    assert ledger.answers(ledger.keys([b"x"])) == {} and ledger.total == Account(3, 3)
    assert asked(Counting(), ledger).embed(images[:3]).shape == (3, 2)


def test_requests_at_once(images, tmp_path):
    class Slow(Counting):
        requests = Requests(batch=1, concurrency=5)
        together = threading.Barrier(5, timeout=10)

        def __call__(self, images):
            self.together.wait()
            return super().__call__(images)

    service, ledger = Slow(), Ledger(tmp_path / "l", budget=10)
    assert asked(service, ledger).embed(images).equal(asked(Counting(), Ledger(tmp_path / "m")).embed(images))
    assert service.sent == [1] * 10 and ledger.total == Account(10, 10)
