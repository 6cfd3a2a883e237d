"""Search on a student of the target: ask about samples of the prior, teach a network the answers, search that with its
gradients, and end on the target itself where there are queries left.

From scores this is the route of SMILE (From Head to Tail, CVPR 2025): a few thousand questions that all classes share,
a student, white-box search on it, then gradient-free search on the target from there. From labels it is that of LOKT
(Nguyen et al., Label-Only Model Inversion Attacks via Knowledge Transfer, NeurIPS 2023), whose questions are also asked
of generated images.

With `photographs`, of strangers, a student on the public backbone on which the target was built learns nearly all: the
target's head is linear in features that the adversary has.

Differs from the papers: the student learns centred log-probabilities by least squares, or what is shown of the scores,
or the labels, by cross-entropy, in which rare classes weigh more, as in SMILE, by a power of their frequency; LOKT's
conditional GAN is not trained, since the students learn from the samples of a prior that is there, and in further
`rounds` from what was found on them so far, about which the target is asked, too. There are as many students as are
named: LOKT averages three. Which they are says what the adversary knows: networks of its own from scratch, or a public
backbone that the target may have been built on, with a head to learn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gmi.defences.base import Answer, Loss
from gmi.errors import GmiError, foreign
from gmi.oracles.local import WhiteBox
from gmi.protocols import Candidates, LabelOracle, Prior, ScoreOracle, SimilarityOracle, Trace
from gmi.rng import Rng
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.selection import opinion
from gmi.search.signature import Passes, shared_queries
from gmi.search.strangers import Strangers, as_bytes, joined, questions
from gmi.settings import Count, Share, settings
from gmi.targets.module import ModuleTarget, Target
from gmi.training.precision import learning
from gmi.training.targets import Head, Scratch
from gmi.views import at_least_single

_BATCH = 50  # images that are asked about at once


@settings
class Surrogate:
    """Search on a student, which learns what the target says of samples of the prior."""

    type: Literal["surrogate"] = "surrogate"
    questions: Count = 2500  # images that the target is asked about
    # photographs to ask about first, of people whom the target does not know; samples of the prior come after them
    photographs: Strangers | None = None
    # the networks before they learn, with the weights that the adversary starts from; of several the mean is searched
    students: Annotated[tuple[ModuleTarget, ...], Field(min_length=1)]
    training: Annotated[Head | Scratch, Field(discriminator="type")]  # training of whole students, or of their heads
    # log-probabilities: by least squares, which needs all scores, unrounded; probabilities: by cross-entropy, for what
    # an interface leaves of them; labels are learnt as probabilities, similarities by least squares
    learn: Literal["log-probabilities", "probabilities"] = "log-probabilities"
    rare: Share = 0.5  # of probabilities: power of a class's frequency by which its images weigh less; 0: all alike
    # the questions are asked in so many parts: after the first one about what `search` finds on the students so far
    rounds: Count = 1
    search: Annotated[Gradient | Guided, Field(discriminator="type")] = Gradient()  # white-box search on the student
    # search on the target, from where `search` ends; it needs scores, and latents that the prior decodes; None: none
    polish: Evolution | None = None

    def __post_init__(self) -> None:
        if any(student.defence is not None for student in self.students):
            raise ValueError("students: a network of the adversary's own is not defended: leave its defence out")
        if self.rounds > self.questions:
            raise ValueError("rounds must not exceed questions")
        if shared_queries(self.search) > 0:
            raise ValueError("search: one that learns first has nobody to teach it on a student: feature_weight 0")
        if self.polish is not None and isinstance(self.search, Guided):
            raise ValueError("polish: a guided search ends in clean latents, which no prior decodes: leave it out")

    @property
    def shared(self) -> int:
        """Queries of `prepare`, which all classes share."""
        return self.questions

    def queries(self, prior: Any) -> int:
        """Queries of the target for each candidate."""
        return 0 if self.polish is None else self.polish.queries(prior)

    def passes(self, prior: Any) -> Passes:
        alone, steep = self.search.passes(prior)
        return Passes(alone + (0 if self.polish is None else self.polish.passes(prior).without_gradient), steep)

    def parts(self, oracle: LabelOracle | None) -> list[tuple[Any, LabelOracle | None]]:
        """The searches that it is made of, each with the oracle it is given; None: the student."""
        return [(self.search, None), *([] if self.polish is None else [(self.polish, oracle)])]

    def refuse_students(self, people: int, prior: Prior) -> None:
        """Raises GmiError where a student cannot take the prior's images, or has not so many classes."""
        image = prior.decode(prior.sample(Rng([0]))).clamp(0, 1)
        for student, module in self._untaught().to(image.device).members:
            _refuse_misfit(student, module, people, image)

    def prepare(self, oracle: LabelOracle, prior: Prior, rng: Rng) -> dict[str, Tensor]:
        """The students' weights, those that are not as they were, from one image per generator."""
        starts = [number * len(rng) // self.rounds for number in range(self.rounds + 1)]
        first = rng[: starts[1]]
        device = prior.sample(Rng([0])).device
        images = questions(self.photographs, prior, first)[: len(first)]
        scores = _asked(oracle, images, device)
        ensemble = self._learn(oracle, images, scores, device)
        for start, end in pairwise(starts[1:]):
            images = joined(images, self._finds(ensemble, prior, oracle.people, rng[start:end], start))
            scores = torch.cat([scores, _asked(oracle, images[start:], device)])
            ensemble = self._learn(oracle, images, scores, device)
        before, after = self._untaught().state_dict(), ensemble.state_dict()
        return {name: value for name, value in after.items() if not torch.equal(value.cpu(), before[name])}

    def _learn(self, oracle: LabelOracle, images: Tensor, scores: Tensor, device: torch.device) -> "Ensemble":
        """New students, taught what the target says (N, K) of images (N, C, H, W), given as bytes."""
        ensemble = self._untaught().to(device)
        exact = isinstance(oracle, SimilarityOracle) or (
            isinstance(oracle, ScoreOracle) and self.learn == "log-probabilities"
        )
        loss = _nearness(scores) if exact else _likelihood(scores, self.rare)
        with learning(device), torch.random.fork_rng():
            torch.manual_seed(self.training.seed)
            for student, module in ensemble.members:
                self.training(module, student.input, images, loss)
        return ensemble

    def _finds(self, ensemble: "Ensemble", prior: Prior, people: int, rng: Rng, first: int) -> Tensor:
        """What `search` finds on the students of each class in turn, as bytes (N, C, H, W), one from each generator.

        first: number of the first among all questions, so that no class is left out over the rounds.
        """
        taught = Taught(self.search, None, ensemble)
        student, found = WhiteBox(taught.student(people)), []
        for start in range(0, len(rng), _BATCH):
            part = rng[start : start + _BATCH]
            latents = prior.sample(part)
            classes = (first + start + torch.arange(len(part), device=latents.device)) % people
            with torch.enable_grad():
                fitting: Any = prior  # `parts` has it checked
                found.append(as_bytes(self.search(student, fitting, latents, classes, part).images))
        return torch.cat(found)

    def taught(self, learned: Mapping[str, Tensor]) -> "Taught":
        """The search on the students that have learnt this."""
        ensemble = self._untaught()
        state = ensemble.state_dict()
        ensemble.load_state_dict(state | {name: value for name, value in learned.items() if name in state})
        return Taught(self.search, self.polish, ensemble)

    def __call__(
        self,
        oracle: LabelOracle,
        prior: Prior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        raise GmiError("A surrogate must be taught first: search.taught(search.prepare(oracle, prior, rng)).")

    def _untaught(self) -> "Ensemble":
        """The students before they learn, with the same weights each time."""
        with torch.random.fork_rng():
            torch.manual_seed(self.training.seed)
            return Ensemble(self.students)


class Ensemble(nn.Module):
    """Several students as one network. LOMMA averages the losses of such networks; here it is their logits."""

    def __init__(self, students: Sequence[ModuleTarget]) -> None:
        super().__init__()
        self.plans, self.networks = students, nn.ModuleList(student.weighed() for student in students)

    @property
    def members(self) -> list[tuple[ModuleTarget, nn.Module]]:
        """Each student with its network."""
        return list(zip(self.plans, self.networks, strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """The mean of the students' logits (N, K), of images (N, C, H, W) in [0, 1]."""
        logits = [at_least_single(network(student.input(images))) for student, network in self.members]
        return torch.stack(logits).mean(0)


@torch.no_grad()
def _asked(oracle: LabelOracle, images: Tensor, device: torch.device) -> Tensor:
    """What the target says (N, K) of images (N, C, H, W), given as bytes."""
    return torch.cat([opinion(oracle, batch.to(device).float() / 255) for batch in images.split(_BATCH)])


def _refuse_misfit(student: ModuleTarget, module: nn.Module, people: int, image: Tensor) -> None:
    """Raises GmiError where a student cannot take an image (1, C, H, W), or has other classes."""
    cannot = "A student cannot take an image: check the input in search.students"
    with torch.no_grad(), foreign(lambda why: f"{cannot} ({why})."):
        outputs = module.eval()(student.input(image))
    if tuple(outputs.shape) != (1, people):
        raise GmiError(
            f"A student gives outputs of shape {tuple(outputs.shape)} and the target has {people} classes: set their "
            "number in the arguments in search.students."
        )


@dataclass(frozen=True)
class Taught:
    """A surrogate that has learnt; `polish` makes its queries."""

    search: Any
    polish: Evolution | None
    ensemble: Ensemble

    def student(self, people: int) -> Target:
        """What the students say of so many people, as a target."""
        return Target(self.ensemble, lambda images: images, tuple(map(str, range(people))))

    def __call__(
        self,
        oracle: Any,
        prior: Any,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        """Candidates (N) from latents (N, ...)."""
        student = self.student(oracle.people).to(latents.device)
        candidates = self.search(WhiteBox(student), prior, latents, classes, rng, trace)
        if self.polish is None:
            return candidates
        return self.polish(oracle, prior, candidates.latents, classes, rng, trace)


def _nearness(scores: Tensor) -> Loss:
    """Mean squared error of centred log-probabilities (N, K), in units of their spread: logits are told up to a sum."""
    wanted = scores - scores.mean(1, keepdim=True)
    scale = wanted.square().mean().clamp_min(1e-12)

    def loss(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
        outputs = at_least_single(answer(inputs))
        return (outputs - outputs.mean(1, keepdim=True) - wanted[rows]).square().mean() / scale

    return loss


def _likelihood(scores: Tensor, rare: float) -> Loss:
    """Cross-entropy with the probabilities (N, K) of these scores, those of frequent classes weighed down."""
    wanted = scores.exp()
    frequency = torch.bincount(scores.argmax(1), minlength=scores.shape[1]).clamp_min(1)
    weights = frequency[scores.argmax(1)].float().pow(-rare)
    weights = weights / weights.mean()

    def loss(answer: Answer, inputs: Tensor, rows: Tensor, done: float) -> Tensor:
        return (weights[rows] * F.cross_entropy(at_least_single(answer(inputs)), wanted[rows], reduction="none")).mean()

    return loss
