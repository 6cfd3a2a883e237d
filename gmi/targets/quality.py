"""What a target is good for: how often it is right, how sure it is, and what it usually says of a person."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors.torch import save
from torch import Tensor

from gmi.data.images import Images
from gmi.targets.module import Target


@torch.no_grad()
def answers(target: Target, images: Images) -> Tensor:
    """Logits (N, K) on the CPU."""
    device = next(target.module.parameters()).device
    return torch.cat([target(some.to(device).float() / 255).cpu() for some in images.bytes.split(32)])


def accuracy(target: Target, images: Images) -> float:
    return (answers(target, images).argmax(1) == images.classes).double().mean().item()


def profile(target: Target, images: Images) -> bytes:
    """A safetensors file of the mean probabilities (K, K) of the images of each person, none of which is 0.

    It is made of training images: where these are protected by differential privacy, it is not.
    """
    scores = answers(target, images).double().softmax(1).clamp_min(1e-12)
    means = torch.stack([scores[images.classes == person].mean(0) for person in range(len(target.classes))])
    return save({"profile": means / means.sum(1, keepdim=True)}, {"target": target.digest})


def calibration_error(right: ArrayLike, sure: ArrayLike, bins: int = 15) -> float:
    """Mean distance of accuracy and confidence over bins of equal width, weighed by their images.

    right (N,) 0 or 1; sure (N,): the probability of the class that is named. Guo et al., On Calibration of Modern
    Neural Networks, ICML 2017, eq. 3.
    """
    right, sure = np.asarray(right, np.float64), np.asarray(sure, np.float64)
    place = np.ceil(sure * bins).clip(1, bins).astype(int)  # bins are open below, closed above
    sums = np.abs(np.bincount(place, right - sure, minlength=bins + 1))
    return float(sums.sum() / len(right))
