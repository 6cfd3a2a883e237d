"""Feature spaces in which sets of images are compared: for the training of priors, and for the overlap check."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from gmi.assets.catalogue import resolve
from gmi.assets.weights import load_weights
from gmi.judges.face import FACENET_INPUT


class FaceSpace:
    """FaceNet's features (N, 512) of images (N, 1 or 3, H, W), given as bytes, without alignment.

    Schroff et al., CVPR 2015, with weights trained on CASIA-WebFace.
    """

    def __init__(self, device: torch.device, batch: int) -> None:
        """batch: number of images that are embedded at once. Raises GmiError if the weights are missing or damaged."""
        from facenet_pytorch import InceptionResnetV1

        network = InceptionResnetV1(pretrained=None, classify=False)
        load_weights(network, resolve("asset:facenet-casia/model.safetensors"))
        self._network = network.eval().requires_grad_(False).to(device)
        self._device, self._batch = device, batch

    @torch.no_grad()
    def __call__(self, images: Tensor) -> np.ndarray:
        batches = tqdm(images.split(self._batch), desc="faces", leave=False, delay=5)
        return torch.cat([self._embed(batch).cpu() for batch in batches]).numpy()

    def _embed(self, batch: Tensor) -> Tensor:
        return self._network(FACENET_INPUT(batch.to(self._device).float() / 255))


class PixelSpace:
    """Pixels (N, C x 256) of images (N, C, H, W), given as bytes, shrunk to 16 x 16: for images of any kind."""

    def __call__(self, images: Tensor) -> np.ndarray:
        return F.adaptive_avg_pool2d(images.float() / 255, min(16, *images.shape[2:])).flatten(1).numpy()


def space_of(subject: Literal["faces", "objects"], device: torch.device, batch: int) -> FaceSpace | PixelSpace:
    """The space for images of that subject. Raises GmiError as `FaceSpace`."""
    return FaceSpace(device, batch) if subject == "faces" else PixelSpace()
