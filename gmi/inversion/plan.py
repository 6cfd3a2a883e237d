"""The configuration of an audit, as one tree of frozen objects."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from gmi.data.people import Faces
from gmi.evidence.handling import AnyHandling, Handling
from gmi.inversion.controls import Controls
from gmi.inversion.membership import Membership
from gmi.judges import AnyFaceJudge, refuse_faces
from gmi.judges.aligned import MobileFaceNet
from gmi.judges.classifier import Probe
from gmi.judges.face import Dlib
from gmi.judges.perceptual import Lpips
from gmi.oracles.access import Access, WholeModel, claims
from gmi.priors import AnyPrior
from gmi.protocols import Prior
from gmi.search import AnySearch
from gmi.search.attack import Attack, refuse_few
from gmi.search.gradient import Gradient
from gmi.search.selection import Selection
from gmi.search.signature import shared_queries
from gmi.settings import OPERATIONAL, Count, Positive, Rate, Whole, settings
from gmi.targets import AnyTarget
from gmi.targets.authorisation import Authorisation
from gmi.targets.module import ModuleTarget
from gmi.targets.templates import TemplateTarget
from gmi.tracking import Tracker
from gmi.training.targets import Head, Scratch

RANDOM = "random"
"""The step of the control that asks nothing."""


@settings
class ReportConfig:
    """Settings of the report."""

    # show reconstructions beside enrolment photographs, which are personal data; false: the folder keeps none of either
    images: bool = True


@settings
class Audit:
    """One target, one level of access, one prior, one search, and how they are judged."""

    name: str  # the run's: its folder is runs/NAME unless --out says otherwise
    data: Faces  # the people and their photographs
    target: AnyTarget  # a module with its weights, a model behind an API, an ONNX file, or a system with templates
    # who allowed the audit, and until when; no audit of a model behind an API starts without
    authorisation: Annotated[Authorisation | None, OPERATIONAL] = None
    evidence: AnyHandling = Handling()  # what happens to what shows people: kept, sealed, or "none"
    track: Annotated[tuple[Tracker, ...], OPERATIONAL] = ()  # trackers of experiments that get the figures
    # how `gmi train-target` makes `target.weights`; None: it does not, as with a target of your own
    training: Annotated[Head | Scratch | None, Field(discriminator="type")] = None
    prior: AnyPrior  # generator of the images among which the attack searches
    access: Access = WholeModel()  # what the adversary gets of the target
    search: AnySearch = Gradient()  # how images are sought that the target takes for a person
    selection: Selection = Selection()  # how many samples and candidates are taken, before and after the search
    controls: Controls = Controls()  # what the attack is compared with
    # face recognisers; the verdict rests on the first
    judges: tuple[AnyFaceJudge, ...] = (Dlib(), MobileFaceNet())
    perceptual: Lpips | None = Lpips()  # perceptual distance to the photographs; None: it is not measured
    classifier: Probe | None = Probe()  # evaluation classifier, trained on the private images; None: there is none
    membership: Membership | None = None  # test, beside the verdict, of which photographs were trained on; None: none
    fmrs: tuple[Rate, ...] = (1e-2, 1e-3)  # false match rates at which matches are counted
    # candidates at once in one process; the findings do not depend on it beyond rounding; lower it where there are more
    # processes than attacked people times candidates over batch: each takes whole batches
    batch: Count = 20
    # GB that searches may take in one process, of its GPU or, on Linux, of the machine: fewer candidates at once where
    # so many do not fit, down to one person; None: all that there is
    memory: Annotated[Positive | None, OPERATIONAL] = None
    # each decides everything that is random in the attack and its controls; several are several attacks on the same
    # target, so that intervals know of the luck of a search
    seeds: tuple[Whole, ...] = (0,)
    # smallest advantage that matters, as AUC over images that know nothing of the target: "no evidence" excludes it
    notable: Rate = 0.1
    # stop before anything is attacked where the target does not know its people, and say why; false: go on all the same
    preflight: Annotated[bool, OPERATIONAL] = True
    report: ReportConfig = ReportConfig()  # settings of the report

    def __post_init__(self) -> None:
        if self.training is not None and isinstance(self.target, ModuleTarget) and self.target.outputs is not None:
            raise ValueError("training: outputs are trained in the people's order: leave target.outputs out")
        if not self.judges or not self.fmrs or not self.seeds:
            raise ValueError("judges, fmrs and seeds need one or more each")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: the same seed twice is the same attack")
        refuse_faces(self.judges, self.data.subject)
        refuse_few(self.search, self.selection)
        if isinstance(self.target, TemplateTarget) and self.data.subject != "faces":
            raise ValueError("target: templates are of faces, and data.subject is not")
        names = [_named(judge) for judge in self.judges]
        if sum(isinstance(judge, Dlib) for judge in self.judges) > 1:
            raise ValueError("judges: dlib is named twice: take it once")
        if len({*names}) < len(names):
            twice = max(names, key=names.count)
            raise ValueError(f"judges: two are named {twice}: give one of type facenet another name")
        audited = _named(self.target.recogniser) if isinstance(self.target, TemplateTarget) else None
        if audited in names:
            raise ValueError(f"judges: one is named {audited}, as the recogniser that is audited: name them apart")
        if self.target.networked and self.authorisation is None:
            raise ValueError(
                "authorisation: a model behind an API is audited only with a block that names the system, who "
                "allowed it (allowed_by) and until when (until)"
            )
        if self.training is not None and not isinstance(self.target, ModuleTarget):
            raise ValueError("training: only a target of type module can be trained")

    @property
    def attack(self) -> Attack:
        """The part of the plan that an attacker carries out, with the first seed."""
        return Attack(self.search, self.selection, self.batch, self.seeds[0], self.memory)

    @property
    def attacks(self) -> list[Attack]:
        """The same with each seed."""
        return [replace(self.attack, seed=seed) for seed in self.seeds]

    def pools(self, attacked: int, enrolled: int, prior: Prior) -> tuple[range, range]:
        """Numbers of the samples that the attack selects from, and of the further ones that best of N selects from.

        They cost as many queries, for two images each, as the attack's searches and what these learn from: without
        optimising, the same budget buys this. enrolled: people whom the target knows.
        """
        fitting: Any = prior  # `refuse_misfit` has seen to it
        pool, starts = self.selection.pool, attacked * self.selection.candidates
        searched = starts * self.search.queries(fitting) // claims(self.access, enrolled) + shared_queries(self.search)
        return range(pool), range(pool, pool + searched // 2)


def _named(recogniser: AnyFaceJudge) -> str:
    """The name under which a recogniser stands in a report."""
    return recogniser.type if isinstance(recogniser, Dlib) else recogniser.name
