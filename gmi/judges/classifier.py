"""The evaluation classifier of the literature: a figure to compare with published ones, never a verdict.

It knows the private images and is itself a classifier, so an image that fools the target often fools it too.
"""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import alexnet

from gmi.assets.catalogue import resolve
from gmi.assets.weights import misfit, read_weights
from gmi.errors import GmiError
from gmi.settings import settings

_SIZE = 224
_BATCH = 64
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as torchvision's weights expect


@settings
class Probe:
    """A multinomial logistic regression on frozen AlexNet features (Krizhevsky et al., NeurIPS 2012).

    Differs from the literature, which fine-tunes a face network for hours: this takes seconds and is deterministic.
    Measured accuracy on held-out images: ORL 1.000 (5 + 5 images of 40 people), LFW .758 (10 + 10 of 59); it takes 7 ms
    per image on two CPU cores, and about a second for the head.
    """

    type: Literal["probe"] = "probe"
    weights: str = "asset:lpips"  # a folder with torchvision's alexnet.safetensors
    decay: float = 1e-3  # factor of half the head's squared norm, which is added to the mean cross-entropy
    steps: int = 100  # largest number of iterations of L-BFGS

    def load(self, device: torch.device) -> "ProbeJudge":
        """The judge, not fitted yet. Raises GmiError if the weights are not AlexNet's."""
        path = resolve(self.weights) / "alexnet.safetensors"
        with torch.device("meta"):  # no time and no global random numbers spent on weights that are replaced at once
            network = alexnet(weights=None).features
        named = read_weights(path).items()
        state = {key.removeprefix("features."): value for key, value in named if key.startswith("features.")}
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise GmiError(f"{path} does not hold torchvision's alexnet: {misfit(network, state)}.") from error
        return ProbeJudge(network.eval().requires_grad_(False).to(device), device, self.decay, self.steps)


class ProbeJudge:
    """A `ClassifierJudge`, with its feature space."""

    name = "probe"
    trained_on = frozenset({"ImageNet"})  # and, once fitted, the images that `fit` was given

    def __init__(self, network: nn.Module, device: torch.device, decay: float, steps: int) -> None:
        self._network, self._device, self._decay, self._steps = network, device, decay, steps
        self._head: tuple[Tensor, Tensor] | None = None  # weight (K, 9216) and bias (K,)

    def weights(self) -> Iterable[Tensor]:
        """The parameters of the frozen network, to compare with the target's."""
        return self._network.parameters()

    def embed(self, images: Tensor) -> Tensor:
        """Features (N, 9216), float32 on the CPU, of images (N, 1 or 3, H, W) in [0, 1], resized to 224x224."""
        features = [torch.empty(0, 9216)]
        mean, std = (torch.tensor(values, device=self._device)[:, None, None] for values in (_MEAN, _STD))
        with torch.no_grad():
            for i in range(0, len(images), _BATCH):
                batch = images[i : i + _BATCH].to(self._device).float()
                batch = F.interpolate(batch, (_SIZE, _SIZE), mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
                features.append(self._network((batch - mean) / std).flatten(1).cpu())
        return torch.cat(features)

    def fit(self, images: Tensor, classes: Tensor) -> None:
        """Trains the head on images (N, 1 or 3, H, W) in [0, 1] of classes (N,) int64; K is the greatest class + 1.

        The loss is convex and the start is 0, so the result needs no seed.
        """
        features, classes = self.embed(images).to(self._device), classes.to(self._device)
        mean, scale = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
        features = (features - mean) / scale
        weight = torch.zeros(int(classes.max()) + 1, features.shape[1], device=self._device, requires_grad=True)
        bias = torch.zeros(len(weight), device=self._device, requires_grad=True)
        optimiser = torch.optim.LBFGS(
            [weight, bias], max_iter=self._steps, history_size=10, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = F.cross_entropy(F.linear(features, weight, bias), classes)
            loss = loss + self._decay / 2 * weight.square().sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        with torch.no_grad():  # the head takes in the standardisation
            weight = weight / scale
            self._head = weight.cpu(), (bias - weight @ mean).cpu()

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, K), float32 on the CPU, of images (N, 1 or 3, H, W) in [0, 1]. Raises GmiError before `fit`."""
        if self._head is None:
            raise GmiError("The probe must be fitted before it can classify: fit(images, classes).")
        return F.linear(self.embed(images), *self._head)
