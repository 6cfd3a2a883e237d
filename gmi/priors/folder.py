"""Folders of priors."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError, because
from gmi.settings import SHIPPED, validate

Shape = TypeVar("Shape")

_TYPES = {"dcgan": "gan", "stylegan2": "stylegan", "stylegan3": "stylegan"}
"""By the type in a folder's config.json: the prior.type that loads it."""


def prior_folder(name: str) -> Path:
    """The folder that a setting names. Raises GmiError if it is missing, or the folder of a training."""
    folder = resolve(name)
    if not name or not folder.is_dir():
        shipped = ", ".join(f"priors/{path.name}" for path in sorted((SHIPPED / "priors").iterdir()) if path.is_dir())
        remark = f"; what comes with this gmi is {shipped}" if folder.parts[:1] == ("priors",) else ""
        raise GmiError(f"There is no prior folder {folder if name else repr(name)}{remark}.")
    if (folder / "prior").is_dir():
        raise GmiError(f"{folder} is the folder of a training: its prior is {folder / 'prior'}.")
    return folder


def shape_in(folder: Path, kind: type[Shape], network: str) -> Shape:
    """The shape of a network in a folder's config.json. Raises GmiError if there is none that can be used."""
    try:
        return validate(json.loads((folder / "config.json").read_text("utf-8")), "config.json", kind)
    except FileNotFoundError as error:
        raise GmiError(f"{folder} is no prior folder of a {network}: there is no config.json in it.") from error
    except (OSError, ValueError, GmiError) as error:
        raise GmiError(f"{folder} is no prior folder of a {network} ({because(error)}).") from error


def refuse_few(stages: int, least: int) -> None:
    """Raises GmiError unless a network has more stages than a search walks through one by one."""
    if stages <= least:
        raise GmiError(f"The prior's network has {stages} layers: set search.layers to {stages - 1} at most.")


def refuse_other_type(folder: Path, given: str) -> None:
    """Raises GmiError if a folder says that it needs another prior.type than the given one."""
    needed = given
    if any((folder / name).exists() for name in ("unet", "transformer", "scheduler", "scheduler_config.json")):
        needed = "diffusion"
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        needed = _TYPES[json.loads((folder / "config.json").read_text("utf-8")).get("type")]
    if needed != given:
        raise GmiError(f"{folder} is no prior of type {given}: it needs prior.type {needed}.")
