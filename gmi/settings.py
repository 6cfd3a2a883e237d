"""A YAML file and dotted overrides become one tree of frozen, validated objects: an `Audit` or a `PriorTraining`."""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import field, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_type_hints

import tyro
import yaml
from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from gmi.errors import GmiError

Plan = TypeVar("Plan")
Kind = TypeVar("Kind")

OPERATIONAL = "operational"
"""Marks a setting that may change between two starts of one run: `Annotated[Count | None, OPERATIONAL]`."""

Whole = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field, Field))
def settings(kind: type[Kind]) -> type[Kind]:
    """Makes a class a block of a configuration: frozen, validated, by keyword only, and unknown keys are errors."""
    return cast("type[Kind]", dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))(kind))


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


def identity(plan: object) -> dict[str, JsonValue]:
    """The tree as plain data without what is marked OPERATIONAL: what two starts of one run must agree in."""
    return cast("dict[str, JsonValue]", _identity(plan, plain(plan)))


def _identity(plan: Any, tree: Any) -> Any:
    if is_dataclass(plan):
        marks = {
            name: getattr(kind, "__metadata__", ())
            for name, kind in get_type_hints(type(plan), include_extras=True).items()
        }
        return {
            name: _identity(getattr(plan, name), value)
            for name, value in tree.items()
            if OPERATIONAL not in marks[name]
        }
    if isinstance(plan, tuple):
        return [_identity(*pair) for pair in zip(plan, tree, strict=True)]
    return tree


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


def find_factory(factory: str) -> Callable[..., Any]:
    """Raises GmiError where it cannot be imported. The folder that a command is started in is looked in last."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    module, _, name = factory.partition(":")
    try:
        found = cast("Any", importlib.import_module(module))
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise GmiError(
            f"target.factory {factory!r} cannot be imported ({error}); it reads 'module:callable'."
        ) from error
    return found
