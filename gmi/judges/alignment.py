"""Alignment of faces by five points, as recognisers of the ArcFace family expect it.

Deng et al., ArcFace, CVPR 2019: eyes, nose and corners of the mouth are moved to fixed places by a similarity transform
(Umeyama, IEEE TPAMI 1991). Here the points are means of 68 landmarks, which a network finds in a box around the face.
Places are (x, y) in pixels, from the upper left corner of an image: the centre of its first pixel is (0.5, 0.5).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.assets.weights import load_weights
from gmi.errors import GmiError
from gmi.judges.mobilefacenet import landmarks
from gmi.views import grey, single

SIDE = 112
"""Pixels on each side of an aligned face, unless a recogniser takes other ones."""
TEMPLATE = 0.5 + torch.tensor(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Places (5, 2) of eyes, nose and corners of the mouth in an aligned face of that side."""

_SHORTEST = 80  # pixels: the smallest face that dlib's detector finds
_LANDMARK_SIDE = 64  # pixels on each side of what the landmark network takes
_FINE = 128  # pixels: larger faces are shrunk first, because a sampled pixel sees no more than its neighbours
_WIDER = 1.25  # side of the second pass's box, over the larger extent of the first pass's landmarks
# numbers of the landmarks whose mean is a point: eyes, nose, corners of the mouth
_POINTS = ((37, 38, 40, 41), (43, 44, 46, 47), (30,), (48, 60), (54, 64))


class Alignment:
    """Aligned faces of images.

    The box is the largest face of MTCNN (Zhang et al., IEEE SPL 2016), else the whole image. A second pass seeks the
    landmarks again, in a square around those of the first.
    """

    def __init__(self, weights: Path, device: torch.device) -> None:
        """weights: the landmark network's file. Raises GmiError if it is missing or does not fit."""
        from facenet_pytorch import MTCNN

        with torch.random.fork_rng(devices=[]):
            network, self._detector = landmarks(), MTCNN()
        load_weights(network, weights)
        self._network, self._device = network.eval().requires_grad_(False).to(device), device

    def __call__(self, images: Tensor, side: int = SIDE) -> tuple[Tensor, int]:
        """Faces (N, 3, side, side) of images (N, 3, H, W) in [0, 1]; edges go on beyond an image.

        Differentiable, as if the places of faces were given. The second value is the number of images in which no face
        was detected.
        """
        faces, boxes, missed = [], [], 0
        with single(torch.device("cpu")), single(self._device):  # places are fractions of a pixel
            for image in images:
                with (
                    torch.no_grad()
                ):  # one at a time on the CPU: a box does not depend on the device or on other images
                    detected = self._detector.detect(image.detach().cpu().permute(1, 2, 0) * 255)[0]
                face, box = _shrunk(image, detected)
                faces.append(face)
                boxes.append(box)
                missed += detected is None
            shown = [face.detach().cpu() for face in faces]
            marks = self._landmarks(shown, boxes)
            marks = self._landmarks(shown, [_around(places) for places in marks])
            aligned = [
                sampled(face, similarity_transform(TEMPLATE * side / SIDE, five_points(places)), side)
                for face, places in zip(faces, marks, strict=True)
            ]
        return torch.stack(aligned) if aligned else images.new_empty(0, 3, side, side), missed

    @torch.no_grad()
    def _landmarks(self, faces: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
        """The 68 landmarks (68, 2) of each face in its box."""
        found = [torch.empty(0, 136)]
        crops = [_cut(grey(face[None])[0], box) for face, box in zip(faces, boxes, strict=True)]
        if crops:
            found.append(self._network(torch.stack(crops).to(self._device) * (255 / 256)).cpu())
        shares = torch.cat(found).view(-1, 68, 2)
        return [box[:2] + share * (box[2:] - box[:2]) for box, share in zip(boxes, shares, strict=True)]


def five_points(marks: Tensor) -> Tensor:
    """Places (5, 2) of eyes, nose and corners of the mouth, of landmarks (68, 2)."""
    return torch.stack([marks[list(numbers)].mean(0) for numbers in _POINTS])


def similarity_transform(source: Tensor, target: Tensor) -> Tensor:
    """The rotation, scale and shift (2, 3) that moves places (P, 2) nearest to others in the mean square.

    Umeyama 1991, eq. 40-42: never a reflection.
    """
    centre, other = source.mean(0), target.mean(0)
    left, singular, right = torch.linalg.svd((target - other).T @ (source - centre))
    signs = torch.tensor([1.0, float(torch.sign(left.det() * right.det()))])
    scale = (singular * signs).sum() / (source - centre).square().sum().clamp_min(1e-12)
    turn = scale * left @ signs.diag() @ right
    return torch.cat([turn, (other - turn @ centre)[:, None]], 1)


def sampled(image: Tensor, transform: Tensor, side: int) -> Tensor:
    """The image (C, side, side) whose places a transform (2, 3) moves to places of an image (C, H, W); bilinear."""
    line = torch.arange(side) + 0.5
    places = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1) @ transform[:, :2].T + transform[:, 2]
    grid = (places * 2 / torch.tensor([image.shape[2], image.shape[1]]) - 1).to(image.device)
    return F.grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)[0]


def prepared(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) on the CPU, enlarged by a whole number so that the shorter side has at least 80 pixels.

    Raises GmiError if pixels are not finite.
    """
    return enlarged(finite(images))


def finite(images: Tensor) -> Tensor:
    """The images on the CPU, without a graph. Raises GmiError if pixels are not finite."""
    images = images.detach().cpu().float()
    if not images.isfinite().all():
        raise GmiError("Some images have pixels that are not finite: the search that made them has diverged.")
    return images


def enlarged(images: Tensor) -> Tensor:
    """What `prepared` makes of images, where they are and differentiable."""
    images = images.float().expand(-1, 3, -1, -1)
    factor = -(-_SHORTEST // min(images.shape[2:]))
    if factor > 1:
        images = F.interpolate(images, scale_factor=factor, mode="bicubic")
    return images.clamp(0, 1)


def _shrunk(image: Tensor, detected: Any) -> tuple[Tensor, Tensor]:
    """The image (3, H, W), shrunk if its face is large, and the box (4,) of its largest face, else of all of it.

    A box is left, top, right and bottom; `detected` is None or some boxes, the largest first.
    """
    height, width = image.shape[1:]
    box = torch.tensor([0.0, 0.0, width, height] if detected is None else [*map(float, detected[0])])
    shrink = _FINE / float((box[2:] - box[:2]).max())
    if shrink < 1:
        size = [max(round(side * shrink), 1) for side in (height, width)]
        image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        box = box * torch.tensor([size[1] / width, size[0] / height]).repeat(2)
    return image, box


def _cut(image: Tensor, box: Tensor) -> Tensor:
    """What the landmark network takes (C, 64, 64), of the box (4,) in an image (C, H, W)."""
    scale = (box[2:] - box[:2]) / _LANDMARK_SIDE
    return sampled(image, torch.cat([scale.diag(), box[:2, None]], 1), _LANDMARK_SIDE)


def _around(marks: Tensor) -> Tensor:
    """The square box (4,) around landmarks (68, 2)."""
    low, high = marks.amin(0), marks.amax(0)
    half = (high - low).max() * _WIDER / 2
    return torch.cat([(low + high) / 2 - half, (low + high) / 2 + half])
