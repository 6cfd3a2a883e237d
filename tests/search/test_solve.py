"""Templates from an interface that compares: what is linear, what answers tell, and real ones solved for."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from gmi import toy
from gmi.assets.catalogue import resolve
from gmi.audits import Hardware
from gmi.data.images import read
from gmi.errors import GmiError
from gmi.inversion.attacker import Attacker
from gmi.judges.aligned import MobileFaceNet
from gmi.judges.face import Dlib, FaceNet
from gmi.oracles.access import EmbeddingsOnly, LabelsOnly, ScoresOnly, VerificationOnly, WholeModel
from gmi.oracles.local import Naming, WhiteBox
from gmi.oracles.shape import filled
from gmi.protocols import LabelOracle, ScoreOracle, SimilarityOracle, WhiteBoxOracle
from gmi.rng import Rng
from gmi.run import Run
from gmi.search.answers import meanings, shares_below
from gmi.search.evolution import Evolution
from gmi.search.fitness import losses
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.regression import fit, gaussian
from gmi.search.selection import Selection, preselect
from gmi.search.signature import OfflineSearch, access, refuse_misfit, shared_queries
from gmi.search.solve import _FORMS, Solve, _Cosine
from gmi.search.strangers import Strangers, questions
from gmi.targets.templates import TemplateTarget

PEOPLE = ("s01", "s02", "s03")
SEARCH = Gradient(steps=2, objective="logit")
PLAN = Solve(recogniser=FaceNet(), questions=60, search=SEARCH)


class Comparing(Naming):
    """A `SimilarityOracle` of given similarities (N, K), whatever the images."""

    queries = 0

    def __init__(self, similar: torch.Tensor) -> None:
        self.similar, self.people = similar, similar.shape[1]

    def similarities(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        return self.similar

    def scores(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        return self.similar

    def labels(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        return self.similar.argmax(1)


class Deciding:
    """A `VerificationOracle` of given similarities and a threshold."""

    queries = 0

    def __init__(self, similar: torch.Tensor, threshold: float) -> None:
        self.similar, self.people, self.threshold = similar, similar.shape[1], threshold

    def accepts(self, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return self.similar[images.flatten(1)[:, 0].long(), classes] >= self.threshold

    def everybody(self, images: torch.Tensor) -> torch.Tensor:
        return self.similar[images.flatten(1)[:, 0].long()] >= self.threshold


@pytest.mark.parametrize("kind", ["facenet", "dlib"])
def test_similarities_are_linear_in_the_state(kind: str) -> None:
    draws = torch.Generator().manual_seed(0)
    asked, enrolled = torch.randn(7, 5, generator=draws), torch.randn(3, 5, generator=draws)
    judge = {"facenet": FaceNet(), "dlib": Dlib()}[kind].load(torch.device("cpu"))
    form = _FORMS.get(kind, _Cosine)
    state = form.state(enrolled)
    wanted = form.linear(asked.double(), judge.similarity(asked, enrolled).double())
    torch.testing.assert_close(form.axes(asked) @ state.T, wanted, rtol=1e-4, atol=1e-5)
    scaled = F.normalize(enrolled) if kind == "facenet" else enrolled
    torch.testing.assert_close(state[:, :5].float(), scaled)
    assert (
        form.linear(torch.ones(1, 5), torch.tensor([[-torch.inf, -2.0, -1.0]])).diff().gt(0).all() or kind == "facenet"
    )


def test_what_answers_tell() -> None:
    shown = torch.tensor([[0.5, torch.nan, 0.2], [torch.nan, 0.1, 0.3]])
    found = list(meanings(Comparing(shown), [torch.zeros(2, 1, 1, 1)], torch.linspace(0, 1, 9).double()))
    low, high = found[0]
    assert low.tolist() == [[0.5, -torch.inf, pytest.approx(0.2)], [-torch.inf, pytest.approx(0.1), pytest.approx(0.3)]]
    assert high[0, 1] == pytest.approx(0.2) and high[1, 0] == pytest.approx(0.1) and high[0, 0] == 0.5
    assert len(found) == 3  # as it is, linear, rising
    for low, high in found:
        assert low.isinf().equal(shown.isnan()) and high[~shown.isnan()].equal(low[~shown.isnan()])
        assert high[0, 1] == high[0, 2] and high[1, 0] == high[1, 1]  # below what is shown of the same image
    none = torch.tensor([[0.5, torch.nan, 0.2], [torch.nan, torch.nan, torch.nan]])  # others alone are shown
    low, high = next(meanings(Comparing(none), [torch.zeros(2, 1, 1, 1)], torch.linspace(0, 1, 9).double()))
    assert low[1].isinf().all() and high[1].tolist() == [0.5] * 3  # it may be as like as any
    assert filled(none)[1:].equal(filled(none[1:])) and filled(none)[1].max() < -1000  # whatever is shown of others
    with pytest.raises(GmiError, match="shows no similarity of anybody"):
        next(meanings(Comparing(none[1:]), [torch.zeros(1, 1, 1, 1)], torch.linspace(0, 1, 9).double()))
    same = torch.full((2, 3), 0.5)
    assert len(list(meanings(Comparing(same), [torch.zeros(2, 1, 1, 1)], torch.linspace(0, 1, 9).double()))) == 1


def test_shares_below_are_ranks_where_all_is_shown_and_the_product_limit_where_not() -> None:
    numbers, none = torch.tensor([[3.0, 1.0], [2.0, 1.0]]), torch.zeros(2, 2, dtype=torch.bool)
    assert shares_below(numbers, none).tolist() == [[0.875, 0.25], [0.625, 0.25]]
    # from above: 5 of 5 remaining; 4 of 4, with one hidden below it; 2 of 2
    numbers = torch.tensor([[5.0, 4.0, 4.0, 2.0, 1.0]])
    found = shares_below(numbers, torch.tensor([[False, False, True, False, False]]))
    ends = [1, 4 / 5, 4 / 5 * 3 / 4, 4 / 5 * 3 / 4 * 1 / 2, 0]
    wanted = [(above + below) / 2 for above, below in pairwise(ends)]
    torch.testing.assert_close(found[0, [0, 1, 3, 4]], torch.tensor(wanted).double())


@pytest.mark.parametrize("top", [1, 5, 20])
def test_shares_below_of_the_best_of_each_image_are_those_of_all(top: int) -> None:
    """Whatever the distribution: uniform draws have as share below them what they are, of 20 with the best shown."""
    draws = torch.rand(2000, 20, generator=torch.Generator().manual_seed(0)).double()
    least = draws.topk(top).values[:, -1:]
    hidden = draws < least
    found = shares_below(draws.maximum(least), hidden)
    assert (found - draws)[~hidden].abs().quantile(0.99) < 0.02  # of the lowest few are left to count


def test_the_threshold_of_decisions_is_read_from_how_often_they_say_yes() -> None:
    """Strangers' similarities are uniform; a system that accepts a tenth has its threshold at their ninth tenth."""
    draws = torch.Generator().manual_seed(0)
    strangers = torch.rand(40000, generator=draws).double()
    similar = torch.rand(300, 20, generator=draws)
    images = torch.arange(300).float().reshape(300, 1, 1, 1)
    ((low, high),) = meanings(Deciding(similar, 0.9), images.split(50), strangers)
    yes = similar >= 0.9
    assert low[yes].unique().tolist() == high[~yes].unique().tolist() == [pytest.approx(0.9, abs=0.01)]
    assert low[~yes].isinf().all() and high[yes].isinf().all()


def test_a_likeness_is_not_worse_for_better_rivals() -> None:
    """Cosine .80 with a rival at .40 is nearer than .30 with one at -.30; one template alone gives a signal, too."""
    similar = torch.tensor([[0.8, 0.4], [0.3, -0.3]])
    assert preselect(similar, torch.tensor([0]), 1).tolist() == [[0]]

    class Prior:
        evaluations = 1

        def decode(self, latents: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
            return latents.reshape(-1, 1, 1, 1)

    for columns in (2, 1):
        oracle = Comparing(similar[:, :columns])
        arguments = (Prior(), torch.zeros(1, 2, 1), torch.tensor([0]), Rng([0]), None)
        found = losses(oracle, *arguments, objective=None)
        assert found.tolist() == [[pytest.approx(-0.8), pytest.approx(-0.3)]]


SHOWN = {
    "cosines": lambda c: c,
    "shares": lambda c: (1 + c) / 2,
    "per cent": lambda c: 50 + 50 * c,
    "distances": lambda c: -((2 - 2 * c) ** 0.5),
}


@pytest.mark.parametrize(("unit", "top"), [*((unit, 20) for unit in SHOWN), ("per cent", 5), ("distances", 5)])
def test_numbers_that_rise_with_the_similarity_will_do(unit: str, top: int) -> None:
    """The templates are found all the same, of everybody's numbers or of those of the best of 20 people."""
    draws = torch.Generator().manual_seed(1)
    spread = torch.linspace(2, 0.2, 24)
    templates = F.normalize(torch.randn(400, 24, generator=draws) * spread)
    known, enrolled = templates[:380], templates[380:]
    form, strangers = _Cosine, known @ known.T
    usual = strangers[~torch.eye(380, dtype=torch.bool)].double()
    numbers = SHOWN[unit]((known[:200] @ enrolled.T).double())
    seen = numbers >= numbers.topk(top).values[:, -1:]
    oracle = Comparing(torch.where(seen, numbers, torch.nan))
    fits = [
        fit(form.axes(known[:200]), low, high, *gaussian(form.state(known)), float(usual.std()))
        for low, high in meanings(oracle, [torch.zeros(1, 1, 1, 1)], usual)
    ]
    best = min(fits, key=lambda each: each.error)
    assert F.cosine_similarity(best.states.float(), enrolled).median() > 0.97 and best.foretold > 0.95


def test_questions_are_photographs_and_then_samples(world) -> None:
    folder = Strangers(folder=str(resolve("asset:orl/images") / "s04"))
    found = questions(folder, world.prior, Rng(range(14)))
    assert found.shape == (14, 1, 112, 92) and found.dtype == torch.uint8
    samples = questions(None, world.prior, Rng(range(14)))
    assert samples.shape[0] == 14 and samples.shape[2:] != (112, 92)
    again = questions(folder, world.prior, Rng(range(14)))
    assert again.equal(found) and not questions(folder, world.prior, Rng(range(20, 24)))[:10].equal(found[:10])
    assert len(questions(folder, world.prior, Rng(range(4)))) == 10  # the further ones are known, and not asked
    assert len(questions(replace(folder, most=6), world.prior, Rng(range(4)))) == 6


def test_once_it_has_learnt_it_asks_nothing(world) -> None:
    assert isinstance(PLAN, OfflineSearch) and shared_queries(PLAN) == 60 and access(PLAN) == "verification"
    assert Selection(pool=100, candidates=2, views=4, keep=1).asked(PLAN, world.prior, claims=40) == (2400, 0)
    assert Selection(pool=100, candidates=2, views=4, keep=1).asked(SEARCH, world.prior) == (200, 2 * (2 + 4))
    refuse_misfit(PLAN, VerificationOnly().open(_target(), None), world.prior)
    with pytest.raises(GmiError, match="Guided needs a Denoiser"):
        refuse_misfit(replace(PLAN, search=Guided()), None, world.prior)
    with pytest.raises(GmiError, match="take surrogate"):
        refuse_misfit(PLAN, ScoresOnly().open(world.target, None), world.prior)
    for level in (WholeModel(), EmbeddingsOnly()):
        with pytest.raises(GmiError, match="shows them: take gradient"):
            refuse_misfit(PLAN, level.open(_target(), None), world.prior)


def test_a_copy_needs_a_search_that_fits() -> None:
    with pytest.raises(ValueError, match="dlib has no gradients here, and gradient needs them"):
        Solve(recogniser=Dlib(), search=SEARCH)
    with pytest.raises(ValueError, match="through is another recogniser"):
        Solve(recogniser=FaceNet(), search=SEARCH, through=FaceNet())
    with pytest.raises(ValueError, match="through is another recogniser"):
        Solve(recogniser=Dlib(), search=Evolution(), through=FaceNet())
    assert Solve(recogniser=MobileFaceNet(), search=SEARCH).through is None  # it has gradients itself
    through = Solve(recogniser=Dlib(), search=SEARCH, through=FaceNet(), questions=60, pairs=400)
    assert (through.shared, through.samples, replace(through, pairs=50).samples) == (60, 400, 60)
    assert [student.recogniser.type for student in through.students] == ["dlib", "facenet"]  # neither can judge
    with pytest.raises(ValueError, match="feature_weight 0"):
        Solve(recogniser=FaceNet(), search=Gradient(feature_weight=0.1))
    assert Solve(recogniser=Dlib(), search=Evolution()).students[0].trained_on >= {"FaceScrub"}
    assert len(list(PLAN.students[0].weighed().parameters())) > 100


def _target():
    folder = resolve("asset:orl/images")
    photographs = read([folder / person / "01.pgm" for person in PEOPLE], [0, 1, 2], None)
    return TemplateTarget(recogniser=FaceNet(), threshold=0.4).load(PEOPLE, photographs)


@pytest.mark.slow
def test_real_templates_are_solved_for(world, tmp_path) -> None:
    """Thirty photographs of other people, asked about once, say most of each template."""
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    source = resolve("asset:orl/images")
    for person in range(11, 41):
        (strangers / f"{person}.pgm").write_bytes((source / f"s{person}" / "01.pgm").read_bytes())
    plan, target = replace(PLAN, photographs=Strangers(folder=str(strangers))), _target()
    oracle = ScoresOnly().open(target, None)
    learned = plan.prepare(oracle, world.prior, Rng(range(30)))
    assert F.cosine_similarity(learned["templates"], target.module.templates).mean() > 0.6
    assert learned["foretold"] > 0.7 and oracle.ledger.total.images == 30
    copied = plan.copy({"templates": target.module.templates}, torch.device("cpu"))
    assert isinstance(copied, SimilarityOracle) and isinstance(copied, ScoreOracle)
    photographs = read([source / person / "05.pgm" for person in PEOPLE], [0, 1, 2], None).pixels
    torch.testing.assert_close(
        copied.scores(photographs), ScoresOnly().open(target, None).scores(photographs), rtol=0, atol=0.02
    )


@pytest.mark.slow
@pytest.mark.parametrize("recogniser", [Dlib(), MobileFaceNet()], ids=lambda each: each.type)
def test_a_recogniser_without_gradients_is_followed_through_another(world, tmp_path, recogniser) -> None:
    """The map is learnt from 300 photographs of other people, and names other photographs of those who are enrolled."""
    source = resolve("asset:orl/images")
    for person in range(11, 41):
        for number in range(1, 11):
            path = tmp_path / "strangers" / f"{person}-{number}.pgm"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes((source / f"s{person}" / f"{number:02}.pgm").read_bytes())
    first = read([source / person / "01.pgm" for person in PEOPLE], [0, 1, 2], None)
    target = TemplateTarget(recogniser=recogniser, threshold=0.4).load(PEOPLE, first)
    plan = Solve(
        recogniser=recogniser,
        questions=60,
        photographs=Strangers(folder=str(tmp_path / "strangers")),
        search=SEARCH,
        through=FaceNet(),
        pairs=300,
    )
    oracle = ScoresOnly().open(target, None)
    learned = plan.prepare(oracle, world.prior, Rng(range(60)))
    assert oracle.ledger.total.images == 60
    copied = plan.copy(learned, torch.device("cpu"))
    assert isinstance(copied, SimilarityOracle) and isinstance(copied, WhiteBoxOracle)
    others = [
        (source / name / f"{number:02}.pgm", place) for place, name in enumerate(PEOPLE) for number in (3, 5, 7, 9)
    ]
    photographs = read([path for path, _ in others], [place for _, place in others], None)
    pixels = photographs.pixels.requires_grad_()
    logits = copied.logits(pixels)
    assert (logits.argmax(1) == photographs.classes).double().mean() > 0.8
    (gradient,) = torch.autograd.grad(logits.diagonal().sum(), pixels)
    assert gradient[:3].flatten(1).norm(dim=1).gt(0).all()


def test_the_target_is_asked_the_questions_and_no_more(world, tmp_path) -> None:
    """An attack that goes on with a copy: starts and finds are chosen by it, and its answers are no queries."""
    inputs = toy.inputs(6, 1.0, 0)

    class Knowing(Gradient):
        """A gradient search whose copy is the target itself."""

        @property
        def shared(self) -> int:
            return 20

        def prepare(self, oracle, prior, rng):
            return {"answers": oracle.labels(prior.decode(prior.sample(rng)))}

        def taught(self, learned):
            return self

        @property
        def search(self):
            return Gradient(steps=3)

        def refuse(self, oracle):
            assert isinstance(oracle, LabelOracle)

        def copy(self, learned, device):
            return WhiteBox(inputs.target)

    plan = toy.plan()
    attack = replace(plan.attack, search=Knowing(steps=3), selection=Selection(pool=30, candidates=2, views=3, keep=1))
    oracle = LabelsOnly().open(inputs.target, tmp_path)
    attacker = Attacker(
        attack, inputs.prior, inputs.people, Run.open(tmp_path / "run", {}), Hardware(torch.device("cpu"))
    )
    released = attacker.attack("search", oracle)
    assert len(released) == 6 and oracle.ledger.total.images == 20
    assert {step: spent.queries for step, spent in attacker.spent.items()} == {
        "prepare": 20,
        "own_pool": 0,
        "search": 0,
    }
    before = oracle.ledger.total
    assert (
        Attacker(attack, inputs.prior, inputs.people, Run.open(tmp_path / "run", {}), Hardware(torch.device("cpu")))
        .attack("search", oracle)
        .digests
        == released.digests
    )
    assert oracle.ledger.total == before
