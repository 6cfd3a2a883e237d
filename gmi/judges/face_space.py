"""A feature space of faces, in which sets of images are compared: for the training of priors, and the overlap check."""

import numpy as np
import torch
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
