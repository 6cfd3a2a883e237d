"""The findings of a watch on trial: whose queries it flags, how often, and how soon.

Windows overlap, and those of one attack are alike: the shares are counts, not estimates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from gmi.inversion.inputs import Inputs
from gmi.report.coverage import Reach
from gmi.serving.watch import STATISTICS
from gmi.watching.plan import Watching

CAMERA = "camera"
"""The step of the control: photographs from which the watch has not learnt, as a camera would take them."""

ROUNDS = 10
"""How often the control shows every enrolment photograph."""


@dataclass(frozen=True)
class Stream:
    """What the watch made of one key's queries, in the order in which they came."""

    queries: int
    flags: Tensor  # of every window, which of STATISTICS raised the alarm: bool (W, 3)
    # the same by share of photographs that are sent between the queries; none for the control
    disguised: Mapping[float, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Traffic:
    """The queries of who asks, and the alarms that they raise."""

    queries: int  # on all attacked people, with that seed that asks most
    windows: int  # that were examined, with all seeds
    flagged: float | None  # share of them; None: the queries do not fill one
    first: int | None  # queries after which the first alarm comes, with that seed where it is latest; None: none comes
    reasons: dict[str, float]  # share of the windows in which each statistic raised it


@dataclass(frozen=True, kw_only=True)
class Attacked(Traffic):
    """The queries of one attack."""

    name: str  # the step
    rung: str
    access: str
    search: str
    disguised: dict[str, float | None]  # by share of photographs between the queries, the share of windows flagged


@dataclass(frozen=True)
class Findings:
    """The keys of watch.json after the header's."""

    subject: Literal["faces", "objects"]
    people: int  # behind the target
    attacked: int
    seeds: tuple[int, ...]
    window: int  # queries that are examined together
    alarm: float  # share of real windows that may be flagged
    control: Traffic  # of people at a camera
    traffic: tuple[Attacked, ...]  # of every attack that asks an interface
    attacks: dict[str, tuple[Reach, ...]] = field(default_factory=dict)  # none: what they recover is not measured


def findings(plan: Watching, inputs: Inputs, streams: Mapping[str, Sequence[Stream]]) -> Findings:
    """Everything that the page is rendered from. streams: by step, one for each seed."""
    window = plan.watch.window
    return Findings(
        subject=plan.audit.data.subject,
        people=len(inputs.people.names),
        attacked=len(inputs.people.attacked),
        seeds=plan.audit.seeds,
        window=window,
        alarm=plan.watch.alarm,
        control=Traffic(**noticed(streams[CAMERA], window)),
        traffic=tuple(
            Attacked(
                name=step,
                rung=rung.name,
                access=str(rung.access),
                search=search.type,
                disguised={
                    f"{share:g}": flagged([stream.disguised[share] for stream in streams[step]])
                    for share in plan.watch.disguises
                },
                **noticed(streams[step], window),
            )
            for step, rung, search in plan.asking()
        ),
    )


def noticed(streams: Sequence[Stream], window: int) -> dict[str, Any]:
    """The fields of `Traffic`, of the streams of all seeds."""
    rows = [row for stream in streams for row in stream.flags.tolist()]

    def share(number: int) -> float:
        return sum(row[number] for row in rows) / len(rows)

    firsts = [first(stream.flags, window) for stream in streams]
    return {
        "queries": max(stream.queries for stream in streams),
        "windows": len(rows),
        "flagged": flagged([stream.flags for stream in streams]),
        "first": None if None in firsts else max(each for each in firsts if each is not None),
        "reasons": {name: share(number) for number, name in enumerate(STATISTICS)} if rows else {},
    }


def flagged(flags: Sequence[Tensor]) -> float | None:
    """The share of windows, of all seeds' (W, 3), that raise an alarm; None: there is no window."""
    rows = torch.cat([each.reshape(-1, len(STATISTICS)) for each in flags]).bool()
    return float(rows.any(1).double().mean()) if len(rows) else None


def first(flags: Tensor, window: int) -> int | None:
    """Queries after which the first window is flagged, of windows (W, 3) that overlap by half; None: none is."""
    flagged = flags.any(1).nonzero()
    return window + int(flagged[0]) * (window // 2) if len(flagged) else None
