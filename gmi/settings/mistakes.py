"""What pydantic finds wrong in a configuration, in plain words."""

import re
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

Place = tuple[str | int, ...]
"""Keys of blocks and indices of lists, from the root of a configuration."""

_BLOCKS = ("dataclass_type", "model_attributes_type", "dataclass_exact_type", "dict_type")
_LISTS = ("tuple_type", "list_type", "frozen_set_type")


def suggestion(word: str, known: Iterable[object]) -> str:
    """A question in brackets that names the known word most like this one; nothing where none is like it."""
    return "".join(f" (did you mean {match}?)" for match in get_close_matches(word, [*map(str, known)], 1))


def place_of(tree: Any, location: Place) -> Place:
    """Where in the tree a mistake is: pydantic's location without the names that it gives to variants of a union."""
    place: Place = ()
    for step in location:
        with suppress(KeyError, IndexError, TypeError):
            tree = tree[step]
            place += (step,)
    return place


def sentence(tree: Any, fault: ErrorDetails) -> str:
    """One mistake in the tree, with its key."""
    location, kind = fault["loc"], fault["type"]
    place = place_of(tree, location)
    parent, value = None, tree
    for step in place:
        parent, value = value, value[step]
    if kind == "missing":
        place += (location[-1],)
    key = ".".join(map(str, place))
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        others = [name for name in parent if name != place[-1]] if isinstance(parent, dict) else []
        return f"there is no key {key}{suggestion(str(place[-1]), others)}"
    if kind == "union_tag_not_found":
        return f"{key or 'this'} does not say its type: take one from a file in configs/"
    said = _said(fault, value)
    return f"{key}: {said}" if key else said


def _said(fault: ErrorDetails, value: Any) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    known = re.findall(r"'([^']*)'", str(context.get("expected_tags", context.get("expected", ""))))
    if kind == "union_tag_invalid":
        tag = str(context["tag"])
        return f"there is no type {tag}{suggestion(tag, known)}; there are {', '.join(known)}"
    if kind == "string_type" and isinstance(value, bool | int | float):
        return f"YAML takes this for {value!r}: put it in quotes"
    if kind in _BLOCKS:
        form = f"{{type: {value}}}" if isinstance(value, str) else "{key: value}"
        return f"a block of keys is expected here, such as {form}"
    if kind in _LISTS:
        return "a list is expected here, such as [1, 2]"
    if kind == "too_short":
        return f"{context['actual_length']} are given here, and {context['min_length']} or more are needed"
    if kind.startswith("date_"):
        return "a date is expected here, such as 2027-01-31"
    message = fault["msg"].removeprefix("Value error, ")
    guess = suggestion(str(value), known) if kind == "literal_error" else ""
    return f"{message[0].lower()}{message[1:]}{guess}"
