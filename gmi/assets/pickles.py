"""Tensors from pickled StyleGANs, without running what is in them.

A pickle is a program. This reads one with a list of the few names that published StyleGANs need; each is replaced by
something inert: classes whose source lies in the file become descriptions, and no source is ever run. Any other name
ends the reading, and is told. Run as a process of its own, which ends with it:

    python -m gmi.assets.pickles FILE OUT.safetensors
"""

import io
import json
import pickle
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from gmi.errors import GmiError, because

_OLD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch before 1.6 begin: with a number of their own, pickled."""


class Record(dict[str, Any]):
    """A dictionary whose class the file names: `dnnlib.EasyDict` and its like."""


class Described:
    """An object whose class lies in the file: its name and what it holds, without what it does."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.name, self.state = str(meta.get("class_name")), dict(meta.get("state") or {})


class Named:
    """An object of a class of torch or numpy that is not needed: what it is made of is not looked at."""

    def __init__(self, *parts: object, **more: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = dict(state) if isinstance(state, dict) else {}


def _storage(content: bytes) -> Any:
    """A storage of numbers, in torch's own format for tensors alone."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    """The tensor that lies in a storage, as torch.as_strided has it."""
    flat = torch.empty(0, dtype=storage.dtype).set_(storage)  # pyright: ignore[reportArgumentType]
    return flat.as_strided(size, stride, offset).clone()


def _encoded(text: str, coding: str = "latin1") -> bytes:
    """Bytes, as pickles have them that know only texts. Raises GmiError for another coding than latin1."""
    if coding not in ("latin1", "latin-1"):
        raise GmiError(f"it holds bytes in the coding {coding}")
    return text.encode("latin1")


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("dnnlib.util", "EasyDict"): Record,
    ("dnnlib", "EasyDict"): Record,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Described,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch.nn.modules.container", "ModuleList"): Named,
    ("torch.nn.modules.container", "ModuleDict"): Named,
    ("builtins", "set"): set,
    ("argparse", "Namespace"): Namespace,
    # settings of layers that are numbers or arrays of numpy; what is needed of them, shapes and names tell
    **{
        (f"numpy.{core}.{module}", name): Named
        for core in ("core", "_core")
        for module, name in (("multiarray", "scalar"), ("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
    },
    ("numpy", "dtype"): Named,
    ("numpy", "ndarray"): Named,
    ("_codecs", "encode"): _encoded,
}
"""The names that a file may use, and what they mean here."""


class Reader(pickle.Unpickler):
    """An unpickler that knows a few names, none of which does anything but hold values."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """What a name means. Raises GmiError for any other."""
        if (module, name) not in ALLOWED:
            raise GmiError(f"it asks for {module}.{name}, which is not among the names that a StyleGAN needs")
        return ALLOWED[module, name]


def tensors(part: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a described module, by their dotted names."""
    for kind in ("_parameters", "_buffers"):
        for name, value in (part.state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                yield prefix + name, value.detach().contiguous()
    for name, inner in (part.state.get("_modules") or {}).items():
        if isinstance(inner, Described | Named):
            yield from tensors(inner, f"{prefix}{name}.")


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name of the averaged generator in a file, and what it says of itself: `layout` and `settings`.

    layout: "ada" for the pickles of StyleGAN2-ADA and StyleGAN3; "rosinality" for checkpoints of that implementation,
    which torch reads as tensors alone. Raises GmiError if it is neither, or asks for a name that it may not.
    """
    content = path.read_bytes()
    if content[:2] == b"PK" or content[: len(_OLD)] == _OLD:
        with torch.serialization.safe_globals([Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not isinstance(state.get("g_ema"), dict):
            raise GmiError("it holds no averaged generator (g_ema)")
        held = {name: value.contiguous() for name, value in state["g_ema"].items()}
        mean = state.get("latent_avg")
        return held | ({} if mean is None else {"latent_avg": mean.contiguous()}), {"layout": "rosinality"}
    tree = Reader(io.BytesIO(content)).load()
    network = tree.get("G_ema") if isinstance(tree, dict) else None
    if not isinstance(network, Described):
        raise GmiError("it holds no averaged generator (G_ema)")
    settings = {key: value for key, value in network.state.items() if isinstance(value, int | float | str)}
    return dict(tensors(network)), {"layout": "ada", "class": network.name, "settings": settings}


def main(source: str, out: str) -> None:
    """Reads a file and writes its tensors. Ends with status 2 and a sentence on standard error where it cannot."""
    try:
        held, about = read(Path(source))
        save_file(held, out, {"about": json.dumps(about)})
    except Exception as error:  # pickles raise whatever is in them
        print(because(error), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
