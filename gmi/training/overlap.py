"""Whom public images show: nobody should train a prior on the people whom it is to help reconstruct."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from gmi.checks import copies, lookalikes
from gmi.data.images import Images
from gmi.data.people import People
from gmi.errors import GmiError
from gmi.metrics import identity
from gmi.targets.module import Input
from gmi.targets.networks import FaceNetClassifier

_INPUT = Input(size=(160, 160), mean=(0.5,), std=(0.501961,))  # (x - 127.5) / 128 of [0, 255]


class FaceSpace:
    """FaceNet's features (N, 512) of images (N, C, H, W) as bytes, without alignment."""

    def __init__(self, device: torch.device, batch: int) -> None:
        self._network = FaceNetClassifier(1).backbone.to(device)
        self._device, self._batch = device, batch

    @torch.no_grad()
    def __call__(self, images: Tensor) -> np.ndarray:
        pieces = images.split(self._batch)
        pieces = tqdm(pieces, desc="faces", leave=False, delay=5)
        return torch.cat([self._network(_INPUT(some.to(self._device).float() / 255)).cpu() for some in pieces]).numpy()


def overlap(people: People, public: Images, space: FaceSpace) -> str:
    """How many public images look like the private people, at a false match rate of 0.1 %.

    Raises GmiError where files of both are the same.
    """
    same = copies(people.training.digests + people.enrolment.digests, public.digests)
    if same.severity == "stop":
        raise GmiError(same.message)
    shown, trained, enrolled = (
        F.normalize(torch.from_numpy(space(some.bytes))) for some in (public, people.training, people.enrolment)
    )
    ids, whose = np.arange(len(people.names)), people.enrolment.classes.numpy()
    strangers = identity.to_people((trained @ enrolled.T).numpy(), whose)
    (cut,) = identity.thresholds(strangers, people.training.classes.numpy(), ids, fmrs=(1e-3,))
    return lookalikes(identity.to_people((shown @ enrolled.T).numpy(), whose), cut).message
