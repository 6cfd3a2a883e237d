"""Judges of one's own: loaded from an ONNX file or a module, checked, and refused where they are not independent."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from gmi import toy
from gmi.assets.catalogue import resolve
from gmi.assets.weights import load_weights
from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.judges import ModuleRecogniser, OnnxRecogniser
from gmi.judges.aligned import MobileFaceNet
from gmi.judges.face import FaceNet
from gmi.judges.independence import refusal
from gmi.oracles.access import ScoresOnly, VerificationOnly, WholeModel
from gmi.protocols import WhiteBoxOracle
from gmi.rng import Rng
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.search.solve import Solve
from gmi.targets.module import Target
from gmi.targets.served import Served
from gmi.targets.templates import TemplateTarget
from gmi.views import Input

pytestmark = pytest.mark.filterwarnings("error")

CPU = torch.device("cpu")
SIDE = 16
INPUT = Input(size=(SIDE, SIDE), colour="grey")
FACES = Input(size=(112, 112), mean=(127 / 255,), std=(128 / 255,))
KNOWN = frozenset({"MS1MV2"})
PACKAGED = "gmi.judges.mobilefacenet:recogniser"


class Small(nn.Module):
    """Templates (N, outputs) of grey images (N, 1, 16, 16)."""

    def __init__(self, outputs: int = 12, channels: int = 1, flat: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 5, 4)
        self.linear = nn.Linear(72 if flat else 3, outputs)
        self.flat = flat

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        return self.linear(x.flatten(1) if self.flat else x)


def nothing() -> None: ...


def orl(people: int) -> Tensor:
    """One image (people, 1, 112, 92) of each in [0, 1]."""
    paths = [sorted(folder.iterdir())[0] for folder in sorted(resolve("asset:orl/images").iterdir())[:people]]
    return torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths])).float()[:, None] / 255


@pytest.fixture
def weights(tmp_path: Path) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(Small().state_dict(), tmp_path / "small.safetensors")
    return str(tmp_path / "small.safetensors")


def module(file: str, **changes: Any) -> ModuleRecogniser:
    made = {"factory": f"{__name__}:Small", "weights": file, "input": INPUT, "align": "none", "trained_on": KNOWN}
    return ModuleRecogniser(**{**made, **changes})


def onnx_of(network: nn.Module, path: Path, batch: int | None = None) -> str:
    """An ONNX file of `Small`, written by hand: a convolution and a linear layer."""
    state = {name: numpy_helper.from_array(value.numpy(), name) for name, value in network.state_dict().items()}
    nodes = [
        helper.make_node("Conv", ["images", "conv.weight", "conv.bias"], ["x"], strides=[4, 4], kernel_shape=[5, 5]),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "linear.weight", "linear.bias"], ["template"], transB=1),
    ]
    number = TensorProto.FLOAT
    taken = helper.make_tensor_value_info("images", number, [batch or "N", 1, SIDE, SIDE])
    given = helper.make_tensor_value_info("template", number, [batch or "N", 12])
    graph = helper.make_graph(nodes, "small", [taken], [given], list(state.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_a_module_and_its_onnx_file_are_one_judge(weights: str, tmp_path: Path) -> None:
    network = Small()
    judge = module(weights).load(CPU)
    network.load_state_dict(dict(zip(network.state_dict(), judge.weights(), strict=True)))
    images = orl(5)
    templates = judge.embed(images)
    assert templates.shape == (5, 12) and judge.name == "own" and judge.trained_on == KNOWN
    assert (judge.attempts, judge.misses) == (5, 0) and judge.embed(images[:0]).shape == (0, 12)
    for batch in (None, 1, 3):  # a fixed batch is filled, and what was filled is dropped
        file = onnx_of(network, tmp_path / "small.onnx", batch)
        other = OnnxRecogniser(file=file, input=INPUT, align="none", trained_on=KNOWN, name="file").load(CPU)
        assert other.name == "file" and torch.allclose(other.embed(images), templates, atol=1e-5)
        assert refusal(other, judge.weights(), frozenset())  # the file's weights are the module's
    cosine = torch.cosine_similarity(templates[:1], templates[1:2])
    assert torch.allclose(judge.similarity(templates[:1], templates[1:2])[0], cosine)


def test_gradients_go_through_an_encoder_of_ones_own_to_its_templates(weights: str) -> None:
    """A list of its templates leaked, and the adversary has the encoder: as FaceNet's."""
    photographs = Images.of((orl(6) * 255).byte(), torch.arange(6))
    target = TemplateTarget(recogniser=module(weights)).load(tuple("abcdef"), photographs)
    oracle, judge = WholeModel().open(target, None), module(weights).load(CPU)
    images = photographs.pixels.clone().requires_grad_()
    logits = oracle.logits(images)
    wanted = 20 * judge.similarity(judge.embed(images), judge.embed(images))
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4)
    (slope,) = torch.autograd.grad(logits[0, 1], images)
    step = 0.01 * slope / slope.norm()
    change = (oracle.logits(images + step) - oracle.logits(images - step))[0, 1] / 2
    assert slope[1:].abs().max() == 0 and torch.isclose(change, (slope * step).sum(), rtol=0.05)


def test_gradients_of_an_aligned_recogniser_are_those_at_the_places_of_its_faces() -> None:
    """MobileFaceNet: its face in the image moves with the pixels, and nothing else does."""
    judge = MobileFaceNet().load(CPU)
    assert isinstance(judge.network, nn.Module)
    images = orl(2).expand(-1, 3, -1, -1).clone().requires_grad_()
    faces = judge.inputs(images)
    made = judge.network(faces)
    torch.testing.assert_close(made, judge.embed(images), rtol=0, atol=1e-4)
    likeness = torch.cosine_similarity(made[:1], made[1:])
    (slope,) = torch.autograd.grad(likeness, images)
    assert slope.abs().amax((1, 2, 3)).min() > 0
    with torch.no_grad():
        better = judge.network(judge.inputs((images + 2 * slope / slope.norm()).clamp(0, 1)))
    assert torch.cosine_similarity(better[:1], better[1:]) > likeness + 0.05


def test_places_of_faces_are_found_in_single_precision_whatever_the_search_works_in() -> None:
    judge, images = MobileFaceNet().load(CPU), orl(2)
    with torch.autocast("cpu", torch.bfloat16):
        half = judge.inputs(images)
    torch.testing.assert_close(half.float(), judge.inputs(images), rtol=0, atol=1e-5)
    photographs = Images.of((images * 255).byte(), torch.arange(2))
    target = TemplateTarget(recogniser=MobileFaceNet(), threshold=0.4).load(("a", "b"), photographs)
    assert isinstance(target, Target)
    logits, features = target.activations(images)  # which the oracle projection compares
    torch.testing.assert_close(features, judge.embed(images), rtol=0, atol=1e-4)
    assert logits.shape == (2, 2)


def test_a_recogniser_in_onnx_may_have_another_layout_and_several_outputs(weights: str, tmp_path: Path) -> None:
    network = Small()
    load_weights(network, Path(weights))
    file = onnx_of(network, tmp_path / "small.onnx")
    model = onnx.load(file)
    turned = helper.make_node("Transpose", ["pixels"], ["images"], perm=[0, 3, 1, 2])
    model.graph.node.insert(0, turned)
    taken = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", SIDE, SIDE, 1])
    other = helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["N", 72])
    given = [other, *model.graph.output]
    del model.graph.input[:], model.graph.output[:]
    model.graph.input.append(taken)
    model.graph.output.extend(given)
    onnx.save(model, file)
    plan = OnnxRecogniser(file=file, input=INPUT, layout="NHWC", output="template", align="none", trained_on=KNOWN)
    torch.testing.assert_close(plan.load(CPU).embed(orl(3)), module(weights).load(CPU).embed(orl(3)), rtol=0, atol=1e-4)
    with pytest.raises(GmiError, match="has no output templates; it has flat, template"):
        replace(plan, output="templates").load(CPU)


@pytest.mark.parametrize("kind", ["module", "onnx"])
def test_it_is_audited_by_its_templates_behind_an_interface(weights: str, tmp_path: Path, kind: str) -> None:
    """An adversary with a copy solves for them, and the copy cannot judge."""
    network = Small()
    load_weights(network, Path(weights))
    file = onnx_of(network, tmp_path / "small.onnx")
    recognisers = {
        "module": module(weights),
        "onnx": OnnxRecogniser(file=file, input=INPUT, align="none", trained_on=KNOWN),
    }
    photographs = Images.of((orl(6) * 255).byte(), torch.arange(6))
    target = TemplateTarget(recogniser=recognisers[kind]).load(tuple("abcdef"), photographs)
    leaked, judge = recognisers["module"].load(CPU).embed(photographs.pixels), recognisers["module"].load(CPU)
    plan = Solve(recogniser=recognisers[kind], questions=60, search=Evolution())
    learned = plan.prepare(ScoresOnly().open(target, None), toy.prior(), Rng(range(60)))
    mean = torch.nn.functional.normalize(leaked).mean(0)  # which they share
    alike = [torch.nn.functional.normalize(templates) - mean for templates in (learned["templates"], leaked)]
    assert torch.cosine_similarity(*alike).min() > 0.9
    assert isinstance(target, Target if kind == "module" else Served)  # a torch module has gradients
    assert "weights are in both" in (refusal(judge, target.weights(), frozenset()) or "")
    claimed = torch.arange(6)
    accepts = VerificationOnly().open(target, None).accepts
    assert accepts(photographs.pixels, claimed).all() and not accepts(photographs.pixels, claimed.roll(1)).any()


@pytest.mark.parametrize("align", ["none", "arcface"])
def test_it_never_compares_in_half_precision(weights: str, align: str) -> None:
    """Under bf16 its templates and similarities are as without, and faces are found."""
    aligned = {"factory": PACKAGED, "input": FACES, "align": "arcface"}
    file = str(resolve("asset:mobilefacenet/recogniser.safetensors"))
    judge = module(file, **aligned).load(CPU) if align == "arcface" else module(weights).load(CPU)
    images = orl(3)
    whole = judge.embed(images)
    with torch.autocast("cpu", torch.bfloat16):
        half = judge.embed(images)
        assert half.equal(whole) and judge.similarity(half, half).equal(judge.similarity(whole, whole))
    assert judge.similarity(half, half).dtype == torch.float32


def test_a_search_climbs_towards_its_templates_whatever_their_length_and_mean(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cosines tell directions alone; through a twin of it each image is named, nearly at similarity 1."""
    network = Small()
    load_weights(network, Path(weights))
    with torch.no_grad():
        network.linear.bias += 2 * torch.randn(12, generator=torch.Generator().manual_seed(1))
    save_file(network.state_dict(), weights)
    monkeypatch.setattr(
        FaceNet, "load", lambda self, device: SimpleNamespace(network=network, inputs=INPUT, trained_on=KNOWN)
    )
    photographs = Images.of((orl(6) * 255).byte(), torch.arange(6))
    target = TemplateTarget(recogniser=module(weights)).load(tuple("abcdef"), photographs)
    plan = Solve(recogniser=module(weights), questions=200, pairs=200, through=FaceNet(), search=Gradient(steps=2))
    learned = plan.prepare(ScoresOnly().open(target, None), toy.prior(), Rng(range(200)))
    copied = plan.copy(learned, CPU)
    assert isinstance(copied, WhiteBoxOracle)
    similar = copied.logits(photographs.pixels) / 20
    assert similar.argmax(1).equal(torch.arange(6)) and similar.diagonal().min() > 0.8


def test_it_is_aligned_as_the_packaged_one_is() -> None:
    from gmi.judges.aligned import MobileFaceNet

    file = str(resolve("asset:mobilefacenet/recogniser.safetensors"))
    own = module(file, factory=PACKAGED, input=FACES, align="arcface").load(CPU)
    images = orl(2)
    torch.testing.assert_close(own.embed(images), MobileFaceNet().load(CPU).embed(images), rtol=0, atol=1e-4)
    assert own.attempts == 2


def test_it_is_refused_as_the_targets_relative(weights: str) -> None:
    judge = module(weights).load(CPU)
    assert "weights are in both" in (refusal(judge, judge.weights(), frozenset()) or "")
    assert "trained on MS1MV2" in (refusal(judge, [], frozenset({"ms1m v2"})) or "")
    assert refusal(judge, Small().parameters(), frozenset({"LFW"})) is None


@pytest.mark.parametrize("made", [{}, {"trained_on": []}], ids=["missing", "empty"])
def test_what_it_learnt_from_has_to_be_said(made: dict[str, Any]) -> None:
    for kind, place in (
        (OnnxRecogniser, {"file": "a.onnx"}),
        (ModuleRecogniser, {"factory": "a:b", "weights": "a.safetensors"}),
    ):
        with pytest.raises(ValidationError, match="trained_on"):
            TypeAdapter(kind).validate_python(place | {"input": {"size": [SIDE, SIDE]}} | made)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"factory": "nowhere:Small"}, "No module named 'nowhere'"),
        ({"factory": __name__}, "names a module alone"),
        ({"factory": f"{__name__}:nothing"}, "returned NoneType, not a torch module"),
        ({"arguments": {"outputs": 1}}, "linear.weight is 12x72 in the file and 1x72"),
        ({"arguments": {"flat": False}}, "linear.weight is 12x72 in the file and 12x3"),
        ({"weights": "nowhere.safetensors"}, "no weights at"),
        ({"input": Input(size=(SIDE, SIDE))}, "cannot take images of 16x16"),
        ({"input": Input(size=(16, 20), colour="grey"), "align": "arcface"}, "they are square"),
        ({"factory": f"{__name__}:Unflat"}, "templates"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_module_that_is_no_recogniser_is_refused(changes: dict[str, Any], said: str, weights: str) -> None:
    with pytest.raises(GmiError, match=re.escape(said)):
        module(weights, **changes).load(CPU)


class Unflat(Small):
    """Feature maps in place of templates."""

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


def test_an_onnx_judge_whose_weights_nobody_can_read_is_refused(tmp_path: Path) -> None:
    """A target's own network, exported so, could judge the target otherwise."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", SIDE * SIDE])
    flat = helper.make_graph([helper.make_node("Flatten", ["images"], ["out"])], "m", [images], [out])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(flat, ir_version=10).SerializeToString())
    judge = OnnxRecogniser(file=str(path), input=INPUT, align="none", trained_on=KNOWN)
    with pytest.raises(GmiError, match="no weights that can be read"):
        judge.load(CPU)


class Broken(Small):
    """Templates that are not finite where an image is bright."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / (images.amax((1, 2, 3)) < 0.99)[:, None]


def test_templates_that_are_not_finite_stop_the_audit(tmp_path: Path) -> None:
    save_file(Broken().state_dict(), tmp_path / "w.safetensors")
    judge = module(str(tmp_path / "w.safetensors"), factory=f"{__name__}:Broken").load(CPU)
    with pytest.raises(GmiError, match="templates that are not finite"):
        judge.embed(torch.ones(1, 1, SIDE, SIDE))


def test_an_onnx_file_that_is_no_recogniser_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(GmiError, match="no file"):
        OnnxRecogniser(file=str(path), input=INPUT, align="none", trained_on=KNOWN).load(CPU)
    path.write_bytes(b"nothing")
    with pytest.raises(GmiError, match="no ONNX model"):
        OnnxRecogniser(file=str(path), input=INPUT, align="none", trained_on=KNOWN).load(CPU)
    onnx_of(Small(), path)
    colour = Input(size=(SIDE, SIDE))
    with pytest.raises(GmiError, match="cannot take images of 16x16"):
        OnnxRecogniser(file=str(path), input=colour, align="none", trained_on=KNOWN).load(CPU)
