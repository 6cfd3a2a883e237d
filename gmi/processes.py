"""The processes of one run, on one machine or several: where they wait for each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import PartialState

from gmi.errors import foreign


def wait() -> None:
    """Waits for all processes of the run. Raises GmiError where one of them has ended before."""
    with foreign(
        lambda why: f"Another process of this run has ended ({why}): mend what it says, and run the same command again."
    ):
        PartialState().wait_for_everyone()


@contextmanager
def first() -> Iterator[None]:
    """What the main process does before the others do it."""
    main = PartialState().is_main_process
    if not main:
        wait()
    yield
    if main:
        wait()


def machines() -> int:
    """How many machines share the run, as torchrun and accelerate launch tell each process."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1"))
