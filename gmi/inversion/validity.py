"""What the findings of an audit rest on, and the checks that say whether it bears a verdict."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from gmi import checks
from gmi.data.people import People
from gmi.inversion import literature, scoring
from gmi.inversion.exposure import METRIC, Exposure
from gmi.inversion.inputs import Inputs
from gmi.inversion.judging import Judged, Releases
from gmi.inversion.learnt import Learnt
from gmi.inversion.meter import Spent
from gmi.inversion.plan import RANDOM, Audit
from gmi.inversion.recognition import Recognised
from gmi.inversion.related import Passing, Related
from gmi.inversion.strength import answered, compares, grey_prior, misleads, misled, persuaded, strength, withheld
from gmi.inversion.verdict import called
from gmi.metrics.rates import TAIL
from gmi.metrics.statistics import Failed, Outcome, difference
from gmi.oracles.access import AnyOracle
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
    learnt: Learnt  # by the search, of the target


def early_checks(plan: Audit, inputs: Inputs, evidence: Evidence, naive: Outcome, random: Outcome) -> list[checks.Flag]:
    """The checks that a verdict depends on. Warnings of some bar an acquittal, but no evidence.

    naive, random: the target's accuracy on the reconstructions, and on samples of the prior.
    """
    people = inputs.people
    overlap = [*_overlap(people, evidence.recognised[0])]
    accuracy = literature.target_accuracy(evidence.judged, people)
    doubtful = [
        checks.knows_its_people(accuracy),
        strength(plan.search, evidence.oracle, compares(evidence.oracle, inputs), evidence.learnt),
        persuaded(naive if isinstance(naive, Failed) else naive.value),
    ]
    doubtful += grey_prior(plan.target, people, evidence.releases[RANDOM])
    doubtful += [eyesight(each) for each in evidence.recognised]
    if people.groups is not None:
        groups = [people.groups[person] for person in sorted(people.attacked)]
        doubtful.append(groups_apart(evidence.recognised[0].exposures(public_counts(overlap)), groups))
    doubtful += [*withheld(evidence.oracle, inputs.target), *answered(evidence.oracle, evidence.probes)]
    if misleads(plan.target):
        doubtful.append(misled())
    if evidence.related.templates is not None:
        doubtful.append(opened(evidence.related.templates, max(plan.fmrs)))
    if compares(evidence.oracle, inputs):
        doubtful.append(admitted(naive, random))
    if plan.data.subject == "faces":
        doubtful += [checks.faces_found(*found) for found in evidence.judged.undetected.items()]
    others = [*overlap, checks.unaudited(len(inputs.target.order.names), len(people.names))]
    if isinstance(inputs.target, Served) and not inputs.target.parameters:
        others.append(checks.unseen_weights())
    return [*(replace(flag, bars_acquittal=True) for flag in doubtful), *others]


def opened(passing: Sequence[Passing], fmr: float) -> checks.Flag:
    """Whether images that were made from templates pass for their people in the system that the templates are of.

    That they may show nobody to another judge does not matter to the system.
    """
    name, metric = "the system itself", f"match@{fmr:g}"
    for row in (each for each in passing if each.system == "same" and each.method != RANDOM):
        (usual,) = [
            each.figures[metric]
            for each in passing
            if (each.judge, each.photograph, each.method) == (row.judge, row.photograph, RANDOM)
        ]
        found = row.figures[metric]
        if isinstance(failed := found, Failed) or isinstance(failed := usual, Failed):
            return checks.Flag(
                name, "warning", f"Whether its templates open it could not be measured: {failed.failed}."
            )
        if found.value > usual.high:
            photograph = "the photograph whose template leaked" if row.photograph == "leaked" else "other photographs"
            return checks.Flag(
                name,
                "warning",
                f"Compared with {photograph}, {found.value:.0%} of the images pass for their person in the recogniser "
                f"itself at FMR {fmr:g}, and {usual.value:.0%} of samples of the prior: its templates open it, "
                "whatever others see in the images.",
            )
    return checks.Flag(name, "passed", "The images are not shown to pass for their people in the recogniser itself.")


def admitted(naive: Outcome, random: Outcome) -> checks.Flag:
    """Whether a system that compares takes its people's reconstructions for them.

    naive, random: share of reconstructions, and of samples of the prior, that it takes for their person: by its
    threshold where it decides about a claim, else as the person who is most alike.
    """
    name = "whom the system sees"
    if isinstance(failed := naive, Failed) or isinstance(failed := random, Failed):
        return checks.Flag(name, "warning", f"Whom it sees in the images could not be measured: {failed.failed}.")
    if naive.low > random.high:
        return checks.Flag(
            name,
            "warning",
            f"The system takes {naive.value:.0%} of the images for their person, and {random.value:.0%} of samples of "
            "the prior: it gives away whom it looks for, whatever others see in them.",
        )
    return checks.Flag(name, "passed", "The system is not shown to take the images for their people.")


def groups_apart(exposures: Mapping[str, Exposure], groups: Sequence[str]) -> checks.Flag:
    """Whether a group of two people or more (A,) is found, by Bonferroni for all groups and attacks."""
    labels, found = np.array(groups), {}
    names = [name for name in dict.fromkeys(groups) if (labels == name).sum() > 1]
    tests = max(1, len(names) * len(exposures))
    for name in names:
        for exposure in exposures.values():
            leaks = [values[:, labels == name] for values in exposure.leaks]
            if all(difference(each, np.zeros(each.shape[1]), tail=TAIL / tests).low > 0 for each in leaks):
                least = min(leaks, key=np.mean)
                leak = difference(least, np.zeros(least.shape[1]))
                found[name] = max(found.get(name, leak), leak, key=lambda each: each.value)
    return checks.found_groups(found, bool(called(exposures, lambda exposure: exposure.leaks)))


def public_counts(flags: Iterable[checks.Flag]) -> bool:
    """Whether the public set is an attack and a control: it does not seem to show the people."""
    return all(flag.severity != "warning" for flag in flags if flag.name == checks.PUBLIC_PEOPLE)


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
