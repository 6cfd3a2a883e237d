"""Networks of the shipped targets. Yours may be anywhere: `target.factory` names a callable that returns a module."""

from itertools import pairwise

import torch.nn.functional as F
from facenet_pytorch import InceptionResnetV1
from torch import Tensor, nn

from gmi.assets.catalogue import resolve
from gmi.assets.weights import load_weights


class FaceNetClassifier(nn.Module):
    """A frozen FaceNet backbone with a linear head, as closed-set face recognisers are deployed.

    Schroff et al., FaceNet, CVPR 2015. It takes images (N, 3, 160, 160); the head takes unit-norm embeddings (N, 512),
    scaled so that its logits have a usual range.
    """

    def __init__(self, people: int, backbone: str | None = "asset:facenet-casia/model.safetensors") -> None:
        """backbone: weights in safetensors; None: random weights, for a state_dict that brings its own."""
        super().__init__()
        self.backbone = InceptionResnetV1(pretrained=None, classify=False)
        if backbone is not None:
            load_weights(self.backbone, resolve(backbone))
        self.backbone.eval().requires_grad_(False)
        self.head = nn.Linear(512, people)

    def train(self, mode: bool = True) -> "FaceNetClassifier":
        """Sets the mode of the head; the backbone is frozen and stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.head(8.0 * self.backbone(images))


class SmallCnn(nn.Module):
    """A plain convolutional classifier, trained from scratch. It takes grey images (N, 1, 64, 64)."""

    def __init__(self, people: int, width: int = 32) -> None:
        super().__init__()
        widths = (1, width, 2 * width, 4 * width, 4 * width)
        self.features = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
                for a, b in pairwise(widths)
            )
        )
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4 * width * 16, people)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(F.adaptive_avg_pool2d(self.features(images), 4).flatten(1)))
