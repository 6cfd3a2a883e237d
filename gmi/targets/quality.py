"""Quality of a target: accuracy, calibration error, its usual scores per person, and whether it takes the images."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors.torch import save
from torch import Tensor

from gmi.data.images import Images
from gmi.data.people import People
from gmi.errors import GmiError, foreign
from gmi.targets.module import Target


@torch.no_grad()
def answers(target: Target, images: Images) -> Tensor:
    """Logits (N, K), on the CPU, of a target's images (N)."""
    device = target.device
    return torch.cat([target(batch.to(device).float() / 255).cpu() for batch in images.bytes.split(32)])


def accuracy(target: Target, images: Images) -> float:
    """Share of the images, in [0, 1], that the target puts into the right class."""
    return (answers(target, images).argmax(1) == images.classes).double().mean().item()


def profile(target: Target, images: Images) -> bytes:
    """A safetensors file of the mean probabilities (K, K) of each person's images, all above 0.

    It is made from training images: differential privacy of the weights does not protect it.
    """
    scores = answers(target, images).double().softmax(1).clamp_min(1e-12)
    means = torch.stack([scores[images.classes == person].mean(0) for person in range(len(target.classes))])
    return save({"profile": means / means.sum(1, keepdim=True)}, {"target": target.digest})


def calibration_error(correct: ArrayLike, confidence: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: the mean gap of accuracy and confidence over equal bins, weighted by their images.

    correct (N,): 0 or 1. confidence (N,): the probability of the predicted class. Guo et al., On Calibration of Modern
    Neural Networks, ICML 2017, eq. 3.
    """
    correct, confidence = np.asarray(correct, np.float64), np.asarray(confidence, np.float64)
    index = np.ceil(confidence * bins).clip(1, bins).astype(int)  # bins are open below, closed above
    sums = np.abs(np.bincount(index, correct - confidence, minlength=bins + 1))
    return float(sums.sum() / len(correct))


def refuse_unfit(
    target: Target, people: People, features: bool = False, gradients: Literal["search", "projection"] | None = None
) -> None:
    """Raises GmiError if the target cannot take a blank image of the people, or lacks one output per person.

    features: ask for its penultimate features, too. gradients: what takes one of its logits: a white-box search, or the
    oracle projection; None: nothing does.
    """
    steep = gradients is not None
    blank = torch.zeros(1, *people.enrolment.bytes.shape[1:], device=target.device, requires_grad=steep)
    cannot = f"The target cannot take an image of {'x'.join(map(str, blank.shape[2:]))}"
    with (
        torch.set_grad_enabled(steep),
        foreign(lambda why: f"{cannot}: check target.input and target.penultimate (in torch's words: {why})."),
    ):
        try:
            logits = target.activations(blank)[0] if features else target(blank)
        except GmiError as error:
            if spare := _background(target, people):
                raise GmiError(
                    f"The target has one output more than people, and without its {spare} it knows them: put the "
                    f'people\'s names into a text file, one a line, with a line "background" {spare}, and set '
                    "target.outputs to it."
                ) from error
            raise
    if gradients is not None:
        _refuse_without_gradient(logits, blank, _INSTEAD[gradients])


_INSTEAD = {
    "search": "hand over a network that can be differentiated, or audit it by its answers (access: {type: scores})",
    "projection": "the oracle projection needs one: name a network in controls.guide, or set controls.oracle: false",
}


def _refuse_without_gradient(logits: Tensor, image: Tensor, instead: str) -> None:
    """Raises GmiError if the logits have no gradient in the image, so that nothing can be optimised through them."""
    if not logits.requires_grad:
        raise GmiError(f"The target's outputs have no gradient: it works under no_grad or detaches them; {instead}.")
    with foreign(lambda why: f"The target's gradient cannot be taken (in torch's words: {why}): {instead}."):
        torch.autograd.grad(logits.sum(), image)


@torch.no_grad()
def _background(target: Target, people: People) -> str | None:
    """Where a network has one output for nobody: "first" or "last", by which it is right more often than not."""
    images, device = people.enrolment, target.device
    outputs = [target.outputs(target.input(batch.to(device).float() / 255)).cpu() for batch in images.bytes.split(32)]
    if any(part.ndim != 2 or part.shape[1] != len(target.classes) + 1 for part in outputs):
        return None
    logits = torch.cat(outputs)
    shares = {
        name: (part.argmax(1) == images.classes).double().mean().item()
        for name, part in (("first", logits[:, 1:]), ("last", logits[:, :-1]))
    }
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] > 0.5 else None
