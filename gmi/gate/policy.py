"""Policies: statements on the figures of an audit, waivers of some of them, and the decision that follows.

name: before every release
require:
  - verdict in [no evidence]
  - identity.match@0.01.high <= 0.10
  - people >= 60
waivers:
  - {statement: people >= 60, reason: a pilot, name: A. Owner, until: 2027-01-31}
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from gmi.errors import GmiError
from gmi.gate.statements import COMPARISONS, COUNTED, WORDS, Statement
from gmi.report.figures import EVIDENCE, Row, membership, rows
from gmi.settings import settings
from gmi.settings.mistakes import suggestion

Outcome = Literal["met", "missed", "waived", "not known"]
Result = Literal["pass", "fail", "inconclusive"]

EXIT: dict[Result, int] = {"pass": 0, "fail": 3, "inconclusive": 4}
"""Exit codes; 2 is a run that could not be made."""

LARGEST = {"report": 0.1, "attributes": 0.05, "extraction": 0.05}
"""What an audit's `notable` is unless it is given, by kind: what an acquittal excludes."""
_KNOWN = (
    "verdict, access, people, seeds, warnings, notable, untested, identity.METRIC, membership.METRIC, "
    "advantage, PART.METRIC or LABEL=VALUE,...:METRIC"
)
_PARTS = {"membership": "related.membership.methods", "copying": "related.copying", "advantage": "verdict.advantages"}


@settings
class Waiver:
    """A statement that may be missed for a while, and who answers for that."""

    statement: str  # one of `require`, word for word
    reason: Annotated[str, Field(min_length=1)]  # why
    name: Annotated[str, Field(min_length=1)]  # who accepts it
    until: date  # last day on which it holds


@settings
class Policy:
    """What an audit must say."""

    name: str  # for reports
    require: Annotated[tuple[str, ...], Field(min_length=1)]  # statements; all must hold
    waivers: tuple[Waiver, ...] = ()  # of statements that may be missed

    def __post_init__(self) -> None:
        for text in self.require:
            Statement.parse(text)
        if len(set(self.require)) < len(self.require):
            raise ValueError("require: a statement stands there twice")
        for waiver in self.waivers:
            if waiver.statement not in self.require:
                raise ValueError(f"waivers: {waiver.statement!r} is none of the statements in require, word for word")

    def refuse_expired(self, today: date) -> None:
        """Raises GmiError where a waiver has ended."""
        for waiver in self.waivers:
            if waiver.until < today:
                raise GmiError(
                    f"The waiver of {waiver.statement!r} by {waiver.name} ended on {waiver.until}: renew or remove it."
                )


@dataclass(frozen=True)
class Judged:
    """A statement, or what no statement speaks of, and what the audit says of it."""

    statement: str
    outcome: Outcome
    found: str  # a sentence


@dataclass(frozen=True)
class Decision:
    """What a policy comes to."""

    policy: str
    result: Result
    statements: tuple[Judged, ...]
    finished: str | None = None  # when the figures were found; None: the report does not say

    def __str__(self) -> str:
        lines = [f"{each.outcome:10}{each.statement}: {each.found}" for each in self.statements]
        of = "" if self.finished is None else f" (figures of {self.finished[:10]})"
        return "\n".join([*lines, f"policy {self.policy}: {self.result}{of}"])


def decide(policy: Policy, report: Mapping[str, Any], model: str = "") -> Decision:
    """The decision on a report.json, or on another kind of audit's file.

    fail: a statement is missed and not waived. inconclusive: none is, but one is not known; or no statement speaks of
    the verdict, and it is another than "no evidence"; or of `notable` or `untested`, where an acquittal excludes less
    than usual, or is of fewer values; or of warnings, where there is no verdict and a check warns; or of an arm with
    which more is found; or of membership, whose own verdict is another. What none speaks of stands among the
    statements, as not known. Raises GmiError for a figure that the audit does not have.

    model: why it is not known whether the figures are of the model that is to be decided on; empty: they are.
    """
    waived = {waiver.statement: waiver for waiver in policy.waivers}
    judged, figures = [], rows(report)
    for text in policy.require:
        statement = Statement.parse(text)
        outcome, found = _judged(statement, report, figures)
        if outcome != "met" and text in waived:
            waiver = waived[text]
            outcome, found = "waived", f"{found}; waived until {waiver.until} by {waiver.name}: {waiver.reason}"
        judged.append(Judged(text, outcome, found))
    statements = map(Statement.parse, policy.require)
    judged += _left_open(report, {about for each in statements for about in _about(each, report, figures)})
    judged += [Judged("model", "not known", model)] * bool(model)
    outcomes = {each.outcome for each in judged}
    result: Result = "pass"
    if "missed" in outcomes:
        result = "fail"
    elif "not known" in outcomes:
        result = "inconclusive"
    return Decision(policy.name, result, tuple(judged), report.get("provenance", {}).get("finished"))


def _warnings(report: Mapping[str, Any]) -> list[str]:
    """Names of the checks that warn, and of the defences that mislead searches rather than hide people."""
    names = [check["name"] for check in report.get("checks", ()) if check["severity"] in ("stop", "warning")]
    return names + [arm["name"] for arm in report.get("arms", ()) for _ in arm["masking"]]


def _counted(report: Mapping[str, Any]) -> dict[str, float | None]:
    """What statements say of an audit by a plain number; None: this kind does not say."""
    verdict, data, seeds = report.get("verdict") or {}, report.get("data"), report.get("seeds")
    seeds = verdict.get("seeds", seeds)
    places = ((data, "attacked"), (report, "attacked"))
    places += ((report.get("sets", {}).get("training"), "people"), (report.get("records"), "people"))
    return {
        "people": next((place[name] for place, name in places if isinstance(place, dict) and name in place), None),
        "seeds": len(seeds) if isinstance(seeds, list) else seeds,
        "warnings": len(_warnings(report)),
        "notable": verdict.get("notable", report.get("notable")),
        "untested": len(report["untested"]) if "untested" in report else None,
    }


def _about(statement: Statement, report: Mapping[str, Any], figures: list[Row]) -> set[str]:
    """What a statement speaks of: the verdict, people or warnings, or parts of the report."""
    if statement.figure in (*WORDS, *COUNTED):
        return {statement.figure}
    return {row["part"] for row in _named(statement, report, figures)}


def _left_open(report: Mapping[str, Any], spoken_of: Collection[str]) -> Iterator[Judged]:
    """What the audit says and no statement speaks of: figures that hold do not speak of what found more."""

    def silent(about: str, found: str) -> Judged:
        return Judged(about, "not known", f"{found}, of which no statement speaks")

    finding, warned = (report.get("verdict") or {}).get("finding"), _warnings(report)
    if finding not in (None, "no evidence") and "verdict" not in spoken_of:
        yield silent("verdict", finding)
    notable, usual = _counted(report)["notable"], LARGEST.get(report.get("kind", ""))
    if finding == "no evidence" and notable and usual and notable > usual and "notable" not in spoken_of:
        yield silent("notable", f"an advantage below {notable:g} was not to be found, and {usual:g} is usual")
    if finding == "no evidence" and report.get("untested") and "untested" not in spoken_of:
        yield silent("untested", f"of {', '.join(report['untested'])} it is not known")
    if finding is None and warned and "warnings" not in spoken_of:
        yield silent("warnings", f"{', '.join(dict.fromkeys(warned))} warned")
    worse = [arm["name"] for arm in report.get("arms", ()) if any(leak["finding"] == "more" for leak in arm["leaks"])]
    if worse and "arms.leaks" not in spoken_of:
        yield silent("arms.leaks", f"more is found with {', '.join(worse)} than without")
    beside = membership(report)
    about_members = any(part in spoken_of for part in (_PARTS["membership"], "white_box"))
    if beside is not None and not about_members and beside["finding"] != "no evidence":
        yield silent("membership", beside["finding"])


def _judged(statement: Statement, report: Mapping[str, Any], figures: list[Row]) -> tuple[Outcome, str]:
    """Whether it holds for every figure that it names; one that failed is not known."""
    if statement.figure == "access":
        access = (report.get("verdict") or {}).get("access")
        if access is None:
            raise GmiError(f"{statement.text!r}: this kind of audit has no verdict at one level of access.")
        named = statement.bound if isinstance(statement.bound, tuple) else ()
        return ("met" if access in named else "missed"), access
    if isinstance(statement.bound, tuple):
        finding = (report.get("verdict") or {}).get("finding")
        if finding is None:
            raise GmiError(f"{statement.text!r}: this kind of audit has no verdict.")
        kind = next((findings for findings in EVIDENCE if finding in findings), ())
        named = {each for each in statement.bound if each.startswith("evidence")}
        if kind and statement.sign == "not in" and not named & set(kind):
            return "not known", f"{finding}, of which the statement does not speak: name {' and '.join(kind)}"
        if finding == "inconclusive" and statement.sign == "not in" and finding not in statement.bound:
            return "not known", f"{finding}: say verdict in [no evidence, inconclusive] where that is enough"
        return ("met" if (finding in statement.bound) == (statement.sign != "not in") else "missed"), finding
    holds, bound = COMPARISONS[statement.sign], statement.bound
    if statement.figure in COUNTED:
        number = _counted(report)[statement.figure]
        if number is None:
            raise GmiError(f"{statement.text!r}: this kind of audit does not say {statement.figure}.")
        return ("met" if holds(number, bound) else "missed"), f"{number:g}"
    chosen = _named(statement, report, figures)
    ends = [row["value"] if row["low"] is None else row[statement.end] for row in chosen]
    known = [end for end in ends if end is not None]
    bounded = all(row["unit"] not in ("number", "count") for row in chosen) and all(abs(end) <= 1 for end in known)
    if bounded and abs(bound) > 1:
        raise GmiError(f"{statement.text!r} is about a share, an area or a difference of them: 30 % is 0.3.")
    worst = {"<=": max, "<": max, ">=": min, ">": min}.get(statement.sign, max)
    if any(not holds(end, bound) for end in known):
        return "missed", f"{worst(known):.3g}"
    if len(known) < len(ends):
        return "not known", next(str(row.get("failed", "not measured")) for row in chosen if row["value"] is None)
    return "met", f"{worst(known):.3g}"


def _named(statement: Statement, report: Mapping[str, Any], figures: list[Row]) -> list[Row]:
    """The rows of the figure's name, at least one. Raises GmiError where there is none."""
    name = statement.figure
    if ":" in name:
        labels, _, metric = name.rpartition(":")
        wanted = dict(label.strip().split("=", 1) for label in labels.split(",") if "=" in label)
        wanted["metric"] = metric.strip()
    elif name.startswith("identity."):
        judge = (report.get("verdict") or {}).get("judge", "")
        wanted = {"part": "results", "judge": judge, "metric": name.removeprefix("identity.")}
        advantages = (report.get("verdict") or {}).get("advantages") or ()
        figures = [row for row in figures if row.get("method") in {each["attack"] for each in advantages}]
    else:
        parts = {part: part for part in sorted({row["part"] for row in figures})} | _PARTS
        part = max((each for each in parts if f"{name}.".startswith(f"{each}.")), key=len, default="")
        wanted = {"part": parts.get(part, ""), "metric": name.removeprefix(part).removeprefix(".") or "leak"}
        wanted["metric"] = re.sub(r"^tpr@", "hits@", wanted["metric"])
    measured = (row for row in figures if row.get("method") != "chance")  # which is arithmetic
    found = [row for row in measured if all(row.get(key) == value for key, value in wanted.items())]
    if not found:
        raise GmiError(
            f"{statement.text!r}: this audit has no figure {name}{_near(wanted, figures)}. A figure is {_KNOWN}."
        )
    return found


def _near(wanted: Mapping[str, str], figures: list[Row]) -> str:
    """Which label of a figure that there is not has another value, and the nearest value that there is."""
    for key, value in wanted.items():
        if not value:  # a figure of no part
            continue
        there = sorted({str(row[key]) for row in figures if key in row})
        if value not in there:
            named = next((name for name, part in _PARTS.items() if part == value), value)
            return f": it has no {key} {named}{suggestion(value, there)}"
    return ": no figure has all of these labels"


def read_policy(path: Path) -> Policy:
    """The policy in a YAML file. Raises GmiError for a mistake in it, and for a waiver that has ended."""
    from gmi.settings import read

    if not path.is_file():
        raise GmiError(f"There is no policy {path}: docs/gate.md has one to copy.")
    policy = read(path, Policy)
    policy.refuse_expired(date.today())
    return policy
