"""One table of searches: planted people are recovered, and a result does not depend on its batch."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from gmi.audits import Hardware
from gmi.defences.erasing import Erasing
from gmi.errors import GmiError
from gmi.oracles.local import Naming, WhiteBox
from gmi.protocols import Candidates, WhiteBoxOracle
from gmi.rng import Rng, seed_of
from gmi.search.averaging import averaged
from gmi.search.boundary import Boundary
from gmi.search.evolution import Evolution
from gmi.search.genetic import Genetic
from gmi.search.gradient import Gradient
from gmi.search.layered import Layered
from gmi.search.objectives import max_margin, poincare
from gmi.search.selection import Selection, robust_scores
from gmi.search.signature import ConfinedSearch, refuse_misfit, shared_queries
from gmi.search.strangers import Strangers
from gmi.search.surrogate import Surrogate
from gmi.search.tuned import Tuned
from gmi.search.variational import Variational
from gmi.targets.module import Input, ModuleTarget
from gmi.training.targets import Scratch
from gmi.views import Views

VIEWS = Views(scale=(0.95, 1.0), shift=0.02, flip=False)
STUDENT = ModuleTarget(factory="reference.networks:mlp", input=Input(size=(16, 16), colour="grey", mean=(0.5,)))
LESSONS = Scratch(steps=200, batch=64, lr=0.01, views=Views(scale=(1.0, 1.0), shift=0.0, flip=False))
SEARCHES = {
    "shipped": Gradient(steps=60, lr=0.1, views=VIEWS),
    "averaged": Gradient(steps=60, lr=0.1, views=VIEWS, transforms=3, decay="cosine", objective="max_margin"),
    "gmi": Gradient(
        steps=60, lr=0.02, optimiser="momentum", objective="cross_entropy", constraint="box", radius=2.5, views=None
    ),
    "ppa": Gradient(
        steps=60, lr=0.05, betas=(0.1, 0.1), objective="poincare", constraint="ball", radius=3, views=VIEWS
    ),
    "lomma": Gradient(steps=60, lr=0.1, feature_weight=0.02, views=VIEWS),
    "evolution": Evolution(generations=20, population=12, radius=8**0.5, views=VIEWS),
    "evolution with covariances": Evolution(generations=20, population=12, diagonal=False, views=VIEWS),
    "genetic": Genetic(generations=20, population=16, radius=8**0.5, views=VIEWS),
    "boundary": Boundary(iterations=40, points=16, radius=0.18, box=None),
    "surrogate": Surrogate(
        questions=600, students=(STUDENT,), training=LESSONS, search=Gradient(steps=60, lr=0.1, views=VIEWS)
    ),
    "surrogate, polished": Surrogate(
        questions=300,
        students=(STUDENT,),
        training=LESSONS,
        learn="probabilities",
        search=Gradient(steps=30, lr=0.1, views=VIEWS),
        polish=Evolution(generations=10, population=10, sigma=0.3, radius=8**0.5, views=VIEWS),
    ),
    "variational": Variational(steps=60, lr=0.05, draws=2, views=VIEWS),
    "layered": Layered(search=Gradient(steps=40, lr=0.1, views=VIEWS), layers=2, steps=10),
    "tuned": Tuned(search=Gradient(steps=30, lr=0.1, views=VIEWS), finds=2, steps=20),
}
SHORT = {
    Gradient: {"steps": 8},
    Evolution: {"generations": 4},
    Genetic: {"generations": 4},
    Boundary: {"iterations": 4},
    Surrogate: {"questions": 50, "training": dataclasses.replace(LESSONS, steps=20)},
    Variational: {"steps": 4},
    Layered: {"steps": 3, "search": Gradient(steps=4, views=VIEWS)},
    Tuned: {"steps": 3, "search": Gradient(steps=4, views=VIEWS)},
}
CLASSES = torch.arange(6)


def test_a_student_is_nobodys_defended_model():
    with pytest.raises(ValueError, match="leave its defence out"):
        Surrogate(students=(dataclasses.replace(STUDENT, defence=Erasing()),), training=LESSONS)


def run(world, search: Any, keep: slice = slice(None), oracle: WhiteBox | None = None) -> Candidates:
    seeds = [seed_of(0, "test", number) for number in range(6)]
    if shared := shared_queries(search):
        search = search.taught(search.prepare(world.oracle(), world.prior, Rng(range(shared))))
    rng = Rng(seeds[keep])
    latents = Rng([seed + 1 for seed in seeds[keep]]).normal(8)
    if isinstance(search, Boundary):  # it starts inside the class, as the pool's choice would have it
        pool = Rng(range(300)).normal(8)
        named = world.target(world.prior.decode(pool)).argmax(1)
        latents = torch.stack([pool[named == one][0] for one in CLASSES[keep]])
    return search(oracle or world.oracle(), world.prior, latents, CLASSES[keep], rng)


@pytest.mark.parametrize("name", SEARCHES)
def test_planted_people_are_recovered(world, name):
    """Nearer in image space to the planted person than to any other, for at least 5 of 6 (chance: 1 of 6)."""
    found = run(world, SEARCHES[name])
    people = world.prior.decode(world.truth)
    alike = F.cosine_similarity((found.images - 0.5).flatten(1)[:, None], (people - 0.5).flatten(1)[None], dim=2)
    assert (alike.argmax(1) == CLASSES).sum() >= 5


def test_unsearched_samples_do_not_resemble_the_planted_people(world):
    """The negative of the test above: without steps nothing is recovered beyond chance."""
    found = run(world, Gradient(steps=0))
    people = world.prior.decode(world.truth)
    alike = F.cosine_similarity((found.images - 0.5).flatten(1)[:, None], (people - 0.5).flatten(1)[None], dim=2)
    assert (alike.argmax(1) == CLASSES).sum() <= 3


def short(name: str) -> Any:
    """The search with few steps."""
    search = SEARCHES[name]
    assert type(search) in SHORT, f"add a row to SHORT for {type(search).__name__}, with a setting that has few steps"
    return dataclasses.replace(search, **SHORT[type(search)])


@pytest.mark.parametrize("name", SEARCHES)
def test_what_is_asked_and_evaluated_is_what_was_said(world, name, monkeypatch):
    """`queries` are the images that the oracle gets, and `passes` those that the prior, or its last layers, make."""
    search, oracle, decoded = short(name), world.oracle(), []
    decode, stages = type(world.prior).decode, type(world.prior).stages
    if shared := shared_queries(search):
        search = search.taught(search.prepare(world.oracle(), world.prior, Rng(range(shared))))
    latents = Rng(range(6)).normal(8)
    monkeypatch.setattr(
        type(world.prior), "decode", lambda self, z, classes=None: decoded.append(len(z)) or decode(self, z, classes)
    )
    monkeypatch.setattr(
        type(world.prior),
        "stages",
        lambda self, least=0: [
            *(parts := stages(self, least))[:-1],
            lambda features, *others: decoded.append(len(features)) or parts[-1](features, *others),
        ],
    )
    search(oracle, world.prior, latents, CLASSES, Rng(range(6)))
    assert oracle.queries == 6 * short(name).queries(world.prior)
    assert sum(decoded) == 6 * sum(short(name).passes(world.prior))


@pytest.mark.parametrize("name", SEARCHES)
def test_six_at_once_equal_six_runs_of_one(world, name):
    search = short(name)
    together = run(world, search)
    for one in range(6):
        alone = run(world, search, slice(one, one + 1))
        torch.testing.assert_close(alone.latents[0], together.latents[one], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SEARCHES)
def test_half_precision_will_do(world, name):
    """Under bf16 every search runs, its latents are in single precision, and it goes the same way at first."""
    search = short(name)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(world, search)
    assert found.latents.dtype == torch.float32 and found.images.isfinite().all()
    assert found.images.dtype == torch.float32
    if isinstance(search, Gradient):
        whole = run(world, search)
        moved = (whole.latents - Rng([seed_of(0, "test", number) + 1 for number in range(6)]).normal(8)).norm()
        assert 0 < (found.latents - whole.latents).norm() < 0.2 * moved


@pytest.mark.parametrize(
    "search",
    [
        Gradient(steps=5, transforms=3),
        Evolution(generations=3, population=5),
        Genetic(generations=3, population=5, elite=1),
        Boundary(iterations=3, points=4),
    ],
)
def test_every_query_is_counted(world, search):
    oracle = world.oracle()
    run(world, search, oracle=oracle)
    assert oracle.queries == 6 * search.queries(world.prior) == 6 * 15


def test_layers_see_every_step_under_bf16(world):
    """Autocast would keep its first cast of a feature that is searched."""
    search = Layered(search=Gradient(steps=1, lr=0.1, views=VIEWS), layers=2, steps=10)
    start, whole = run(world, dataclasses.replace(search, steps=0)).images, run(world, search).images
    with Hardware(torch.device("cpu"), bf16=True).autocast():
        half = run(world, search).images
    assert (half - whole).norm() < 0.3 * (whole - start).norm()


@pytest.mark.parametrize("half", [False, True])
def test_a_student_learns_what_the_target_says(world, half):
    """Also under bf16, whose copies of the weights do not hide what was learnt."""
    search = Surrogate(questions=300, students=(STUDENT,), training=LESSONS)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        learned = search.prepare(world.oracle(), world.prior, Rng(range(300)))
    unseen = world.prior.decode(Rng(range(1000, 1200)).normal(8))
    student = search.taught(learned).student(6)
    assert (student(unseen).argmax(1) == world.target(unseen).argmax(1)).float().mean() > 0.9


def test_evolution_leaves_numpys_generator_alone(world):
    np.random.seed(3)
    wanted = np.random.random()
    np.random.seed(3)
    run(world, Evolution(generations=2, population=4))
    assert np.random.random() == wanted


def test_latents_stay_on_the_sphere(world):
    norms = run(world, Gradient(steps=5)).latents.norm(dim=1)
    torch.testing.assert_close(norms, torch.full((6,), 8**0.5))


def test_trace_sees_a_falling_loss(world):
    seen = []
    search = Gradient(steps=40, views=None)
    latents = Rng(range(6)).normal(8)
    search(world.oracle(), world.prior, latents, CLASSES, Rng(range(6)), lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == list(range(40))
    assert (seen[-1][1] < seen[0][1]).all()


def test_momentum_is_the_papers_update(world):
    """GMI's released update, written out: v' = v; v = .9 v - lr g; z = z - .9 v' + 1.9 v."""
    z = Rng(range(6)).normal(8).clamp(-1, 1)
    v = torch.zeros_like(z)
    for _ in range(4):
        point = z.clone().requires_grad_()
        loss = F.cross_entropy(world.target(world.prior.decode(point)), CLASSES, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, point)
        before, v = v, 0.9 * v - 0.02 * gradient
        z = (z - 0.9 * before + 1.9 * v).clamp(-1, 1)
    search = Gradient(
        steps=4, lr=0.02, optimiser="momentum", objective="cross_entropy", views=None, constraint="box", radius=1
    )
    found = search(world.oracle(), world.prior, Rng(range(6)).normal(8), CLASSES, Rng(range(6)))
    torch.testing.assert_close(found.latents, z, rtol=1e-4, atol=1e-5)


def test_the_oracle_grants_white_box_access(world):
    assert isinstance(world.oracle(), WhiteBoxOracle)


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"lr": 0}, {"objective": "guess"}, {"unknown": 1}])
def test_settings_are_validated(wrong):
    with pytest.raises(ValueError):
        Gradient(**wrong)


class Slab(Naming):
    """A target that takes an image for person 1 where its first pixel is above a level; it shows labels alone."""

    people = 2

    def __init__(self, level: float) -> None:
        self.level, self.queries = level, 0

    def labels(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        self.queries += len(images)
        return (images.flatten(1)[:, 0] * 3 - 1.5 > self.level).long()


class Straight:
    """A prior whose images are its latents, from [-1.5, 1.5] to [0, 1]."""

    evaluations = 1

    def decode(self, latents: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        return ((latents + 1.5) / 3).reshape(len(latents), 1, 2, 4)


def test_in_a_thin_class_the_walk_is_what_is_found() -> None:
    """No sphere ever lies in the class, and yet the walk leads away from its boundary."""
    starts = torch.zeros(4, 8)
    starts[:, 0] = 1.3
    target = Slab(1.2)
    found = Boundary(iterations=60)(target, Straight(), starts, torch.ones(4, dtype=torch.long), Rng(range(4)))
    assert (found.latents[:, 0] > 1.4).all() and target.labels(found.images).bool().all()


def test_a_start_outside_its_class_stays_where_no_step_leads_in() -> None:
    starts = torch.zeros(4, 8)
    found = Boundary(iterations=5)(Slab(1.45), Straight(), starts, torch.ones(4, dtype=torch.long), Rng(range(4)))
    assert found.latents.equal(starts)


@pytest.mark.parametrize(("points", "grows"), [(14, False), (15, True)])
def test_a_sphere_grows_when_more_than_seven_eighths_of_it_are_in_the_class(points: int, grows: bool) -> None:
    class Counted(Slab):
        def labels(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
            self.queries += len(images)
            inside = torch.arange(16) < points
            return inside.long() if len(images) == 16 else torch.zeros(len(images), dtype=torch.long)

    radii = []

    class Seen(Straight):
        def decode(self, latents: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
            radii.append(latents.norm(dim=1).max().item())
            return super().decode(latents, classes)

    Boundary(iterations=2, points=16, growth=2.0)(
        Counted(0.0), Seen(), torch.zeros(1, 8), torch.ones(1, dtype=torch.long), Rng([0])
    )
    first, second = radii[0], radii[17]  # 16 points and one accepted step
    assert first == pytest.approx(0.2 * 8**0.5) and second / first == pytest.approx(2.0 if grows else 1.0)


def test_starts_are_chosen_where_the_search_can_go() -> None:
    assert isinstance(Boundary(), ConfinedSearch) and not isinstance(Gradient(), ConfinedSearch)
    latents = torch.tensor([[2.0, -3.0, 0.5]])
    assert Boundary().confine(latents).tolist() == [[1.5, -1.5, 0.5]]


def test_an_ensemble_is_the_mean_of_students_that_differ(world) -> None:
    lessons = dataclasses.replace(LESSONS, steps=5)
    search = Surrogate(questions=40, students=(STUDENT, STUDENT), training=lessons)
    learned = search.prepare(world.oracle(), world.prior, Rng(range(40)))
    student = search.taught(learned).student(6)
    images = world.prior.decode(world.truth)
    one, other = (network(STUDENT.input(images)) for _, network in student.module.members)
    assert (one - other).abs().max() > 0.01
    torch.testing.assert_close(student(images), (one + other) / 2)


def test_later_rounds_ask_about_what_was_found_so_far(world) -> None:
    """Each class in turn; they cost what the same number of samples would, and are nearer to the people."""
    asked: list[torch.Tensor] = []

    class Asked(WhiteBox):
        def scores(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
            asked.append(images)
            return super().scores(images, classes)

    search = Surrogate(questions=125, rounds=2, students=(STUDENT,), training=LESSONS, search=Gradient(steps=30))
    oracle = Asked(world.target)
    learned = search.prepare(oracle, world.prior, Rng(range(125)))
    assert oracle.queries == search.shared == 125
    samples, finds = torch.cat(asked)[:62], torch.cat(asked)[62:]
    classes = torch.arange(62, 125) % 6
    at_random = world.target(samples).softmax(1).max(1).values.mean()
    assert world.target(finds).argmax(1).eq(classes).double().mean() > 0.6  # 1 / 6 by chance
    assert world.target(finds).softmax(1).gather(1, classes[:, None]).mean() > at_random
    one = dataclasses.replace(search, questions=62, rounds=1).prepare(world.oracle(), world.prior, Rng(range(62)))
    near = world.prior.decode(world.truth + 0.3 * Rng(range(6)).normal(8))
    wanted = world.target(near)

    def error(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        apart = search.taught(weights).student(6)(near) - wanted
        return (apart - apart.mean(1, keepdim=True)).square().mean()

    assert error(learned) < error(one)


def test_finds_are_asked_about_as_the_students_see_them(world, tmp_path) -> None:
    """In the photographs' size; and no class is left out, however few questions a round has."""
    for number, image in enumerate(world.prior.decode(Rng(range(8)).normal(8))):
        Image.fromarray((image[0] * 255).byte().numpy()).resize((24, 24)).save(tmp_path / f"{number}.png")
    asked: list[torch.Tensor] = []

    class Asked(WhiteBox):
        def scores(self, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
            asked.append(images)
            return super().scores(images, classes)

    sought: list[torch.Tensor] = []

    class Seeking(Gradient):
        def __call__(self, oracle, prior, latents, classes, rng, trace=None):
            sought.append(classes)
            return super().__call__(oracle, prior, latents, classes, rng, trace)

    lessons = dataclasses.replace(LESSONS, steps=5)
    search = Surrogate(
        questions=11,
        rounds=4,
        photographs=Strangers(folder=str(tmp_path)),
        students=(STUDENT,),
        training=lessons,
        search=Seeking(steps=1),
    )
    search.prepare(Asked(world.target), world.prior, Rng(range(11)))
    assert [len(images) for images in asked] == [2, 3, 3, 3]
    assert {tuple(images.shape[2:]) for images in asked} == {(24, 24)}
    assert torch.cat(sought).tolist() == [2, 3, 4, 5, 0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="rounds must not exceed questions"):
        dataclasses.replace(search, questions=3)


@pytest.mark.parametrize("kind", [Gradient, Evolution, Genetic])
def test_a_constraint_means_the_same_to_every_search(world, kind: Any) -> None:
    latents = 3 * Rng(range(6)).normal(8)

    def lengths(**settings: Any) -> torch.Tensor:
        few = SHORT[kind] | {"views": None} | settings
        return kind(**few)(world.oracle(), world.prior, latents, CLASSES, Rng(range(6))).latents

    torch.testing.assert_close(lengths().norm(dim=1), torch.full((6,), 8**0.5))
    torch.testing.assert_close(lengths(radius=2.0).norm(dim=1), torch.full((6,), 2.0))
    assert (lengths(constraint="ball", radius=9.0).norm(dim=1) <= 9.001).all()
    assert lengths(constraint="box", radius=0.5).abs().max() <= 0.5
    assert lengths(constraint="none").norm(dim=1).max() > 4


def test_the_first_population_holds_the_start(world) -> None:
    """A start at its person, among individuals far away: what is found is no worse."""
    search = Genetic(generations=6, population=6, elite=2, sigma=30.0, mutation=1.0, views=None, constraint="none")
    found = search(world.oracle(), world.prior, world.truth, CLASSES, Rng(range(6)))
    before, after = (
        max_margin(world.target(world.prior.decode(latents)), CLASSES) for latents in (world.truth, found.latents)
    )
    assert (after <= before + 1e-5).all()


def test_views_one_after_the_other_have_the_gradient_of_their_mean(world) -> None:
    images = world.prior.decode(world.truth).requires_grad_()
    views = Views(scale=(0.7, 1.0), shift=0.2)

    def loss(rng: Rng):
        return lambda shown: max_margin(world.target(views(shown, rng)), CLASSES)

    value, slope = averaged(images, loss(Rng(range(6))), 5)
    one, wanted = loss(Rng(range(6))), 0.0
    for _ in range(5):
        wanted = wanted + one(images) / 5
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(slope, torch.autograd.grad(wanted.sum(), images)[0], rtol=1e-4, atol=1e-6)


def test_poincare_of_two_people_says_what_to_take() -> None:
    logits = torch.tensor([[3.0, -1.0], [0.2, 0.1]])
    with pytest.raises(GmiError, match="constant for two people: take max_margin"):
        poincare(logits, torch.tensor([0, 0]))


@pytest.mark.parametrize(("keep", "asked"), [(3, 0), (2, 3 * 8)])
def test_who_keeps_all_candidates_asks_nothing_to_choose(world, keep: int, asked: int) -> None:
    selection, search = Selection(pool=10, candidates=3, views=8, keep=keep), Gradient(steps=5)
    assert selection.asked(search, world.prior) == (20, 3 * 5 + asked)
    scores = robust_scores(
        world.oracle(), world.prior.decode(world.truth), CLASSES, Rng(range(6)), selection.final_views
    )
    assert scores.equal(torch.zeros(6)) == (keep == 3)


def test_a_student_of_another_number_of_classes_is_refused_before_anything_is_asked(world):
    odd = dataclasses.replace(STUDENT, arguments={"people": 5})
    with pytest.raises(GmiError, match=r"A student gives outputs of shape \(1, 5\) and the target has 6 classes"):
        refuse_misfit(Surrogate(students=(odd,), training=LESSONS), world.oracle(), world.prior)
    refuse_misfit(Surrogate(students=(STUDENT,), training=LESSONS), oracle := world.oracle(), world.prior)
    assert oracle.queries == 0
