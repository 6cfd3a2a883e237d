"""How many items are computed at once: as many as fit into memory."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from gmi.errors import GmiError
from gmi.oracles.interface import Interface
from gmi.protocols import VerificationOracle

Item = TypeVar("Item")
Made = TypeVar("Made")

_log = logging.getLogger(__name__)  # warnings are shown, unless the application decides otherwise
_PROC = Path("/proc/self")
_CRAMPED = (
    "The device's memory does not suffice for the candidates of one person, for one sample, or for what a search asks "
    "first: take fewer candidates or a batch below these, with another --out, a smaller prior or another device."
)


class Peak:
    """The most memory that a process had taken at once, in bytes.

    Of a GPU it is what torch has allocated there; else what of the process lies in memory, on Linux alone.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def reset(self) -> int:
        """Bytes that are taken now; the peak is counted from here. Raises GmiError where the system does not tell."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return torch.cuda.memory_allocated(self._device)
        try:
            (_PROC / "clear_refs").write_text("5")  # proc(5): the peak is what is taken
        except OSError as error:
            raise GmiError("memory: this system does not tell what a process takes: leave it out.") from error
        return self._status("VmRSS")

    def read(self) -> int:
        """Bytes at the peak."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return self._status("VmHWM")

    def _status(self, key: str) -> int:
        lines = (_PROC / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


class Fitting:
    """Items in pieces that fit, for one kind of work.

    Where there is a limit, one item comes first, and as many follow as fit by what the piece before took for each, but
    at most twice as many as that had, as what a process takes comes and goes; one at least, whatever it takes.
    Where the memory does not suffice for a piece all the same, its half is tried, and no more from then on.
    """

    def __init__(self, device: torch.device, limit: float | None = None) -> None:
        """limit: GB that the process may take of the device's memory; None: all that there is."""
        self._limit = None if limit is None else limit * 1e9
        self._peak = Peak(device)
        self._most: int | None = None if limit is None else 1
        self._cap: int | None = None  # half of a piece that did not fit; None: all did
        self._before: int | None = None  # bytes that were taken before the first piece

    def pieces(
        self, items: Sequence[Item], oracle: VerificationOracle, work: Callable[[Sequence[Item]], Made]
    ) -> Iterator[tuple[Sequence[Item], Made, int]]:
        """The items in pieces, what `work` makes of each piece, and its queries.

        What was answered before the memory did not suffice is not asked again. Raises GmiError where it does not
        suffice for one item.
        """
        start = 0
        while start < len(items):
            some = items[start : start + (self._most or len(items))]
            before, place = oracle.queries, oracle.ledger.place() if isinstance(oracle, Interface) else None
            try:
                made = self._measured(some, work)
            except torch.OutOfMemoryError as error:
                if len(some) == 1:
                    raise GmiError(_CRAMPED) from error
            else:
                yield some, made, oracle.queries - before
                start += len(some)
                continue
            oracle.queries = before
            if isinstance(oracle, Interface) and place is not None:
                oracle.ledger.back(place)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._most = self._cap = len(some) // 2

    def _measured(self, some: Sequence[Item], work: Callable[[Sequence[Item]], Made]) -> Made:
        """What `work` makes of the items, and from then on as many at once as fit."""
        if self._limit is None:
            return work(some)
        taken = self._peak.reset()
        before = self._before = taken if self._before is None else self._before
        made = work(some)
        each = max(1.0, (self._peak.read() - before) / len(some))
        fit = int((self._limit - before) / each)
        self._most = max(1, min(2 * (self._most or 1), fit, self._cap or fit))
        if fit < 1:
            _tell(round(self._limit / 1e9, 1), round(before / 1e9, 1), round(each / 1e9, 1))
        return made


@cache
def _tell(limit: float, before: float, each: float) -> None:
    """Warns once that the limit does not hold."""
    _log.warning(
        "memory: the process has taken %.1f GB before it searches, and one person or sample takes %.1f more: that is "
        "over the limit of %.1f GB, so one is computed after the other.",
        before,
        each,
        limit,
    )
