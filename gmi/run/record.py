"""What a run folder belongs to: a configuration, its inputs, and the key of its evidence."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from re import fullmatch
from typing import Any

from pydantic import JsonValue

from gmi.errors import GmiError, because
from gmi.settings.documents import parse_yaml


def whole(config: Mapping[str, JsonValue], key: str | None) -> Mapping[str, JsonValue]:
    """What a run belongs to: its configuration, and the fingerprint of the key of its evidence, if that is sealed."""
    return config if key is None else {**config, "evidence": key}


def digest_of(config: Mapping[str, JsonValue]) -> str:
    """SHA-256 of a configuration."""
    return sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def is_record(tree: Any) -> bool:
    """Whether a config.yaml that holds this is a run's, and no file of somebody else's."""
    if not isinstance(tree, dict) or not isinstance(tree.get("config"), dict):
        return False
    return isinstance(digest := tree.get("digest"), str) and bool(fullmatch("[0-9a-f]{64}", digest))


def refuse_other(folder: Path, configuration: JsonValue, inputs: Mapping[str, JsonValue] | None) -> None:
    """Raises GmiError where a finished run's folder is of another configuration, or of other models or data.

    inputs: their digests; None: they are not there any more.
    """
    try:
        held = parse_yaml((folder / "config.yaml").read_text("utf-8"))["config"]
        old = {"configuration": held["configuration"]} | ({} if inputs is None else {"inputs": _files(held["inputs"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GmiError(f"{folder / 'config.yaml'} cannot be read ({because(error)}): choose another --out.") from error
    new = {"configuration": configuration} | ({} if inputs is None else {"inputs": _files(inputs)})
    if old != new:
        raise GmiError(
            f"{folder} holds a run of another configuration (it differs in {', '.join(_differences(old, new))}): "
            "choose another --out, or remove it."
        )


def _files(inputs: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The digests, but for the version of gmi: a finished run may be looked at with a later one."""
    return {name: digest for name, digest in inputs.items() if name != "gmi"}


def other(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What a folder holds that is not this run, in words."""
    made, mine = (_block(tree, "inputs").get("gmi") for tree in (old, new))
    if made and mine and made != mine:
        return f"a run that gmi {made} made, and this is gmi {mine}"
    works = [tree.get("precision", "single precision") for tree in (old, new)]
    if works[0] != works[1]:
        return f"a run that searches in {works[0]}, where accelerate now says {works[1]}"
    plans = [_block(tree, "configuration", "training") for tree in (old, new)]
    names = [plan.get("name") for plan in plans]
    if names[0] != names[1] or plans[0].keys() != plans[1].keys() or old.keys() != new.keys():
        return f"another run{f' ({names[0]})' * bool(names[0])}, and every run needs a folder of its own"
    return f"a run of another configuration (it differs in {', '.join(_differences(old, new))})"


def _block(tree: dict[str, Any], *names: str) -> dict[str, Any]:
    """The first block of one of these names; an empty one where there is none."""
    return next((block for name in names if isinstance(block := tree.get(name), dict)), {})


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two runs' trees, in words."""
    parts = [name.partition(".") for name in _changed(old, new)]
    return [key if top in ("configuration", "training") else f"the files of {key or top}" for top, _, key in parts]


def _changed(old: JsonValue, new: JsonValue, at: str = "") -> list[str]:
    """Dotted names of the values that differ between two trees."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [name for key in keys for name in _changed(old.get(key), new.get(key), f"{at}.{key}" if at else key)]
    return [] if old == new else [at]
