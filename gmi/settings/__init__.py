"""A YAML file and dotted overrides become one tree of frozen, validated objects: an `Audit` or a `PriorTraining`."""

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import field, is_dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_type_hints

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from gmi.errors import GmiError, because
from gmi.settings.documents import parse_yaml
from gmi.settings.mistakes import Place, place_of, sentence, suggestion

Plan = TypeVar("Plan")
Kind = TypeVar("Kind")

SHIPPED = Path(__file__).parents[1] / "shipped"
"""What comes with gmi besides its code: the folders `configs` and `priors`."""

OPERATIONAL = "operational"
"""Marks a setting that may change between two starts of one run: `Annotated[Count | None, OPERATIONAL]`."""

MOST = 2**53
"""Greatest number that counts something: floating-point numbers hold all up to it."""
Whole = Annotated[int, Field(ge=0, le=MOST)]
Count = Annotated[int, Field(ge=1, le=MOST)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field, Field))
def settings(kind: type[Kind]) -> type[Kind]:
    """Makes a class a block of a configuration: frozen, finite, by keyword only; unknown keys are errors."""
    return cast(
        "type[Kind]", dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))(kind)
    )


def read(path: Path | str, kind: type[Plan]) -> Plan:
    """The plan in a YAML file, or in the shipped configuration of that name, such as "quickstart".

    Raises GmiError, which names the place of every mistake.
    """
    file, tree = document(path)
    return validate(tree, file, kind)


def document(path: Path | str) -> tuple[Path, dict[str, JsonValue]]:
    """The file that `read` reads, and the keys and values in it. Raises GmiError where it holds none."""
    file = _file(path)
    try:
        tree = parse_yaml(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise GmiError(
            f"There is no file {file}: gmi init writes a configuration, and quickstart is one that comes with gmi."
        ) from error
    except (OSError, ValueError) as error:
        raise GmiError(f"{file} cannot be read as a configuration: {because(error)}.") from error
    if not isinstance(tree, dict):
        raise GmiError(f"{file} holds no keys and values, such as name: mine.")
    return file, tree


def shipped() -> dict[str, Path]:
    """The configurations that come with gmi, by name: "quickstart", "priors/flow64"."""
    folder = SHIPPED / "configs"
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def _file(path: Path | str) -> Path:
    """The path itself if it is a file or looks like one; otherwise the shipped configuration of that name."""
    path = Path(path)
    with suppress(RuntimeError):  # nobody of that name: then it is no such file either
        path = path.expanduser()
    if path.suffix or path.is_file():
        return path
    known = shipped()
    if path.as_posix() not in known:
        raise GmiError(
            f"{path}: there is neither a file nor a shipped configuration of that name"
            f"{suggestion(path.as_posix(), known)}; shipped are {', '.join(known)}."
        )
    return known[path.as_posix()]


def parse(text: str, kind: Any, name: str) -> Any:
    """What a piece of YAML describes; a word alone is a type. Raises GmiError as `read`."""
    try:
        tree = parse_yaml(text)
    except ValueError as error:
        raise GmiError(f"{name} cannot be read as YAML: {because(error)}.") from error
    return validate({"type": tree} if isinstance(tree, str) else tree, name, kind)


def validate(tree: JsonValue, path: Path | str, kind: type[Plan]) -> Plan:
    """What parsed YAML describes. Raises GmiError as `read`."""
    try:
        return TypeAdapter(kind).validate_python(tree)
    except ValidationError as error:
        mistakes = "; ".join(sentence(tree, fault) for fault in error.errors())
        raise GmiError(f"{path}: {mistakes}.") from error


def override(plan: Plan, arguments: Sequence[str]) -> Plan:
    """The plan with dotted overrides from a command line, such as `--search.steps 50`.

    Values are YAML; several make a list; a key alone is true, and `--views.no_flip` is false. A block's type alone
    stands for the block: `--search guided`. Raises GmiError, which names every mistake.
    """
    tree: Any = plain(plan)
    given: dict[Place, list[str]] = {}
    # blocks before their keys, and types first of all keys, for they clear their block
    pairs = sorted(_pairs(arguments), key=lambda pair: pair[0].count(".") - pair[0].endswith(".type") / 2)
    for key, words in pairs:
        given[_assign(plan, tree, key, words, given)] = words
    try:
        return TypeAdapter(type(plan)).validate_python(tree)
    except ValidationError as error:
        for mistake in error.errors():
            place = place_of(tree, mistake["loc"])
            if place in given and mistake["type"] in _READINGS:
                parent = reduce(lambda node, step: node[step], place[:-1], tree)
                parent[place[-1]] = _READINGS[mistake["type"]](parent[place[-1]], given[place])
    return validate(tree, "command line", type(plan))


def keys(plan: object) -> list[str]:
    """The dotted keys of all values and blocks of a plan."""

    def below(tree: JsonValue, key: str) -> Iterator[str]:
        branches = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
        for step, branch in branches:
            yield f"{key}{step}"
            yield from below(branch, f"{key}{step}.")

    return list(below(plain(plan), ""))


def list_keys(plan: object, prog: str) -> None:
    """Prints every key of a plan with its type, its value and its comment."""
    import tyro  # only here, for it takes a while

    with warnings.catch_warnings():
        for remark in (".*does not match any type in Union", ".*[Dd]uplicate subcommand"):
            warnings.filterwarnings("ignore", remark)  # of tuples of variants, which stay in the file
        config = (tyro.conf.AvoidSubcommands,)
        with suppress(SystemExit):
            tyro.cli(type(plan), default=plan, args=["--help"], prog=prog, config=config, use_underscores=True)


_READINGS: dict[str, Callable[[Any, list[str]], Any]] = {
    "string_type": lambda value, words: (
        words[0] if len(words) == 1 else value
    ),  # not the number or the date it reads as
    "tuple_type": lambda value, words: [value],
    "model_attributes_type": lambda value, words: {"type": value} if isinstance(value, str) else value,
}
"""By pydantic's name for a mistake: what else an override's words may mean."""


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Every dotted key with its words."""
    key, words = "", []
    for argument in arguments:
        if argument.startswith("--"):
            if key:
                yield key, words
            key, equals, value = argument.removeprefix("--").partition("=")
            words = [value] if equals else []
        elif key:
            words.append(argument)
        else:
            raise GmiError(f"{argument} belongs to no key: keys are written as in --search.steps 50.")
    if key:
        yield key, words


def _assign(plan: Any, tree: Any, key: str, words: list[str], given: Collection[Place]) -> Place:
    """Sets a key of the plan's tree, and gives its place. given: places that were set before."""
    place: Place = ()
    *parents, last = key.split(".")
    for part in parents:
        step = _step(tree, part, key)
        place += (step,)
        if isinstance(tree, dict) and tree.get(step) is None:
            tree[step] = {}  # a block that was turned off
        if isinstance(tree[step], str) and place in given:
            tree[step] = {"type": tree[step]}  # a block that was named by its type
        tree = tree[step]
        plan = plan[step] if isinstance(plan, tuple) else getattr(plan, str(step), None)
        if not isinstance(tree, dict | list):
            raise GmiError(f"--{key}: {'.'.join(map(str, place))} holds no keys.")
    block: Any = tree
    step = _step(tree, last, key)
    old = tree[step] if isinstance(tree, list) else tree.get(step)
    opposite = last[3:].replace("-", "_")
    if not words and last[:3] in ("no_", "no-") and isinstance(tree, dict) and isinstance(tree.get(opposite), bool):
        tree[opposite] = False
        return *place, opposite
    if not words and not isinstance(old, bool):
        if isinstance(tree, dict) and step not in tree:
            raise GmiError(f"There is no key {key}{suggestion(str(step), tree)}.")
        raise GmiError(f"--{key} needs a value.")
    values = [_value(word, key) for word in words] or [True]
    if step == "type" and is_dataclass(plan) and old != values[0]:
        block.clear()  # its other keys are those of another type
    block[step] = values if len(values) > 1 else values[0]
    return *place, step


def _step(tree: Any, part: str, key: str) -> Any:
    """What a part of a dotted key stands for in a block or in a list."""
    if isinstance(tree, dict):
        return part if part in tree else part.replace("-", "_")
    if not part.isdigit() or int(part) >= len(tree):
        raise GmiError(f"--{key}: {part} is no place in a list of {len(tree)}; the first is 0.")
    return int(part)


def _value(word: str, key: str) -> Any:
    if word in ("", "None"):
        return None if word else ""
    try:
        return parse_yaml(word)
    except ValueError as error:
        raise GmiError(f"--{key} {word} cannot be read as YAML: {because(error)}.") from error


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


def words(plan: object) -> Iterator[str]:
    """Every text in a configuration."""
    branches: list[JsonValue] = [plain(plan)]
    while branches:
        branch = branches.pop(0)
        if isinstance(branch, str):
            yield branch
        branches[:0] = [*branch.values()] if isinstance(branch, dict) else branch if isinstance(branch, list) else []
