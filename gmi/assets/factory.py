"""Factories: what makes a user's own network, named as module:callable."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError, because


def find_factory(factory: str, key: str = "target.factory") -> Callable[..., Any]:
    """The callable of that name. The folder that a command is started in is looked in last.

    key: the setting that names it, for messages. Raises GmiError where it cannot be imported, whatever its module
    raises.
    """
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    module, _, name = factory.partition(":")
    if not module or not name:
        raise GmiError(f"{key} {factory!r} names a module alone: write it as module:name, such as my_module:network.")
    try:
        part: Any = importlib.import_module(module)
        for step in name.split("."):
            part = getattr(part, step)
    except Exception as error:  # the module is the user's
        raise GmiError(
            f"{key} {factory!r} cannot be imported ({because(error)}); it reads 'module:callable'."
        ) from error
    return part


def called(make: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    """What a factory makes of its arguments.

    what: its setting and name, for messages. Raises GmiError where it does not take them, or whatever it raises.
    """
    try:
        inspect.signature(make, follow_wrapped=False).bind(**arguments)
    except TypeError as error:
        raise GmiError(f"{what} does not take these arguments: {error}.") from error
    except ValueError:  # what is written in C has no signature
        pass
    try:
        return make(**arguments)
    except Exception as error:  # errors of the user's own code are reported in one sentence
        raise GmiError(f"{what} failed ({type(error).__name__}: {because(error)}).") from error


def _package(method: Any) -> str:
    """The package of the class whose method it is; empty for a function."""
    return getattr(getattr(method, "__self__", None), "__module__", "").partition(".")[0]


def make_network(
    factory: str, arguments: Mapping[str, Any], key: str = "target.factory", complete: bool = False
) -> nn.Module:
    """The torch module that a factory makes of its arguments, in which strings "asset:..." become paths.

    key: the setting that names it, for messages. complete: nobody loads weights afterwards. Raises GmiError if the
    factory cannot be found or called, or where a network is to be complete and a checkpoint of transformers lacks some
    weights, which it then draws at random.
    """
    found = {
        name: str(resolve(value)) if isinstance(value, str) and value.startswith("asset:") else value
        for name, value in arguments.items()
    }
    make = find_factory(factory, key)
    reports = getattr(make, "__name__", "") == "from_pretrained" and _package(make) in ("transformers", "diffusers")
    module = called(make, found | ({"output_loading_info": True} if reports else {}), f"{key} {factory}")
    if reports and isinstance(module, tuple):
        module, report = module
        drawn = sorted(str(name) for name in [*report["missing_keys"], *report["mismatched_keys"]])
        if complete and drawn:
            raise GmiError(
                f"{key} {factory}: the checkpoint lacks {drawn[0]} ({len(drawn)} such), drawn at random: name "
                "a checkpoint with its head, or weights that hold it."
            )
    if not isinstance(module, nn.Module):
        raise GmiError(f"{key} {factory} returned {type(module).__name__}, not a torch module.")
    return module
