"""Search behind a recogniser's interface: solve for the enrolled templates, then invert them with a copy.

Similarities are linear in the enrolled template. Whoever has a copy of the recogniser knows the templates of images of
their own; answers about a few hundred of these, which serve for everybody who is enrolled, give each person's template
by regression. What inverts a leaked template then inverts it, and asks nothing more. Even a yes or no will do. Cf. Mai
et al., On the Reconstruction of Face Images from Deep Face Templates, IEEE TPAMI 2019; arXiv:2601.17620, from accept
and reject alone; arXiv:1901.09769. A copy without gradients is inverted through another recogniser: see translation.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from gmi.errors import GmiError
from gmi.oracles.local import Comparing, WhiteBoxRecogniser
from gmi.protocols import (
    Candidates,
    Prior,
    ScoreOracle,
    SimilarityOracle,
    Trace,
    VerificationOracle,
    WhiteBoxOracle,
)
from gmi.rng import Rng, seed_of
from gmi.search.answers import meanings
from gmi.search.evolution import Evolution
from gmi.search.genetic import Genetic
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.particles import Particles
from gmi.search.regression import fit, gaussian
from gmi.search.signature import Passes, access, shared_queries
from gmi.search.strangers import Strangers, joined, questions, samples
from gmi.search.translation import Translated, Translation
from gmi.settings import settings
from gmi.targets.module import Target
from gmi.targets.templates import AnyRecogniser, Differentiable, Matcher, recogniser_of, templates_of

_BATCH = 50  # images that are embedded at once
_ASKED = 128  # fewest images that are asked about at once, where there are as many: more than a watch sees together
_SCALE = 20.0  # from similarities to logits


@settings
class Solve:
    """Templates by regression on answers about the adversary's own images, inverted with a copy of the recogniser."""

    type: Literal["solve"] = "solve"
    recogniser: AnyRecogniser  # the adversary's copy
    questions: Annotated[int, Field(ge=8)] = 200  # images that the target is asked about, once for everybody
    # photographs to ask about, of people who are not enrolled; those beyond `questions` only tell how templates vary.
    # None, or where they are too few: samples of the prior
    photographs: Strangers | None = None
    # another recogniser with gradients, for a copy that has none: a map from its templates to the copy's, learnt from
    # `pairs` of the adversary's own images, lets the search climb
    through: Annotated[Differentiable, Field(discriminator="type")] | None = None
    pairs: Annotated[int, Field(ge=50)] = 600  # those that were asked about come first, then samples of the prior
    # search with the copy for images of what was solved for: with gradients, or by similarity, where it has none
    search: Annotated[Guided | Gradient | Particles | Evolution | Genetic, Field(discriminator="type")]

    def __post_init__(self) -> None:
        steep, flat = access(self.search) == "white-box", not isinstance(self.recogniser, Differentiable)
        if steep and flat and self.through is None:
            raise ValueError(
                f"search: {self.recogniser.type} has no gradients here, and {self.search.type} needs them: set "
                "through: {type: facenet}, or take particles"
            )
        if self.through is not None and (not steep or self.through == self.recogniser):
            raise ValueError("through is another recogniser, for a search that needs gradients: leave it out")
        if shared_queries(self.search) > 0:
            raise ValueError("search: one that learns first has nobody to teach it on a copy: feature_weight 0")

    @property
    def shared(self) -> int:
        """Images that `prepare` asks about, which all classes share."""
        return self.questions

    def queries(self, prior: Any) -> int:
        """No queries: the copy is asked."""
        return 0

    def passes(self, prior: Any) -> Passes:
        """Evaluations of the prior's network for each candidate."""
        return self.search.passes(prior)

    @property
    def samples(self) -> int:
        """Samples of the prior that `prepare` makes at most."""
        return max(self.questions, self.pairs if self.through else 0)

    @property
    def students(self) -> tuple["Copied", ...]:
        """The recognisers that take part in the search and so cannot judge it."""
        return tuple(Copied(each) for each in (self.recogniser, self.through) if each is not None)

    def parts(self, oracle: VerificationOracle | None) -> list[tuple[Any, VerificationOracle | None]]:
        """The search with the copy; None: the copy."""
        return [(self.search, None)]

    def refuse(self, oracle: VerificationOracle) -> None:
        """Raises GmiError where the oracle keeps no templates to itself, or tells nothing of them."""
        if isinstance(oracle, WhiteBoxOracle) or hasattr(oracle, "embed"):
            raise GmiError(
                f"search: solve is for who has no templates, and this access shows them: take {self.search.type}."
            )
        if isinstance(oracle, ScoreOracle) and not isinstance(oracle, SimilarityOracle):
            raise GmiError(
                "search: solve needs a recogniser that answers with similarities, labels or decisions, and this target "
                "answers with probabilities: take surrogate."
            )

    @torch.no_grad()
    def prepare(self, oracle: VerificationOracle, prior: Prior, rng: Rng) -> dict[str, Tensor]:
        """The enrolled `templates` (K, D), from answers about one image per generator, and how well these foretell.

        `foretold` is that of `Fit`; with `through`, the fields of its `Translation` are there, too. Raises GmiError as
        `refuse` does, or where photographs cannot be used.
        """
        self.refuse(oracle)
        images = questions(self.photographs, prior, rng)
        judge = self.recogniser.load(torch.device("cpu"))
        known, device = judge.embed(images.float() / 255), prior.sample(Rng([0])).device
        shown = images[: len(rng)]
        batches = [batch.to(device).float() / 255 for batch in shown.tensor_split(max(1, len(shown) // _ASKED))]
        form = _FORMS.get(self.recogniser.type, _Cosine)
        strangers = judge.similarity(known, known)
        apart = ~torch.eye(len(known), dtype=torch.bool)
        spread = float(form.linear(known, strangers)[apart].double().std())
        usual, asked = gaussian(form.state(known)), known[: len(rng)].double()
        fits = [
            fit(form.axes(asked), form.linear(asked, low), form.linear(asked, high), *usual, spread)
            for low, high in meanings(oracle, batches, strangers[apart].double())
        ]
        best = min(fits, key=lambda each: each.error)
        templates = best.states[:, : known.shape[1]].float()
        learned = {"templates": templates, "foretold": torch.tensor(best.foretold)}
        if self.through is None:
            return learned
        if len(known) < self.pairs:
            seed = int(rng.uniform(1)[0, 0] * 2**24)
            seeds = [seed_of(seed, "pairs", index) for index in range(self.pairs - len(known))]
            images = joined(images, samples(prior, Rng(seeds)))
            known = torch.cat([known, judge.embed(images[len(known) :].float() / 255)])
        other = self.through.load(device)
        batches = (batch.to(device).float() / 255 for batch in images[: self.pairs].split(_BATCH))
        source = torch.cat([other.network(other.inputs(batch)).cpu() for batch in batches])
        # at the length at which they were solved for: cosines do not tell it
        wanted = form.state(known[: self.pairs])[:, : known.shape[1]].float()
        return learned | Translation.of(source, wanted)._asdict()

    def taught(self, learned: Mapping[str, Tensor]) -> Any:
        """The search that goes on, with `copy` in the target's place."""
        return self.search

    def copy(self, learned: Mapping[str, Tensor], device: torch.device) -> ScoreOracle:
        """The copy of the recogniser, with the templates that were solved for."""
        templates = learned["templates"].cpu()
        names = tuple(map(str, range(len(templates))))
        if self.through is not None:
            other = self.through.load(torch.device("cpu"))
            translation = Translation(*(learned[key].cpu() for key in Translation._fields))
            assert isinstance(other.network, nn.Module)  # as every `Differentiable` has
            matcher = Matcher(Translated(other.network, translation), templates - translation.mean, _SCALE, 0.0)
            target = Target(matcher, other.inputs, names, other.trained_on, "network.linear")
            return WhiteBoxRecogniser(target.to(device))
        target = recogniser_of(self.recogniser.load(torch.device("cpu")), templates, names, _SCALE, 0.0)
        if isinstance(target, Target) and access(self.search) == "white-box":
            return WhiteBoxRecogniser(target.to(device))
        return Comparing(templates_of(target), len(templates))

    def __call__(
        self,
        oracle: VerificationOracle,
        prior: Prior,
        latents: Tensor,
        classes: Tensor,
        rng: Rng,
        trace: Trace | None = None,
    ) -> Candidates:
        raise GmiError("Solve first: search.taught(search.prepare(oracle, prior, rng)).")


@dataclass(frozen=True)
class Copied:
    """An adversary's copy of a recogniser, as a network that cannot judge what a search finds."""

    recogniser: AnyRecogniser

    @property
    def trained_on(self) -> frozenset[str]:
        """Names of data sets."""
        return self.recogniser.load(torch.device("cpu")).trained_on

    def weighed(self) -> nn.Module:
        """Its parameters, none where they cannot be read."""
        weights = self.recogniser.load(torch.device("cpu")).weights()
        return nn.ParameterList([nn.Parameter(weight, requires_grad=False) for weight in weights])


class _Form(Protocol):
    """How similarities depend on an enrolled template: linear in a state, once they are taken in the right form."""

    @staticmethod
    def axes(templates: Tensor) -> Tensor:
        """Axes (N, D) of questions with templates (N, d)."""
        ...

    @staticmethod
    def state(templates: Tensor) -> Tensor:
        """States (N, D) of enrolled templates (N, d), of which the template is the beginning."""
        ...

    @staticmethod
    def linear(templates: Tensor, similar: Tensor) -> Tensor:
        """What is linear, and grows with similarities (N, K) of questions with templates (N, d)."""
        ...


class _Cosine:
    """The cosine of templates: linear in the enrolled one, of length 1."""

    @staticmethod
    def axes(templates: Tensor) -> Tensor:
        return F.normalize(templates.double())

    state = axes

    @staticmethod
    def linear(templates: Tensor, similar: Tensor) -> Tensor:
        return similar


class _Distance:
    """Minus a Euclidean distance s: (|e|^2 - s^2) / 2 = e t - |t|^2 / 2, linear in the template t and |t|^2 / 2."""

    @staticmethod
    def axes(templates: Tensor) -> Tensor:
        return F.pad(templates.double(), (0, 1), value=-1.0)

    @staticmethod
    def state(templates: Tensor) -> Tensor:
        return torch.cat([templates, templates.square().sum(1, keepdim=True) / 2], 1).double()

    @staticmethod
    def linear(templates: Tensor, similar: Tensor) -> Tensor:
        return (templates.square().sum(1, keepdim=True) - similar.clamp_max(0).square()) / 2


_FORMS: dict[str, type[_Form]] = {"dlib": _Distance}
"""By recogniser; the others compare by cosines."""
