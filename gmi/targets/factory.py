"""Factories: what makes a user's own network, named as module:callable."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from gmi.errors import GmiError, because


def find_factory(factory: str) -> Callable[..., Any]:
    """The callable of that name. The folder that a command is started in is looked in last.

    Raises GmiError where it cannot be imported, whatever its module raises.
    """
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    module, _, name = factory.partition(":")
    if not module or not name:
        raise GmiError(
            f"target.factory {factory!r} names a module alone: write it as module:name, such as my_module:network."
        )
    try:
        part: Any = importlib.import_module(module)
        for step in name.split("."):
            part = getattr(part, step)
    except Exception as error:  # the module is the user's
        raise GmiError(
            f"target.factory {factory!r} cannot be imported ({because(error)}); it reads 'module:callable'."
        ) from error
    return part
