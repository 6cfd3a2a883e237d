"""Alignment by five points, and the networks of MobileFaceNet against their ONNX files."""

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gmi.assets.archives import open_archive
from gmi.assets.catalogue import find, resolve
from gmi.assets.npm import get_package
from gmi.assets.weights import load_weights
from gmi.judges.alignment import TEMPLATE, Alignment, prepared, sampled, similarity_transform
from gmi.judges.mobilefacenet import landmarks, recogniser

pytestmark = pytest.mark.filterwarnings("error")


def orl(people: int) -> Tensor:
    """One image (people, 1, 112, 92) of each in [0, 1]."""
    paths = [sorted(folder.iterdir())[0] for folder in sorted(resolve("asset:orl/images").iterdir())[:people]]
    return torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths])).float()[:, None] / 255


def turned(degrees: float, scale: float, shift: tuple[float, float]) -> Tensor:
    """A similarity transform (2, 3)."""
    angle = math.radians(degrees)
    turn = scale * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return torch.cat([turn, torch.tensor(shift)[:, None]], 1)


@pytest.fixture(scope="module")
def alignment() -> Alignment:
    return Alignment(resolve("asset:mobilefacenet/landmarks.safetensors"), torch.device("cpu"))


@pytest.mark.parametrize("degrees, scale, shift", [(0, 1, (0, 0)), (30, 0.5, (3, -8)), (-170, 2.5, (100, 40))])
def test_a_planted_transform_is_found(degrees: float, scale: float, shift: tuple[float, float]) -> None:
    planted = turned(degrees, scale, shift)
    moved = TEMPLATE @ planted[:, :2].T + planted[:, 2]
    torch.testing.assert_close(similarity_transform(TEMPLATE, moved), planted, rtol=1e-4, atol=1e-3)


def test_places_that_do_not_fit_get_the_least_squares_and_no_reflection() -> None:
    torch.manual_seed(0)
    target = TEMPLATE + 4 * torch.randn(5, 2)
    a = torch.zeros(10, 4)  # x' = p x - q y + s, y' = q x + p y + t: linear in p, q, s and t
    a[0::2, 0], a[0::2, 1], a[0::2, 2] = TEMPLATE[:, 0], -TEMPLATE[:, 1], 1
    a[1::2, 0], a[1::2, 1], a[1::2, 3] = TEMPLATE[:, 1], TEMPLATE[:, 0], 1
    p, q, s, t = torch.linalg.lstsq(a, target.reshape(-1, 1)).solution.flatten()
    expected = torch.stack([torch.stack([p, -q, s]), torch.stack([q, p, t])])
    torch.testing.assert_close(similarity_transform(TEMPLATE, target), expected, rtol=1e-3, atol=1e-2)
    mirrored = TEMPLATE * torch.tensor([-1.0, 1.0])
    assert similarity_transform(TEMPLATE, mirrored)[:, :2].det() > 0


def test_a_pixel_is_where_it_was() -> None:
    image = torch.arange(12.0).view(1, 3, 4)
    torch.testing.assert_close(sampled(image, turned(0, 1, (1, 0)), 3), image[:, :, 1:])


def test_a_face_that_is_turned_comes_back(alignment: Alignment) -> None:
    images = prepared(orl(3))
    straight, missed = alignment(images)
    assert straight.shape == (3, 3, 112, 112) and missed == 0
    for degrees, scale in ((15, 0.8), (-15, 0.5)):
        # a larger canvas, in which the face is turned about its middle
        turn = turned(degrees, scale, (0, 0))
        centre = torch.tensor([46.0, 56.0]) - turn[:, :2] @ torch.tensor([120.0, 120.0])
        canvas = torch.stack([sampled(image, torch.cat([turn[:, :2], centre[:, None]], 1), 240) for image in images])
        back, missed = alignment(canvas)
        middle = (slice(None), slice(None), slice(30, 100), slice(30, 82))
        own = torch.corrcoef(torch.cat([straight[middle].flatten(1), back[middle].flatten(1)]))[:3, 3:]
        assert missed == 0 and own.diagonal().min() > 0.9, own
    assert alignment(images[:0])[0].shape == (0, 3, 112, 112)
    larger, _ = alignment(images, 224)
    torch.testing.assert_close(F.avg_pool2d(larger, 2), straight, rtol=0, atol=0.1)


@pytest.mark.slow
def test_the_networks_give_what_the_package_gives(tmp_path: Path) -> None:
    """The ONNX files that the asset was made of, run by onnxruntime."""
    asset = find("mobilefacenet")
    with open_archive(get_package(asset.package, asset.version, asset.filename, asset.sha256, tmp_path)) as archive:
        for file, name, build, shape in (
            ("fr_feature", "recogniser", recogniser, (3, 112, 112)),
            ("fr_landmark", "landmarks", landmarks, (1, 64, 64)),
        ):
            model = archive.read(f"model/{file}.onnx")
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            network = build().eval()
            load_weights(network, resolve(f"asset:mobilefacenet/{name}.safetensors"))
            images = torch.randn(3, *shape)
            expected = [np.asarray(session.run(None, {"input": image[None].numpy()})[0]) for image in images]
            with torch.no_grad():
                torch.testing.assert_close(
                    network(images), torch.from_numpy(np.concatenate(expected)), rtol=0, atol=1e-5
                )
