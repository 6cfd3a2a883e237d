"""What a search learnt of the target before it searched, as far as it tells how strong the attack was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gmi.data.people import People
from gmi.metrics.statistics import Outcome, attempt, estimate
from gmi.search.signature import Search
from gmi.search.solve import Solve
from gmi.search.surrogate import Surrogate
from gmi.targets.quality import answers


@dataclass(frozen=True)
class Copying:
    """How well a student copies the target, on enrolment images."""

    agreement: Outcome  # names the person whom the target names
    accuracy: Outcome  # names the right person
    target_accuracy: Outcome  # the target's own accuracy
    questions: int


@dataclass(frozen=True)
class Learnt:
    """What is known of it; None: the search learns no such thing, or has not yet."""

    foretold: float | None = None  # least, of all seeds: how well the templates that were solved for foretell answers
    students: tuple[Copying, ...] = ()  # how well the student of each seed copies the target


def learnt(search: Search, taught: Sequence[Mapping[str, Tensor]], people: People, named: Tensor) -> Learnt:
    """What the search learnt.

    taught: by seed, what `prepare` gave; none if the search learns nothing.
    named: the person (M,) whom the target names in each enrolment image.
    """
    if isinstance(search, Solve):
        return Learnt(foretold=min(float(each["foretold"]) for each in taught))
    if isinstance(search, Surrogate):
        return Learnt(students=tuple(fidelity(search, each, people, named) for each in taught))
    return Learnt()


@torch.no_grad()
def fidelity(search: Surrogate, learned: Mapping[str, Tensor], people: People, named: Tensor) -> Copying:
    """How often the student that the search taught agrees with the target, and is right, on enrolment images.

    Jagielski et al., High Accuracy and High Fidelity Extraction of Neural Networks, USENIX Security 2020.
    """
    labels = answers(search.taught(learned).student(len(people.names)), people.enrolment).argmax(1)
    classes = people.enrolment.classes

    def share(hits: Tensor) -> Outcome:
        return attempt(lambda: estimate(hits.double().numpy(), classes.numpy()))

    return Copying(
        agreement=share(labels == named),
        accuracy=share(labels == classes),
        target_accuracy=share(named == classes),
        questions=search.shared,
    )
