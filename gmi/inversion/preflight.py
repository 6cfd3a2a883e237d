"""Preflight: a target that does not know its people is asked wrongly, and an attack on it shows nothing.

Before anything is attacked, the target names the people of the enrolment images. If it does no better than chance, the
likeliest causes are tried, and the audit stops with the line of the configuration that mends it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gmi.data.images import Images
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion.judging import Answers
from gmi.metrics.statistics import Estimate, attempt, estimate
from gmi.run import OUTPUTS, Run
from gmi.targets.module import Target
from gmi.targets.served import Served
from gmi.targets.templates import is_recogniser
from gmi.views import Input

TRIED = 200  # enrolment images for each way of preparing them
SCALES = {
    "[0, 1]": ((0.0,), (1.0,)),
    "[-1, 1]": ((0.5,), (0.5,)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "FaceNet": ((0.5,), (0.501961,)),
    "[0, 255]": ((0.0,), (0.003921569,)),
    "ImageNet in [0, 255]": ((0.485, 0.456, 0.406), (0.003921569,)),
}
"""The usual scales of a network's input, as mean and std of images in [0, 1]."""


@dataclass(frozen=True)
class Remedy:
    """A change of the configuration, and how often the target is right with it."""

    share: float
    sentence: str


def refuse_ignorant(target: Target | Served, people: People, answers: Answers, run: Run) -> None:
    """Raises GmiError where the target's answers to the enrolment images name people no better than chance.

    Where another order of the outputs explains them, it is put into the run folder as `outputs.txt`. Nothing else
    stays there, so that the run with what was mended may have the folder, unless a served target was asked.
    """
    right = attempt(lambda: estimate(answers.top(1), people.enrolment.classes))
    if not isinstance(right, Estimate) or right.low > 1 / len(people.names):
        return
    remedies = [*_orders(target, people, answers.named.numpy(), run), *_inputs(target, people)]
    remedies = [remedy for remedy in remedies if remedy.share > max(0.5, 3 * right.value)]
    known = f"The target names {right.value:.1%} of the enrolment images right, which is no better than chance"
    if remedies:
        best = max(remedies, key=lambda remedy: remedy.share)
        run.void()
        raise GmiError(f"{known}; {best.sentence} it names {best.share:.0%}.")
    if right.high >= 0.5:  # so few people that it may well know them
        return
    run.void()
    if len(answers.named.unique()) == 1:
        known += "; it names everybody alike"
    if isinstance(target, Served):
        raise GmiError(
            f"{known}, and no other order of its classes mends it: check what target says of its images, answers and "
            "classes, and that data.folder holds its people (preflight: false goes on all the same)."
        )
    raise GmiError(
        f"{known}, and no usual preparation of images nor another order of its outputs mends it: check target.weights, "
        "target.input and that data.folder holds its people (preflight: false goes on all the same)."
    )


def _orders(target: Target | Served, people: People, named: NDArray[np.int64], run: Run) -> Iterator[Remedy]:
    """Another order of the outputs: the best assignment by half of the images, judged by the other half."""
    classes = people.enrolment.classes.numpy()
    half = _halves(classes)
    order = assignment(named[half], classes[half], len(people.names))
    rest = ~half
    if not rest.any() or not half.any():
        return
    share = float((order[named[rest]] == classes[rest]).mean())
    if share > 0.5:
        names = target.order.renamed([people.names[person] for person in order])
        file = run.write(OUTPUTS, names.encode())
        sentence = f"its outputs stand in another order than the people's sorted names: with target.outputs: {file}"
        if is_recogniser(target):
            sentence = f"target.leaked is in another order than the people's sorted names, likely that of {file}: in it"
        yield Remedy(share, sentence)


def assignment(named: NDArray[np.int64], classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The person (K,) whom each output most likely means, each once, from the outputs named and true classes (N,)."""
    votes = np.zeros((count, count))
    np.add.at(votes, (named, classes), 1)
    return linear_sum_assignment(-votes)[1]


def _inputs(target: Target | Served, people: People) -> Iterator[Remedy]:
    """Other ways of preparing the images, where the network is at hand."""
    if not isinstance(target, Target) or not isinstance(target.input, Input):
        return
    chosen = np.random.default_rng(0).permutation(len(people.enrolment))[:TRIED].tolist()
    images = people.enrolment[chosen]
    given = target.input
    colours = (
        [given.colour, "bgr" if given.colour == "rgb" else "rgb"] if given.colour in ("rgb", "bgr") else [given.colour]
    )
    for colour in colours:
        for name, (mean, std) in SCALES.items():
            tried = replace(given, colour=colour, mean=mean, std=std)
            if tried != given and (colour != "grey" or len(mean) == 1):
                sentence = f"with target.input.mean: {[*mean]} and target.input.std: {[*std]} ({name})"
                if colour != given.colour:
                    sentence = f"with target.input.colour: {colour}, mean: {[*mean]} and std: {[*std]} ({name})"
                yield Remedy(_accuracy(target, tried, images), sentence)


@torch.no_grad()
def _accuracy(target: Target, tried: Input, images: Images) -> float:
    device = target.device
    named = [target.classify(tried(batch.to(device))).argmax(1).cpu() for batch in images.pixels.split(32)]
    return (torch.cat(named) == images.classes).double().mean().item()


def _halves(classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Every other image of each person."""
    seen: dict[int, int] = {}
    half = np.zeros(len(classes), bool)
    for index, person in enumerate(classes.tolist()):
        seen[person] = seen.get(person, 0) + 1
        half[index] = seen[person] % 2 == 1
    return half
