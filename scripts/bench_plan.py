"""The plan of a bench: targets, priors and methods, and what each point of it releases and costs."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from gmi.data.people import Faces
from gmi.inversion.controls import Unmoved
from gmi.inversion.judging import Releases
from gmi.inversion.meter import Spent
from gmi.inversion.plan import RANDOM
from gmi.judges import AnyFaceJudge
from gmi.judges.perceptual import Lpips
from gmi.oracles.access import Access, ScoresOnly, WholeModel
from gmi.priors import AnyPrior
from gmi.search import AnySearch
from gmi.search.selection import Selection
from gmi.settings import Count, Positive, Rate, Whole, settings
from gmi.targets.module import ModuleTarget
from gmi.training.targets import Head, Scratch

CONTROL = "best of N"
ORACLE = "oracle"
PIXELS = "pixels"  # in place of a prior's name, of attacks without one


@settings
class System:
    """A target, and how it is trained."""

    target: ModuleTarget
    training: Annotated[Head | Scratch, Field(discriminator="type")]


@settings
class Rival:
    """A search of another method, alike but for what is compared."""

    method: str  # its name
    search: Whole = 0  # its number among the method's


@settings
class Method:
    """A way to attack: an access, a selection, and searches of growing cost."""

    access: Access = WholeModel()
    searches: Annotated[tuple[AnySearch, ...], Field(min_length=1)]
    selection: Selection = Selection(candidates=1)
    priors: tuple[str, ...]  # names of the priors that it is tried with
    targets: tuple[str, ...] | None = None  # names of the targets that it is for; None: all
    against: Rival | None = None  # what it is compared with; None: the bench's baseline


@settings
class Images:
    """Images that another tool has reconstructed, as `scripts/miface.py` writes them."""

    type: Literal["images"] = "images"
    file: str  # safetensors: images (A, C, H, W) as bytes, classes (A,), passes (A,) and seconds (A,)
    target: str  # name of the target that was attacked


@settings
class Bench:
    """Targets, priors and methods, which meet wherever a method names them."""

    name: str  # the run folder is runs/NAME
    data: Faces
    targets: Annotated[dict[str, System], Field(min_length=1)]
    priors: Annotated[dict[str, AnyPrior], Field(min_length=1)]
    methods: Annotated[dict[str, Method], Field(min_length=1)]
    outside: dict[str, Images] = field(default_factory=dict)  # by name, what other tools have reconstructed
    baseline: str  # method with whose costliest search the others are compared, person by person
    # prior -> white-box method that is given the enrolment photographs in place of a target
    oracles: dict[str, str] = field(default_factory=dict)
    best_of: dict[str, tuple[Count, ...]] = field(default_factory=dict)  # prior -> samples from which a control chooses
    # evaluations of the target for a person at which methods are compared
    passes: tuple[Count, ...] = (300, 1000, 3000)
    seconds: tuple[Positive, ...] = (1.0, 10.0)  # seconds for a person at which methods are compared
    judges: tuple[AnyFaceJudge, ...]
    perceptual: Lpips | None = Lpips()
    fmrs: tuple[Rate, ...] = (1e-2, 1e-3)
    batch: Count = 20  # candidates at once
    seeds: tuple[Whole, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        named = {prior for method in self.methods.values() for prior in method.priors}
        named |= {*self.oracles, *self.best_of}
        if wrong := sorted(named - {*self.priors}):
            raise ValueError(f"priors: there is none named {wrong[0]}")
        targets = {name for method in self.methods.values() for name in method.targets or ()}
        targets |= {images.target for images in self.outside.values()}
        for names in (self.targets, self.priors, {**self.methods, **self.outside}):
            if len({slug(name) for name in names}) < len(names):
                raise ValueError(f"two names are alike but for signs and case: {', '.join(names)}")
        if wrong := sorted(targets - {*self.targets}):
            raise ValueError(f"targets: there is none named {wrong[0]}")
        rivals = {method.against.method for method in self.methods.values() if method.against is not None}
        if wrong := sorted({self.baseline, *rivals, *self.oracles.values()} - {*self.methods}):
            raise ValueError(f"methods: there is none named {wrong[0]}")
        if {CONTROL, ORACLE, RANDOM} & {*self.methods, *self.outside}:
            raise ValueError(f"methods: none may be named {CONTROL}, {ORACLE} or {RANDOM}")


@dataclass(frozen=True)
class Point:
    """One search of one method, on one target with one prior; a control is one, too."""

    target: str
    prior: str
    method: str
    number: int  # among the method's searches
    access: Access
    search: Any
    selection: Selection

    @property
    def step(self) -> str:
        """The name of what it releases, among those of its target and prior."""
        return self.method if self.method in (RANDOM, ORACLE) else f"{slug(self.method)}-{self.number}"


def points(plan: Bench, target: str, prior: str) -> list[Point]:
    """The points of one target and prior: methods, then controls. None where no method names both.

    The oracle projection, which asks no target, is among those of the first target. prior: PIXELS: what comes from
    other tools.
    """
    if prior == PIXELS:
        given = [(name, images) for name, images in plan.outside.items() if images.target == target]
        return [Point(target, PIXELS, name, 0, WholeModel(), images, Selection(candidates=1)) for name, images in given]
    found = [
        Point(target, prior, name, number, method.access, search, method.selection)
        for name, method in plan.methods.items()
        if prior in method.priors and (method.targets is None or target in method.targets)
        for number, search in enumerate(method.searches)
    ]
    if not found:
        return []
    for number, size in enumerate(plan.best_of.get(prior, ())):
        few = Selection(pool=size, candidates=1)
        found.append(Point(target, prior, CONTROL, number, ScoresOnly(), Unmoved(), few))
    found.append(Point(target, prior, RANDOM, 0, ScoresOnly(), Unmoved(), Selection(candidates=1)))
    if prior in plan.oracles and target == next(iter(plan.targets)):
        method = plan.methods[plan.oracles[prior]]
        found.append(Point(target, prior, ORACLE, 0, WholeModel(), method.searches[-1], method.selection))
    return found


@dataclass(frozen=True)
class Searched:
    """What points of one target and prior released, seed after seed, and what each cost with all seeds."""

    points: list[Point]
    releases: Releases  # by the points' steps
    spent: dict[str, Spent]  # likewise; seconds are not a number where the processor is another than the baseline's


def slug(name: str) -> str:
    """The name as part of a path."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
