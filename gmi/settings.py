"""A YAML file and dotted overrides become one tree of frozen, validated objects: an `Audit` or a `PriorTraining`."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import tyro
import yaml
from pydantic import JsonValue, TypeAdapter, ValidationError

from gmi.errors import GmiError

Plan = TypeVar("Plan")


def read(path: Path, kind: type[Plan]) -> Plan:
    """What a YAML file describes. Raises GmiError, one line a mistake, each with its place."""
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GmiError(f"{path} cannot be read as a configuration: {error}") from error
    if not isinstance(tree, dict):
        raise GmiError(f"{path} holds no keys and values: start from a copy of one in configs/.")
    return validate(tree, path, kind)


def parse(text: str, kind: Any, name: str) -> Any:
    """What a piece of YAML describes; a word alone is a type. Raises GmiError as `read`."""
    try:
        tree = yaml.safe_load(text)
        return validate({"type": tree} if isinstance(tree, str) else tree, name, kind)
    except yaml.YAMLError as error:
        raise GmiError(f"{name} cannot be read as YAML: {error}") from error


def validate(tree: JsonValue, path: Path | str, kind: type[Plan]) -> Plan:
    """What parsed YAML describes. Raises GmiError as `read`."""
    try:
        return TypeAdapter(kind).validate_python(tree)
    except ValidationError as error:
        mistakes = "; ".join(_sentence(tree, one["loc"], one["type"], one["msg"]) for one in error.errors())
        raise GmiError(f"{path}: {mistakes}.") from error


def override(plan: Plan, arguments: Sequence[str], prog: str) -> Plan:
    """The plan with dotted overrides such as `--search.steps 50`; `--help` lists them. Wrong ones exit with 2."""
    if not arguments:
        return plan
    config = (tyro.conf.AvoidSubcommands,)
    kind = type(plan)
    with warnings.catch_warnings():
        for remark in (".*does not match any type in Union", ".*[Dd]uplicate subcommand"):
            warnings.filterwarnings("ignore", remark)  # of tuples of variants, which stay in the file
        found = tyro.cli(kind, default=plan, args=list(arguments), prog=prog, config=config, use_underscores=True)
    return cast("Plan", found)


def plain(plan: object) -> dict[str, JsonValue]:
    """The whole tree as plain data, defaults included: what a run folder records."""
    return TypeAdapter(type(plan)).dump_python(plan, mode="json")


def _sentence(tree: Any, place: tuple[int | str, ...], kind: str, message: str) -> str:
    parts = []
    for part in place:
        with suppress(KeyError, IndexError, TypeError):  # it is what pydantic calls the variant of a union
            tree = tree[part]
            parts.append(str(part))
    if kind == "missing":
        parts.append(str(place[-1]))
    key = ".".join(parts)
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"there is no key {key}"
    if kind == "union_tag_not_found":
        return f"{key} does not say its type: take one from a file in configs/"
    if kind == "string_type" and isinstance(tree, bool | int | float):
        return f"{key}: YAML takes this for {tree!r}: put it in quotes"
    message = message.removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}" if key else message
