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

STRANGERS = "strangers"
"""The step of the same control with people whom the target does not know."""

ROUNDS = 10
"""How often a control shows every photograph."""


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


@dataclass(frozen=True)
class Disguised:
    """The same attack with photographs between its queries, which an adversary sends who knows of the watch."""

    disguise: str  # the share of photographs in words
    windows: int  # that were examined, with all seeds
    flagged: float | None  # share of them; None: what is sent does not fill one
    sent: int | None  # images, photographs among them, before the first alarm, as `first` of `Traffic`


@dataclass(frozen=True, kw_only=True)
class Attacked(Traffic):
    """The queries of one attack."""

    name: str  # the step
    rung: str
    access: str
    search: str
    disguised: tuple[Disguised, ...]  # by share of photographs between the queries


LIMITS = (
    "An adversary who asks with many keys, each for less than a window, was not tried.",
    "These attacks are those of the configuration: the queries of another search may look more like a camera's.",
    "A watch tells who asks, and hides nobody: what the attacks find, gmi ladder tells.",
)
UNHIDDEN = "An adversary who hides among photographs was not tried: watch.disguises."


@dataclass(frozen=True)
class Findings:
    """The keys of watch.json after the header's."""

    subject: Literal["faces", "objects"]
    people: int  # behind the target
    attacked: int
    seeds: tuple[int, ...]
    window: int  # queries that are examined together
    alarm: float  # share of real windows that may be flagged
    control: Traffic  # of the target's people at a camera
    strangers: Traffic | None  # of other people at it; None: the data has no photographs of them
    traffic: tuple[Attacked, ...]  # of every attack that asks an interface
    limits: tuple[str, ...]  # what the trial does not tell
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
        limits=LIMITS if plan.watch.disguises else (*LIMITS, UNHIDDEN),
        control=Traffic(**noticed(streams[CAMERA], window)),
        strangers=Traffic(**noticed(streams[STRANGERS], window)) if STRANGERS in streams else None,
        traffic=tuple(
            Attacked(
                name=step,
                rung=rung.name,
                access=str(rung.access),
                search=search.type,
                disguised=tuple(disguised(share, streams[step], window) for share in plan.watch.disguises),
                **noticed(streams[step], window),
            )
            for step, rung, search in plan.asking()
        ),
    )


def noticed(streams: Sequence[Stream], window: int) -> dict[str, Any]:
    """The fields of `Traffic`, of the streams of all seeds."""
    rows = torch.cat([stream.flags for stream in streams]).double()
    return {
        "queries": max(stream.queries for stream in streams),
        "windows": len(rows),
        "flagged": flagged(rows),
        "first": latest([stream.flags for stream in streams], window),
        "reasons": dict(zip(STATISTICS, rows.mean(0).tolist(), strict=True)) if len(rows) else {},
    }


def disguised(share: float, streams: Sequence[Stream], window: int) -> Disguised:
    """What the watch makes of the streams of all seeds, with this share of photographs."""
    flags = [stream.disguised[share] for stream in streams]
    rows = torch.cat(flags)
    return Disguised(f"{100 * share:g} % photographs", len(rows), flagged(rows), latest(flags, window))


def flagged(flags: Tensor) -> float | None:
    """The share of windows (W, 3) that raise an alarm; None: there is no window."""
    return float(flags.bool().any(1).double().mean()) if len(flags) else None


def latest(flags: Sequence[Tensor], window: int) -> int | None:
    """The `first` of that seed where it is latest; None: one has none."""
    firsts = [first(each, window) for each in flags]
    return None if None in firsts else max(each for each in firsts if each is not None)


def first(flags: Tensor, window: int) -> int | None:
    """Queries after which the first window is flagged, of windows (W, 3) that overlap by half; None: none is."""
    flagged = flags.any(1).nonzero()
    return window + int(flagged[0]) * (window // 2) if len(flagged) else None
