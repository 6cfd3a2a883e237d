"""A model in an ONNX file answers as the network that it was written from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from gmi.assets.onnxgraph import read_graph
from gmi.errors import GmiError
from gmi.oracles.access import LabelsOnly, ScoresOnly, WholeModel
from gmi.rng import Rng
from gmi.targets.module import Input, Target
from gmi.targets.onnx import OnnxTarget

SIDES = Input(size=(16, 16), colour="grey")
NAMES = tuple(f"p{one}" for one in range(6))


def written(world, path: Path, batch: int | str, ending: str | None = None, count: int = 6) -> Path:
    """The world's target: flatten, linear, tanh, linear."""
    state = world.target.module.state_dict()
    weights = [numpy_helper.from_array(value.numpy(), name.replace(".", "")) for name, value in state.items()]
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "1weight", "1bias"], ["hidden"], transB=1),
        helper.make_node("Tanh", ["hidden"], ["bent"]),
        helper.make_node("Gemm", ["bent", "3weight", "3bias"], ["logits"], transB=1),
        *([] if ending is None else [helper.make_node(ending, ["logits"], ["ended"], axis=1)]),
    ]
    kind = TensorProto.INT64 if ending == "ArgMax" else TensorProto.FLOAT
    out = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, count])]
    out = out if ending is None else [helper.make_tensor_value_info("ended", kind, None)]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 1, 16, 16])
    model = helper.make_model(helper.make_graph(nodes, "m", [images], out, weights), ir_version=10)
    model.opset_import[0].version = 13
    onnx.save(model, path)
    return path


@pytest.fixture
def images(world):
    return world.prior.decode(Rng(range(9)).normal(8))


@pytest.mark.parametrize("batch", ["N", 4])
def test_scores_and_labels_are_the_networks(world, images, tmp_path, batch):
    plan = OnnxTarget(file=str(written(world, tmp_path / "m.onnx", batch)), input=SIDES)
    for access in (ScoresOnly(), LabelsOnly()):
        here, there = access.open(plan.load(NAMES), None), access.open(world.target, None)
        assert here.labels(images).equal(there.labels(images))
        if isinstance(access, ScoresOnly):
            torch.testing.assert_close(here.scores(images), there.scores(images), rtol=1e-4, atol=1e-4)
        assert here.ledger.total.sent == 9


@pytest.mark.parametrize(("ending", "gives"), [("Softmax", "probabilities"), ("ArgMax", "labels")])
def test_other_endings(world, images, tmp_path, ending, gives):
    plan = OnnxTarget(
        file=str(written(world, tmp_path / "m.onnx", "N", ending)), input=SIDES, gives=gives, output="ended"
    )
    wanted = LabelsOnly().open(world.target, None).labels(images)
    assert LabelsOnly().open(plan.load(NAMES), None).labels(images).equal(wanted)
    if gives == "labels":
        with pytest.raises(GmiError, match="gives labels only"):
            ScoresOnly().open(plan.load(NAMES), None)


def converted(world, path: Path, kind: int, layout: str) -> Path:
    """The same model behind an input of another type and order, as converters write them."""
    model = onnx.load(written(world, path, "N"))
    (images,) = model.graph.input
    images.CopyFrom(
        helper.make_tensor_value_info("given", kind, ["N", 1, 16, 16] if layout == "NCHW" else ["N", 16, 16, 1])
    )
    scale = 255.0 if kind == TensorProto.UINT8 else 1.0
    model.graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), "scale"))
    order = [0, 1, 2, 3] if layout == "NCHW" else [0, 3, 1, 2]
    before = [
        helper.make_node("Cast", ["given"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["cast", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["images"], perm=order),
    ]
    nodes = [*before, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE", "UINT8"])
def test_images_of_every_type_and_order_are_made(world, images, tmp_path, kind, layout):
    file = str(converted(world, tmp_path / "m.onnx", getattr(TensorProto, kind), layout))
    plan = OnnxTarget(file=file, input=SIDES, layout=layout)
    here, there = ScoresOnly().open(plan.load(NAMES), None), ScoresOnly().open(world.target, None)
    error = 5e-2 if kind == "FLOAT16" else 1e-4
    torch.testing.assert_close(here.scores(images), there.scores(images), rtol=error, atol=error)
    if layout == "NHWC":
        with pytest.raises(GmiError, match=r"takes Nx16x16x1: set layout: NHWC\.$"):
            replace(plan, layout="NCHW").load(NAMES)
    if kind == "UINT8":
        with pytest.raises(GmiError, match=r"takes bytes \(uint8\), and target\.input\.mean and input\.std cannot"):
            replace(plan, input=replace(SIDES, mean=(0.5,))).load(NAMES)


def test_a_model_that_takes_no_images_is_refused(world, tmp_path):
    file = str(converted(world, tmp_path / "m.onnx", TensorProto.INT32, "NCHW"))
    with pytest.raises(GmiError, match=r"takes images as tensor\(int32\), which gmi does not make"):
        OnnxTarget(file=file, input=SIDES).load(NAMES)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("gives", ["logits", "labels"])
def test_outputs_in_another_order_are_named(world, images, tmp_path, gives, background):
    names = [*("p3", "p0", "p5", "p1", "p4"), *(["nobody"] if background else []), "p2"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    people = tuple(name for name in NAMES if name in names)
    state = world.target.module[3]
    rows = [people.index(name) if name in people else 0 for name in names]
    other = torch.nn.Linear(state.in_features, len(names))
    other.load_state_dict(
        {
            "weight": state.weight[rows],
            "bias": state.bias[rows] - 1e6 * torch.tensor([name == "nobody" for name in names]),
        }
    )
    moved = replace(world, target=Target(torch.nn.Sequential(*world.target.module[:3], other), SIDES, tuple(names)))
    path = written(moved, tmp_path / "m.onnx", "N", *(["ArgMax"] if gives == "labels" else []), count=len(names))
    plan = OnnxTarget(file=str(path), input=SIDES, gives=gives, outputs=str(tmp_path / "names.txt"))
    if gives == "labels" and background:
        with pytest.raises(GmiError, match="names outputs of nobody"):
            plan.load(people)
        return
    served, there = plan.load(people), LabelsOnly().open(world.target, None)
    assert LabelsOnly().open(served, None).labels(images).equal(there.labels(images))
    if gives == "logits":
        wanted = ScoresOnly().open(world.target, None).scores(images)
        torch.testing.assert_close(ScoresOnly().open(served, None).scores(images), wanted, rtol=1e-4, atol=1e-4)
    (tmp_path / "names.txt").write_text("\n".join(names[::-1]))
    assert plan.load(people).digest != served.digest


def test_what_does_not_fit_says_what_to_do(world, images, tmp_path):
    path = written(world, tmp_path / "m.onnx", "N")
    with pytest.raises(GmiError, match="no output probabilities; it has logits"):
        OnnxTarget(file=str(path), input=SIDES, output="probabilities").load(NAMES)
    with pytest.raises(GmiError, match=r"^target\.file: there is no file .*none\.onnx\.$"):
        OnnxTarget(file=str(tmp_path / "none.onnx"), input=SIDES).load(NAMES)
    (tmp_path / "odd.onnx").write_bytes(b"odd")
    with pytest.raises(GmiError, match="no ONNX model"):
        OnnxTarget(file=str(tmp_path / "odd.onnx"), input=SIDES).load(NAMES)
    for odd, made in ((Input(size=(8, 8), colour="grey"), "Nx1x8x8"), (Input(size=(16, 16)), "Nx3x16x16")):
        with pytest.raises(GmiError, match=rf"^target\.input makes images of {made} .* takes Nx1x16x16: set"):
            OnnxTarget(file=str(path), input=odd).load(NAMES)
    with pytest.raises(GmiError, match="logits holds 6 numbers for each image, where 5 are expected"):
        OnnxTarget(file=str(path), input=SIDES).load(NAMES[:5])
    with pytest.raises(GmiError, match=r"where 1 are expected of a model that gives labels of 6 classes"):
        OnnxTarget(file=str(path), input=SIDES, gives="labels").load(NAMES)
    model = onnx.load(path)
    for side in model.graph.input[0].type.tensor_type.shape.dim:  # a file that states nothing
        side.dim_param = "any"
    onnx.save(model, tmp_path / "silent.onnx")
    with pytest.raises(GmiError, match="check the input stated beside it"):
        plan = OnnxTarget(file=str(tmp_path / "silent.onnx"), input=Input(size=(8, 8), colour="grey"))
        ScoresOnly().open(plan.load(NAMES), None).scores(images)
    with pytest.raises(GmiError, match="no weights to take"):
        WholeModel().open(OnnxTarget(file=str(path), input=SIDES).load(NAMES), None)
    one = OnnxTarget(file=str(path), input=SIDES).load(NAMES)
    assert one.digest != OnnxTarget(file=str(written(world, path, 4)), input=SIDES).load(NAMES).digest


def test_weights_outside_the_file_count(world, images, tmp_path):
    """Exporters write them into a file of their own: another training under the same name is another model."""
    found = {}
    for name in ("one", "two"):
        model = onnx.load(written(world, tmp_path / "m.onnx", "N"))
        if name == "two":
            for tensor in model.graph.initializer:
                tensor.raw_data = (2 * numpy_helper.to_array(tensor)).tobytes()
        (tmp_path / name).mkdir()
        path = tmp_path / name / "m.onnx"
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        found[name] = OnnxTarget(file=str(path), input=SIDES).load(NAMES)
    assert (tmp_path / "one" / "m.onnx").read_bytes() == (tmp_path / "two" / "m.onnx").read_bytes()
    assert found["one"].digest != found["two"].digest
    held = [*world.target.module.state_dict().values()]
    for mine, theirs in zip(found["one"].weights(), held, strict=True):
        torch.testing.assert_close(mine, theirs)
    (tmp_path / "one" / "weights.bin").unlink()
    with pytest.raises(GmiError, match=r"^target\.file: "):
        OnnxTarget(file=str(tmp_path / "one" / "m.onnx"), input=SIDES).load(NAMES)


@pytest.mark.parametrize("kind", ["packed floats", "halves", "a node"])
def test_weights_are_read_in_whatever_form_the_file_holds_them(tmp_path, kind):
    value = torch.arange(6.0).reshape(2, 3).numpy()
    tensor = {
        "packed floats": helper.make_tensor("w", TensorProto.FLOAT, [2, 3], value.ravel().tolist()),
        "halves": numpy_helper.from_array(value.astype("f2"), "w"),
        "a node": numpy_helper.from_array(value, "w"),
    }[kind]
    held = [helper.make_node("Constant", [], ["w"], value=tensor)] if kind == "a node" else []
    out = helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3])
    model = helper.make_model(helper.make_graph(held, "m", [], [out], [] if held else [tensor]))
    assert (read_graph(model.SerializeToString())[1]["w"] == value).all()
