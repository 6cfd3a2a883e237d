"""Whether an attack was as strong as is known with its access: if not, what it does not find may be there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from gmi import checks
from gmi.checks import Flag
from gmi.data.images import Images
from gmi.data.people import People
from gmi.inversion.inputs import Inputs
from gmi.inversion.learnt import Learnt
from gmi.metrics.statistics import Failed
from gmi.oracles.access import AnyOracle
from gmi.oracles.interface import Comparison, Embeddings, Labels, Similarities, Verification
from gmi.oracles.local import WhiteBox
from gmi.protocols import ScoreOracle, SimilarityOracle
from gmi.search.signature import Search, access, climbs
from gmi.search.solve import Solve
from gmi.search.surrogate import Surrogate
from gmi.targets.served import Served

_COLOURED = ("rgb", "bgr")  # inputs of networks that see colour
_ORDER = ("stop", "warning", "note", "passed")


def strength(search: Search, oracle: AnyOracle, comparing: bool, learnt: Learnt | None = None) -> Flag:
    """Whether the search is of the kind that finds most with such access.

    comparing: whether the interface `compares`.
    learnt: what the search learnt; None: nothing was asked yet, and the kind of search alone is looked at.
    """
    if isinstance(oracle, WhiteBox):
        return climbed(climbs(search, oracle))
    if isinstance(oracle, Embeddings):
        return followed()
    if comparing:
        return solved(search, learnt)
    return taught(search, learnt)


def strengths(flags: Mapping[str, Mapping[str, Sequence[Flag]]]) -> tuple[Flag, ...]:
    """What is to be said of each level of access, where one search that is as strong as it gets is enough.

    flags: by level and search, what is said of it, with all seeds; of several searches the costliest stands last.
    """
    levels: dict[Flag, list[str]] = {}
    for level, searches in flags.items():
        worst = [min(its, key=lambda flag: _ORDER.index(flag.severity)) for its in searches.values()]
        levels.setdefault(next((each for each in worst if each.severity == "passed"), worst[-1]), []).append(level)
    return tuple(replace(flag, name=f"{flag.name}: {'; '.join(its)}") for flag, its in levels.items())


def compares(oracle: AnyOracle, inputs: Inputs) -> bool:
    """Whether the interface tells how an image compares with templates, which it keeps to itself."""
    if isinstance(oracle, Embeddings):
        return False
    served = isinstance(inputs.target, Served) and inputs.target.gives in ("similarities", "decisions")
    recogniser = inputs.system is not None or served
    return isinstance(oracle, Similarities | Verification) or (recogniser and isinstance(oracle, Labels))


def withheld(oracle: AnyOracle, target: object) -> list[Flag]:
    """A warning on an audit by yes and no where the interface shows the number by which it decides."""
    shows = isinstance(target, Served) and target.gives == "similarities" and target.verifier is not None
    if not shows or not isinstance(oracle, Verification) or isinstance(oracle, Comparison):
        return []
    return [
        Flag(
            "numbers that are shown",
            "warning",
            "The interface shows the number by which it decides, and this adversary sees a yes or a no: audit it with "
            "access: {type: verification, numbers: true}.",
        )
    ]


def climbed(climbs: bool) -> Flag:
    """Whether a search that is given the weights takes their gradients."""
    name = "search with the weights"
    if climbs:
        return Flag(name, "passed", "The search takes the target's gradients.")
    return Flag(
        name,
        "warning",
        "The adversary has the weights, and this search takes no gradients: one that does, such as {type: guided} or "
        "{type: gradient}, finds far more.",
    )


def followed() -> Flag:
    """A warning on templates behind an interface, which no search here inverts as an adversary would."""
    return Flag(
        "search for templates",
        "warning",
        "An adversary climbs towards leaked templates with the gradients of a copy of the recogniser, or of another "
        "one, and this search takes none: audit facenet, mobilefacenet or a torch module with access: {type: "
        "white-box}, and dlib or an ONNX file with access: {type: scores} and search: {type: solve, through: {type: "
        "facenet}}.",
    )


def taught(search: Search, learnt: Learnt | None) -> Flag:
    """Whether a classifier that only answers is attacked by way of a network that learns its answers."""
    name = "student of the target"
    if not isinstance(search, Surrogate):
        return Flag(
            name,
            "warning",
            "An adversary who only gets answers teaches a network of their own what the target says, and searches that "
            "with its gradients; this search does not, and may find far less: audit with search: {type: surrogate}, "
            "and a student on the backbone that the target may have been built on.",
        )
    if learnt is None or not learnt.students:
        return Flag(name, "passed", "A student is taught what the target says.")
    rights, target = [each.accuracy for each in learnt.students], learnt.students[0].target_accuracy
    known = [each for each in rights if not isinstance(each, Failed)]
    if isinstance(target, Failed) or len(known) < len(rights):
        return Flag(name, "warning", "What the student learnt of the target could not be measured.")
    student = min(known, key=lambda each: each.value)  # of the seed that taught it least
    rates = f"The student names {student.value:.0%} of the enrolment images right, and the target {target.value:.0%}"
    if student.value < target.value / 2:
        return Flag(
            name,
            "warning",
            f"{rates}: it learnt little of what the target knows. A student on the target's backbone, more questions, "
            "or photographs of strangers teach it more: see search.students, questions and photographs.",
        )
    return Flag(name, "passed", f"{rates}.")


def solved(search: Search, learnt: Learnt | None) -> Flag:
    """Whether an interface that compares is asked as by an adversary who has a copy of the recogniser."""
    name = "interface that compares"
    if not isinstance(search, Solve):
        return Flag(
            name,
            "warning",
            "An adversary who has a copy of the recogniser finds the enrolled templates by a few hundred questions for "
            "everybody, and this search does not: audit the target with search: {type: solve}.",
        )
    foretold = None if learnt is None else learnt.foretold
    if foretold is not None and foretold < 0.6:
        return Flag(
            name,
            "warning",
            f"The templates that were solved for foretell answers no better than guessing (AUC {foretold:.2f}): the "
            "copy is of another recogniser, or questions are too few: see search.recogniser and search.questions.",
        )
    if access(search.search) != "white-box":
        return Flag(
            name,
            "warning",
            "The templates that are solved for are inverted without gradients, which finds far less: set search: "
            "{type: guided}, and through: {type: facenet} for a copy that has no gradients.",
        )
    area = "" if foretold is None else f", and foretell answers (AUC {foretold:.2f})"
    return Flag(name, "passed", f"The templates are solved for{area}.")


def persuaded(naive: float | Failed) -> Flag:
    """The target's accuracy on the reconstructions: a search that fails by its own measure shows nothing by failing."""
    name = "search convinces the target"
    if isinstance(naive, Failed):
        return Flag(name, "warning", f"The target's opinion of the reconstructions is not known: {naive.failed}.")
    taken = f"The target takes {naive:.0%} of the reconstructions for their person"
    if naive < 0.5:
        return Flag(
            name,
            "warning",
            f"{taken}: the search fails by its own measure, and what a search fails to find may be there. More steps, "
            "more candidates or another objective may mend it.",
        )
    return Flag(name, "passed", f"{taken}.")


def misleads(target: object) -> bool:
    """Whether a target, as it is configured, has a defence that misleads searches."""
    return bool(getattr(getattr(target, "defence", None), "misleads", False))


def misled() -> Flag:
    """A warning on a target that was trained to mislead searches which do not know of it."""
    return Flag(
        "defence that misleads",
        "warning",
        "The target was trained so that a search finds something else than its people, and this search does not know "
        "of it: what is left to one that does, gmi compare tells, with an adaptive attack.",
    )


def grey_prior(target: object, people: People, samples: Images) -> list[Flag]:
    """A warning on a prior without colour, of which these are samples, for a model of photographs in colour."""
    prepare = getattr(target, "input", None)  # a recogniser's is its own
    if not people.coloured or getattr(prepare, "colour", "rgb") not in _COLOURED:
        return []
    if not bool((samples.bytes == samples.bytes[:, :1]).all()):
        return []
    return [
        Flag(
            "colour",
            "warning",
            "The target sees photographs in colour, and the prior makes grey images: take a prior in colour, such as "
            "priors/flow64 of a clone of gmi.",
        )
    ]


def answered(oracle: AnyOracle, probes: Mapping[str, Tensor]) -> list[Flag]:
    """Whether a target answers so that a search can go by what it says. probes: of `Attacker.probe`."""
    flags = []
    if "gradients" in probes:  # scores and labels are what they are, and no gradient is asked for
        flags += [checks.softmaxed(probes["logits"]), checks.dead_gradients(probes["gradients"])]
    elif isinstance(oracle, ScoreOracle) and not isinstance(oracle, SimilarityOracle):
        flags += [checks.flat(probes["logits"]), checks.softened(probes["logits"])]
    if "again" in probes:
        flags.append(checks.randomised(probes["logits"], probes["again"]))
    return flags
