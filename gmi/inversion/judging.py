"""Judging: templates, distances and opinions of all images, as pieces of work in a run folder."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmi.data.images import Images
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion import judging
from gmi.judges.independence import refusal
from gmi.judges.trained import TrainedJudge
from gmi.metrics.distance import perceptual
from gmi.oracles.access import AnyOracle
from gmi.oracles.interface import Interface, Verification
from gmi.oracles.ledger import OWN_OPINION
from gmi.protocols import ClassifierJudge, FaceJudge, Judge, PerceptualJudge
from gmi.run import Run, Tensors
from gmi.search.selection import decision, opinion
from gmi.targets.module import ModuleTarget, Target
from gmi.targets.served import Served

_PIECE = 128  # images

Releases = dict[str, Images]
"""Images that attacks and controls release, by step."""
Opinion = Callable[[Tensor, Tensor], Tensor]
"""Logits or log-probabilities (N, K) of images (N, C, H, W), which are said to show people (N,)."""


@dataclass(frozen=True)
class Judges:
    """The judges of an audit. The verdict rests on the first face recogniser."""

    faces: tuple[FaceJudge, ...]
    perceptual: PerceptualJudge | None = None
    classifier: ClassifierJudge | None = None

    @property
    def trained(self) -> list[TrainedJudge]:
        """Those that were trained for this audit."""
        return [judge for judge in self.faces if isinstance(judge, TrainedJudge)]

    def refuse_dependent(
        self,
        target: Target | Served,
        guide: Target | None,
        private: str,
        people: People,
        students: Sequence[ModuleTarget] = (),
    ) -> None:
        """Raises GmiError where a judge shares weights or training data with the target, or with a search's student.

        Nor may the first judge, on whom the verdict rests, be the guide of the oracle projection. Under another judge
        that is the guide, the oracle is the protocol's signal oracle: the most that this judge could be shown.
        """
        names = [judge.name for judge in self.faces]
        if len(set(names)) < len(names):
            raise GmiError(f"Two judges are both named {max(names, key=names.count)}: give each its own name.")
        everyone: list[Judge] = [
            *self.faces,
            *(judge for judge in (self.perceptual, self.classifier) if judge is not None),
        ]
        weights, private_sets = list(target.weights()), frozenset({private})
        reasons = [
            refusal(judge, weights, private_sets | target.trained_on if judge in self.faces else private_sets)
            for judge in everyone
        ]
        for student in students:
            learner = list(student.weighed().parameters())
            shared = [refusal(judge, learner, frozenset(student.trained_on)) for judge in self.faces]
            reasons += [
                f"The search teaches a student, as if it were the target. {reason}" for reason in shared if reason
            ]
        if guide is not None:
            reasons.append(refusal(self.faces[0], guide.weights(), frozenset()))
        reasons += _shared(self.trained, people)
        for reason in filter(None, reasons):
            raise GmiError(reason)


def _shared(judges: Sequence[TrainedJudge], people: People) -> Iterator[str]:
    """Sentences on images that a judge learns from and that have a part of their own in the audit."""
    roles = {"training": people.training, "enrolment": people.enrolment, "strangers'": people.distractors}
    roles |= {"more strangers'": people.strangers, "public": people.public}
    for number, judge in enumerate(judges):
        others = {f"the {other.name} judge's": other.images for other in judges[:number]}
        for role, images in (roles | others).items():
            if images is not None and (same := len(judge.images.among(images))):
                yield (
                    f"The {judge.name} judge is not independent: {same} of the images that it learns from are {role} "
                    "images, too. Name a folder of others."
                )


@dataclass(frozen=True)
class Answers:
    """What a classifier makes of images (N,) whose classes are known."""

    named: Tensor  # int64 (N,): the class of the greatest logit
    rank: Tensor  # int64 (N,): of the true class among all, from 1 on; ties and NaN are against it
    choices: int  # classes among which it chooses

    @classmethod
    def of(cls, logits: Tensor, classes: Tensor) -> "Answers":
        """From logits (N, K), and the true classes (N,)."""
        exact = logits.double()
        true = exact.gather(1, classes[:, None])
        return cls(exact.argmax(1), (~(exact < true)).sum(1), exact.shape[1])

    @classmethod
    def join(cls, pieces: Sequence[Mapping[str, Tensor]]) -> "Answers":
        """From pieces that `plain` gave, one after the other."""
        named, rank = (torch.cat([piece[key] for piece in pieces]) for key in ("named", "rank"))
        return cls(named, rank, int(pieces[0]["choices"]))

    @property
    def plain(self) -> dict[str, Tensor]:
        return {"named": self.named, "rank": self.rank, "choices": torch.tensor(self.choices)}

    def top(self, k: int) -> NDArray[np.float64]:
        """1 for each image (N,) whose class is among the k likeliest, else 0."""
        return (self.rank <= k).double().numpy()


@dataclass(frozen=True)
class Judged:
    """The judges' answers by judge and set of images: "training", "enrolment", the methods, further photographs."""

    templates: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # of face judges (N, D)
    undetected: dict[str, dict[str, float]] = field(default_factory=dict)  # share of images without a face
    distances: dict[str, dict[str, dict[str, NDArray[np.float64]]]] = field(
        default_factory=dict
    )  # lpips_min, lpips_mean
    answers: dict[str, dict[str, Answers]] = field(default_factory=dict)  # of the target and of the classifier
    features: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # of the classifier (N, D)
    seconds: dict[str, float] = field(default_factory=dict)  # by judge


def judge(run: Run, judges: Judges, opinion: Opinion | None, people: People, releases: Releases) -> Judged:
    """Every judge on everything it must see; `opinion` is the target's own, None where there are several targets."""
    panel = Panel(run, Judged())
    photographs = {"training": people.training, "enrolment": people.enrolment}
    optional = {"distractors": people.distractors, "strangers": people.strangers, "public_set": people.public}
    others = {name: images for name, images in optional.items() if images is not None}
    judged = {"enrolment": people.enrolment} | releases
    for face in judges.faces:
        panel.faces(face, photographs | others | releases)
    if judges.perceptual is not None:
        panel.perceptual(judges.perceptual, people.enrolment, releases)
    if opinion is not None:
        panel.target(opinion, judged)
    if judges.classifier is not None:
        panel.classifier(judges.classifier, people.training, judged)
    return panel.judged


def enrolment_answers(run: Run, opinion: Opinion, people: People) -> Answers:
    """The target's own opinion of the enrolment images; `judge` does not ask for it again."""
    panel = Panel(run, Judged())
    panel.target(opinion, {"enrolment": people.enrolment})
    return panel.judged.answers["target"]["enrolment"]


@dataclass(frozen=True)
class Panel:
    """Judges at work: every piece of what they see lies in the run folder."""

    run: Run
    judged: Judged

    def faces(self, judge: FaceJudge, sets: Releases) -> None:
        def compute(images: Images) -> Tensors:
            before = judge.misses
            templates = judge.embed(images.pixels)
            return {"templates": templates, "misses": torch.tensor(judge.misses - before)}

        pieces = self._each(judge.name, sets, compute)
        self.judged.templates[judge.name] = {
            name: torch.cat([piece["templates"] for piece in group]) for name, group in pieces.items()
        }
        self.judged.undetected[judge.name] = {
            name: sum(int(piece["misses"]) for piece in group) / len(sets[name]) for name, group in pieces.items()
        }

    def perceptual(self, judge: PerceptualJudge, enrolment: Images, sets: Releases) -> None:
        def compute(images: Images) -> Tensors:
            mine = enrolment[torch.isin(enrolment.classes, images.classes).nonzero()[:, 0].tolist()]
            distances = perceptual(judge, images.pixels, images.classes, mine.pixels, mine.classes)
            return {name: torch.from_numpy(values) for name, values in distances.items()}

        self.judged.distances[judge.name] = {
            name: {key: torch.cat([piece[key] for piece in group]).numpy() for key in group[0] if key != "seconds"}
            for name, group in self._each(judge.name, sets, compute).items()
        }

    def target(self, opinion: Opinion, sets: Releases) -> None:
        """The model under audit as its own judge: the auditor's questions, not the adversary's queries."""

        @torch.no_grad()
        def compute(images: Images) -> Tensors:
            batches = zip(images.pixels.split(32), images.classes.split(32), strict=True)
            logits = torch.cat([opinion(batch, classes).cpu() for batch, classes in batches])
            return Answers.of(logits, images.classes).plain

        pieces = self._each("target", sets, compute, "answers")
        self.judged.answers["target"] = {name: Answers.join(group) for name, group in pieces.items()}

    def classifier(self, judge: ClassifierJudge, training: Images, sets: Releases) -> None:
        ready: list[bool] = []

        def compute(images: Images) -> Tensors:
            if not ready:  # fitted by whoever needs it, once
                judge.fit(training.pixels, training.classes)
                ready.append(True)
            answers = Answers.of(judge.logits(images.pixels).cpu(), images.classes)
            return answers.plain | {"features": judge.embed(images.pixels)}

        pieces = self._each(judge.name, sets, compute, "answers")
        self.judged.answers[judge.name] = {name: Answers.join(group) for name, group in pieces.items()}
        self.judged.features[judge.name] = {
            name: torch.cat([piece["features"] for piece in group]) for name, group in pieces.items()
        }

    def _each(
        self, judge: str, sets: Releases, compute: Callable[[Images], Tensors], kind: str = "judged"
    ) -> dict[str, list[dict[str, Tensor]]]:
        starts = {
            f"{kind}/{judge}/{name}/{start // _PIECE:04d}": (name, start)
            for name, images in sets.items()
            for start in range(0, len(images), _PIECE)
        }

        def compute_pieces(names: Iterable[str]) -> Iterator[Tensors]:
            for name, start in map(starts.__getitem__, names):
                yield compute(sets[name][list(range(start, min(start + _PIECE, len(sets[name]))))])

        grouped: dict[str, list[dict[str, Tensor]]] = {name: [] for name in sets}
        seconds = 0.0
        pieces = self.run.each(starts, compute_pieces, f"judge {judge}")
        for (name, _), piece in zip(starts.values(), pieces, strict=True):
            grouped[name].append(piece)
            seconds += float(piece["seconds"])
        self.judged.seconds[judge] = seconds
        return grouped


def own_opinion(target: Target | Served, opened: Callable[[], AnyOracle], device: torch.device) -> judging.Opinion:
    """The target's opinion of images. A served target is asked through the ledger, apart from the adversary.

    Where it decides on claims, each image is claimed to be of its person. opened: the oracle, which is opened when a
    served target is asked.
    """
    if isinstance(target, Target):
        return lambda images, classes: target(images.to(device))

    def asked(images: Tensor, classes: Tensor) -> Tensor:
        oracle = opened()
        if isinstance(oracle, Interface) and oracle.ledger.step != OWN_OPINION:
            oracle.ledger.at(OWN_OPINION)
        return decision(oracle, images, classes) if isinstance(oracle, Verification) else opinion(oracle, images)

    return asked
