"""Statements of a policy: a figure, a sign, and a number; or a verdict or an access, and a list of their words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from operator import eq, ge, gt, le, lt
from typing import Any, Literal

import yaml

from gmi.report.figures import EVIDENCE
from gmi.settings.mistakes import suggestion

COMPARISONS = {"<=": le, ">=": ge, "==": eq, "<": lt, ">": gt}
COUNTED = ("people", "seeds", "warnings", "notable", "untested")
"""What a statement may be about that is a plain number."""
WORDS = {
    "verdict": ("no evidence", "inconclusive", *(finding for kind in EVIDENCE for finding in kind)),
    "access": ("white-box", "embedding", "score", "label-only", "verification", "verification by numbers"),
}
"""What a statement may be about that is said in words, and the words that an audit has for it."""

_STATEMENT = re.compile(r"(?P<figure>.+?)\s*(?P<sign><=|>=|==|<|>|\bnot in\b|\bin\b)\s*(?P<bound>.+)")
_ENDS = ("low", "value", "high")
_SIGNS = {"verdict": ("in", "not in", "=="), "access": ("in", "==")}


@dataclass(frozen=True)
class Statement:
    """A figure, a sign, and what is on its other side."""

    text: str
    figure: str  # one of WORDS or of COUNTED, or the figure's name
    end: Literal["low", "value", "high"]  # of the figure's interval
    sign: str
    bound: float | tuple[str, ...]  # a number, or findings of a verdict, or levels of access

    @classmethod
    def parse(cls, text: str) -> "Statement":
        """The statement in a text. Raises ValueError where it is none."""
        match = _STATEMENT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no statement: write FIGURE.END SIGN NUMBER, as identity.rank1.high <= 0.1")
        figure, sign = match["figure"], match["sign"]
        if figure.endswith("="):
            raise ValueError(f"{text!r}: write {sign}= for ={sign}")
        try:
            bound = yaml.safe_load(match["bound"])
        except yaml.YAMLError as error:
            raise ValueError(f"{text!r}: what stands behind {sign} cannot be read") from error
        if figure in WORDS:
            return cls(text, figure, "value", sign, _words(text, figure, sign, bound))
        near = "" if figure in COUNTED else suggestion(figure, (*WORDS, *COUNTED))
        if sign not in COMPARISONS or not _is_number(bound):
            raise ValueError(f"{text!r}: compare a figure with a number by <=, >=, <, > or =={near}")
        if figure in COUNTED:
            if figure == "notable" and bound > 1:
                raise ValueError(f"{text!r}: notable is a share: 30 % is 0.3")
            if figure != "notable" and bound % 1:
                raise ValueError(f"{text!r}: {figure} is counted: compare it with a whole number")
            return cls(text, figure, "value", sign, float(bound))
        name, _, end = figure.rpartition(".")
        if end not in _ENDS:
            near = near or suggestion(end, _ENDS)
            raise ValueError(f"{text!r}: say which end of the interval is meant: {figure}.low, .value or .high{near}")
        return cls(text, name, end, sign, float(bound))


def level(access: str) -> str:
    """A level of access without what is shown of its scores, and the guards before them."""
    return re.split(r" \(| behind ", access)[0]


def _is_number(bound: Any) -> bool:
    return isinstance(bound, int | float) and not isinstance(bound, bool) and isfinite(bound)


def _words(text: str, figure: str, sign: str, bound: Any) -> tuple[str, ...]:
    words: Sequence[Any] = bound if isinstance(bound, list) else (bound,)
    known = WORDS[figure]
    if sign not in _SIGNS[figure] or not all(isinstance(word, str) for word in words):
        signs = " or ".join(_SIGNS[figure])
        raise ValueError(f"{text!r}: compare {figure} with a list of words by {signs}, as {figure} in [{known[0]}]")
    for word in words:
        if (level(word) if figure == "access" else word) not in known:
            raise ValueError(f"{text!r}: no {figure} is {word!r}{suggestion(word, known)}; it is {', '.join(known)}")
    return tuple(words)
