"""What the findings of an audit rest on, and the checks that say whether it bears a verdict."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from gmi import checks
from gmi.data.images import Images
from gmi.data.people import People
from gmi.inversion import literature, scoring
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judged, Releases
from gmi.inversion.meter import Spent
from gmi.inversion.plan import RANDOM, Audit
from gmi.inversion.recognition import Recognised
from gmi.inversion.related import Related
from gmi.inversion.verdict import METRIC
from gmi.metrics.statistics import Outcome
from gmi.oracles.access import AnyOracle
from gmi.oracles.interface import Embeddings, Labels, Similarities, Verification
from gmi.oracles.local import WhiteBox
from gmi.protocols import ScoreOracle, SimilarityOracle
from gmi.search.signature import Search, access, climbs
from gmi.search.solve import Solve
from gmi.targets.served import Served


@dataclass(frozen=True)
class Evidence:
    """Everything that the findings rest on."""

    oracle: AnyOracle
    releases: Releases
    probes: Mapping[str, Tensor]  # what the checks look at
    spent: Mapping[str, Spent]  # by step
    judged: Judged
    recognised: tuple[Recognised, ...]  # by face judge; the verdict rests on the first
    related: Related
    foretold: float | None = None  # by templates that were solved for, see `checks.solved`; None: none were


def early_checks(
    plan: Audit, inputs: Inputs, evidence: Evidence, naive: Outcome
) -> tuple[list[checks.Flag], list[checks.Flag]]:
    """The checks that a verdict depends on; and those of them whose warnings bar an acquittal, but no evidence.

    naive: the target's accuracy on the reconstructions.
    """
    people, probes = inputs.people, evidence.probes
    accuracy = literature.target_accuracy(evidence.judged, people)
    doubtful = [checks.knows_its_people(accuracy), strength(plan.search, inputs, evidence), checks.persuaded(naive)]
    prepare = getattr(plan.target, "input", None)  # a recogniser's is its own
    if people.coloured and getattr(prepare, "colour", "rgb") == "rgb" and _colourless(evidence.releases[RANDOM]):
        doubtful.append(checks.grey_prior())
    doubtful += [eyesight(each) for each in evidence.recognised]
    if "gradients" in probes:  # scores and labels are what they are, and no gradient is asked for
        doubtful += [checks.softmaxed(probes["logits"]), checks.dead_gradients(probes["gradients"])]
    elif isinstance(evidence.oracle, ScoreOracle) and not isinstance(evidence.oracle, SimilarityOracle):
        doubtful += [checks.flat(probes["logits"]), checks.softened(probes["logits"])]
    if "again" in probes:
        doubtful.append(checks.randomised(probes["logits"], probes["again"]))
    others = [*_overlap(people, evidence.recognised[0])]
    if isinstance(inputs.target, Served) and not inputs.target.parameters:
        others.append(checks.unseen_weights())
    return [*doubtful, *others], doubtful


def strength(search: Search, inputs: Inputs, evidence: Evidence) -> checks.Flag:
    """Whether the search is of the kind that finds most with such access."""
    oracle, copying = evidence.oracle, evidence.related.copying
    if isinstance(oracle, WhiteBox):
        return checks.climbed(climbs(search, oracle))
    if isinstance(oracle, Embeddings):
        return checks.followed()
    if compares(oracle, inputs):
        return checks.solved(evidence.foretold, isinstance(search, Solve) and access(search.search) == "white-box")
    return checks.taught(None if copying is None else (copying.accuracy, copying.target_accuracy))


def _colourless(images: Images) -> bool:
    return bool((images.bytes == images.bytes[:, :1]).all())


def compares(oracle: AnyOracle, inputs: Inputs) -> bool:
    """Whether the interface tells how an image compares with templates, which it keeps to itself."""
    if isinstance(oracle, Embeddings):
        return False
    served = isinstance(inputs.target, Served) and inputs.target.gives in ("similarities", "decisions")
    recogniser = inputs.system is not None or served
    return isinstance(oracle, Similarities | Verification) or (recogniser and isinstance(oracle, Labels))


def _overlap(people: People, recognised: Recognised) -> Iterator[checks.Flag]:
    public = people.public
    yield checks.copies(0 if public is None else people.copied(public), 0 if public is None else len(public))
    if recognised.public is not None:
        yield checks.public_people(
            recognised.public, len(people.names), recognised.samples["genuine"], recognised.samples["impostor"]
        )


def eyesight(recognised: Recognised) -> checks.Flag:
    """Whether a judge tells the people apart by their own photographs."""
    return checks.judge_sees(recognised.judge, scoring.figure(recognised, ("genuine",), METRIC))
