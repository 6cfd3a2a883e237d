"""Classifiers of a user's own as targets, through `ModuleTarget`: torchvision, transformers, a plain module."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from gmi.errors import GmiError
from gmi.targets.module import Input, ModuleTarget, Target
from gmi.targets.outputs import outputs

LUMA = np.array([0.299, 0.587, 0.114])


class Plain(nn.Module):
    """(N, 1, 12, 10) to logits (N, people)."""

    def __init__(self, people: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2))
        self.hidden = nn.Linear(3 * 6 * 5, 7)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(7, people)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.hidden(self.body(images).flatten(1)).tanh()))


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    config.num_labels = 5
    return ViTForImageClassification(config)


def save_resnet(module: nn.Module, folder: Path) -> dict:
    save_file(module.state_dict(), folder / "model.safetensors")
    arguments = {"weights": None, "num_classes": 4}
    weights = str(folder / "model.safetensors")
    return {"factory": "torchvision.models:resnet18", "arguments": arguments, "weights": weights}


def save_vit(module: Any, folder: Path) -> dict:
    module.save_pretrained(folder)
    factory = "transformers:AutoModelForImageClassification.from_pretrained"
    return {"factory": factory, "arguments": {"pretrained_model_name_or_path": str(folder)}}


def save_plain(module: nn.Module, folder: Path) -> dict:
    torch.save(module.state_dict(), folder / "model.pt")
    return {"factory": f"{__name__}:Plain", "arguments": {"people": 6}, "weights": str(folder / "model.pt")}


@dataclasses.dataclass(frozen=True)
class Own:
    """A classifier that a user brings, and what is known of it."""

    make: Callable[[], nn.Module]
    save: Callable[[nn.Module, Path], dict]  # into a folder; gives the settings that load it
    input: Input
    people: int
    images: tuple[int, int, int]  # channels, height, width of what it is asked about
    width: int  # of its penultimate features
    other: tuple[str, int]  # a part to name as `penultimate`, and its input's width


OWN = {
    "torchvision": Own(
        make=lambda: resnet18(weights=None, num_classes=4),
        save=save_resnet,
        input=Input(size=(64, 64), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        people=4,
        images=(3, 150, 100),
        width=512,
        other=("avgpool", 512 * 2 * 2),
    ),
    "transformers": Own(
        make=vit,
        save=save_vit,
        input=Input(size=(32, 32), colour="grey as rgb", mean=(0.5,), std=(0.5,)),
        people=5,
        images=(1, 24, 20),
        width=16,
        other=("vit.layernorm", 17 * 16),
    ),
    "plain": Own(
        make=lambda: Plain(6),
        save=save_plain,
        input=Input(size=(12, 10), colour="grey"),
        people=6,
        images=(3, 12, 10),
        width=7,
        other=("hidden", 90),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def _offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # it was read from the environment at import
        yield


@dataclasses.dataclass(frozen=True)
class Brought:
    """A row of the table, made, saved and loaded."""

    own: Own
    module: nn.Module
    settings: dict
    target: Target

    def images(self) -> Tensor:
        return torch.rand(3, *self.own.images, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module", params=OWN)
def brought(request, tmp_path_factory, _one_thread, _offline) -> Brought:
    own = OWN[request.param]
    module = made(own)
    settings = own.save(module, tmp_path_factory.mktemp("own"))
    return Brought(own, module, settings, load(own, settings))


def made(own: Own) -> nn.Module:
    """Random weights, and batch statistics that are not those of a new layer."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = own.make().eval()
        for name, value in module.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(std=0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    return module


def load(own: Own, settings: dict, penultimate: str | None = None) -> Target:
    config = ModuleTarget(**settings, input=own.input, penultimate=penultimate)
    return config.load(tuple(f"p{one}" for one in range(own.people)))


def prepared(own: Own, images: Tensor) -> Tensor:
    """Preprocessing over again, by Pillow and numpy, in float64 but for the resize."""
    height, width = own.input.size
    out = []
    for image in images.double().numpy():
        if own.input.colour != "rgb" and len(image) == 3:
            image = np.tensordot(LUMA, image, 1)[None]
        planes = [Image.fromarray(plane.astype(np.float32)) for plane in image]
        planes = [np.asarray(one.resize((width, height), Image.Resampling.BILINEAR)) for one in planes]
        planes = planes * 3 if own.input.colour == "grey as rgb" else planes
        mean, std = (np.reshape(values, (-1, 1, 1)) for values in (own.input.mean, own.input.std))
        out.append((np.stack(planes).astype(np.float64) - mean) / std)
    return torch.from_numpy(np.stack(out)).float()


def test_logits_are_those_of_the_module_called_by_hand(brought):
    with torch.no_grad():
        expected = brought.module(prepared(brought.own, brought.images()))
    expected = getattr(expected, "logits", expected)
    assert expected.shape == (3, brought.own.people)
    assert (expected - expected[0]).abs().max() > 1e-3  # images make a difference to this module
    torch.testing.assert_close(brought.target(brought.images()), expected, rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_images(brought):
    """And are those of finite differences: the rise along a gradient is its norm."""
    target, images = brought.target, brought.images().requires_grad_()
    (gradient,) = torch.autograd.grad(target(images)[:, 1].sum(), images)
    norms = gradient.flatten(1).norm(dim=1)
    assert (norms > 0).all()
    small = 1e-2 * gradient / norms[:, None, None, None]
    with torch.no_grad():
        rise = (target(images + small) - target(images - small))[:, 1] / 2e-2
    torch.testing.assert_close(rise, norms, rtol=0.05, atol=1e-3)
    assert all(value.grad is None and not value.requires_grad for value in target.module.parameters())


def test_penultimate_features_are_the_last_layers_input_or_the_named_parts(brought):
    target, images = brought.target, brought.images()
    logits, features = target.activations(images)
    assert features.shape == (3, brought.own.width)
    last = [part for part in target.module.modules() if isinstance(part, nn.Linear)][-1]
    torch.testing.assert_close(last(features), logits)
    torch.testing.assert_close(logits, target(images))
    name, width = brought.own.other
    assert load(brought.own, brought.settings, name).activations(images)[1].shape == (3, width)


def test_the_digest_is_of_the_weights(brought, tmp_path):
    assert load(brought.own, brought.settings).digest == brought.target.digest
    other = copy.deepcopy(brought.module)
    with torch.no_grad():
        next(other.parameters()).flatten()[0] += 1e-3
    assert load(brought.own, brought.own.save(other, tmp_path)).digest != brought.target.digest


def test_a_head_that_would_be_drawn_at_random_is_refused(tmp_path):
    """A backbone of transformers alone; weights of one's own for the head may come from elsewhere."""
    from transformers import ViTModel

    backbone = ViTModel(vit().config)
    backbone.save_pretrained(tmp_path / "backbone")
    settings = save_vit(backbone, tmp_path / "backbone")
    with pytest.raises(GmiError, match=r"lacks classifier\.bias \(2 such\), drawn at random"):
        load(OWN["transformers"], settings)
    plan = ModuleTarget(**settings, input=OWN["transformers"].input)
    assert plan.build().config.num_labels and plan.load(("p0", "p1"), untrained=True)  # for a training of its head
    save_file(vit().state_dict(), tmp_path / "whole.safetensors")
    assert load(OWN["transformers"], settings | {"weights": str(tmp_path / "whole.safetensors")}).classes


@pytest.mark.parametrize("names", [("p4", "p3", "p2", "p1", "p0"), ("p0", "p1", "p2", "p3", "p4")])
def test_a_model_that_names_its_outputs_is_compared_with_the_folders(tmp_path, names):
    module = vit()
    module.config.id2label = dict(enumerate(names))
    settings = save_vit(module, tmp_path)
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    if names[0] == "p0":
        assert load(OWN["transformers"], settings).order.plain
        return
    with pytest.raises(GmiError, match=r"set target\.outputs: model\.$"):
        load(OWN["transformers"], settings)
    sorted_, own = (
        load(OWN["transformers"], settings | {"outputs": one}) for one in (("p0", "p1", "p2", "p3", "p4"), "model")
    )
    assert own(images).equal(sorted_(images).flip(1)) and own.digest != sorted_.digest


def test_a_model_with_names_of_its_own_making_is_left_alone(tmp_path):
    """LABEL_0 and its like, which transformers gives where nobody has named anything, say nothing."""
    assert load(OWN["transformers"], save_vit(vit(), tmp_path)).order.plain
    with pytest.raises(GmiError, match="this model has no names for its outputs"):
        load(OWN["transformers"], save_vit(vit(), tmp_path) | {"outputs": "model"})


def test_natural_order_is_by_the_numbers_in_names():
    people = ("a1b2", "a1b10", "a02", "a10", "b")
    assert outputs("natural", tuple(sorted(people))).names == ("a1b2", "a1b10", "a02", "a10", "b")
    assert outputs("natural", ("1", "10", "2")).columns == (0, 2, 1)
    assert outputs(("2", "nobody", "1", "10"), ("1", "10", "2")).columns == (2, 3, 0)
    with pytest.raises(GmiError, match="10 stands 0 times in the list"):
        outputs(("2", "1"), ("1", "10", "2"))
