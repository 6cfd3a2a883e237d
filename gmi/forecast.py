"""What an audit would cost, before anything is spent."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch

SLOW = 10.0  # seconds of a timing that is not repeated


@dataclass(frozen=True)
class Forecast:
    """Queries and seconds by step, before anything is spent; `str()` is a table."""

    queries: dict[str, int]
    seconds: dict[str, float]
    without: tuple[str, ...] = ()  # what the seconds leave out
    notes: tuple[str, ...] = ()  # sentences below the table
    free: tuple[str, ...] = ()  # steps whose queries no adversary makes: they are not in the total
    read: str = ""  # a table of what was read

    def __str__(self) -> str:
        steps = dict.fromkeys([*self.queries, *self.seconds])
        width = max(16, *(len(step) + 2 for step in steps), 0) if steps else 16
        lines = [self.read] * bool(self.read) + [f"{'step':{width}}{'queries':>10}{'seconds':>10}"]
        lines += [f"{step:{width}}{self.queries.get(step, 0):10,}{self.seconds.get(step, 0):10.0f}" for step in steps]
        total = sum(self.seconds.values())
        asked = sum(count for step, count in self.queries.items() if step not in self.free)
        lines.append(f"{'total':{width}}{asked:10,}{total:10.0f}")
        if any(self.queries.get(step) for step in self.free):
            lines.append("(without the queries of steps that no adversary makes: " + ", ".join(self.free) + ")")
        lines.append(
            f"about {total / 60:.1f} minutes on this machine, as busy as it is now, within a factor of two"
            + "".join(f"; to this comes the time {part}" for part in self.without)
        )
        return "\n".join([*lines, *self.notes])


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of a second call: the first one warms up, unless it takes so long that this is nothing to it."""
    seconds = 0.0
    for _ in range(2):
        if seconds < SLOW:
            start = perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = perf_counter() - start
    return seconds
