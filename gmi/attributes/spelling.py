"""Categories that are written in two ways: what they mean, and one spelling for each meaning."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from functools import cache

from gmi.errors import GmiError

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")  # without leading zeros, which codes have


def spellings(
    file: str, names: Sequence[str], rows: Sequence[Sequence[str]], without: Collection[str], merged: bool
) -> dict[str, dict[str, str]]:
    """By column of categories, the spelling that each value gets: the commonest of those that mean the same.

    without: columns that hold none. Raises GmiError where there are several, and they are not to be merged.
    """
    found: dict[str, dict[str, str]] = {}
    for index, name in enumerate(names):
        if name in without:
            continue
        counts = Counter(row[index] for row in rows)
        meanings: dict[str, list[str]] = {}
        for value, _ in counts.most_common():
            meanings.setdefault(meaning(value), []).append(value)
        if not merged and (twice := next((each for each in meanings.values() if len(each) > 1), None)):
            raise GmiError(
                f"data: {file} has {twice[0]!r} and {twice[1]!r} as {name}, which differ in how they are written "
                "alone: write one of them, or set data.alike to merged or kept."
            )
        found[name] = {value: each[0] for each in meanings.values() for value in each}
    return found


def spelt(
    names: Sequence[str], rows: Sequence[Sequence[str]], known: Mapping[str, Mapping[str, str]]
) -> list[list[str]]:
    """The rows with each category in its one spelling; one that no spelling is known of stays."""
    columns = [{meaning(value): one for value, one in known.get(name, {}).items()} for name in names]
    return [
        [column.get(meaning(cell), cell) if column else cell for cell, column in zip(row, columns, strict=True)]
        for row in rows
    ]


def refuse_other_spellings(
    file: str, names: Sequence[str], rows: Sequence[Sequence[str]], respelt: Sequence[Sequence[str]]
) -> None:
    """Raises GmiError where the adversary's file writes a value otherwise than the other one."""
    for row, other in zip(rows, respelt, strict=True):
        for name, cell, spelling in zip(names, row, other, strict=True):
            if cell != spelling:
                raise GmiError(
                    f"data.public_file: {file} has {cell!r} as {name} where the other file has {spelling!r}: write one "
                    "of them, or set data.alike: merged."
                )


@cache
def meaning(value: str) -> str:
    """What is the same for values that differ in case, spaces, Unicode's form, or how a number is written."""
    text = " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    return str(Decimal(text).normalize()) if _NUMBER.fullmatch(text) else text
