"""Trackers of experiments, through accelerate: scalars go to them, never an image or what tells of a single person."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from gmi.errors import GmiError, foreign

Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]
Log = Callable[[Mapping[str, float], int], None]
"""Takes scalars by name, and the step that they are of."""


def refuse_missing(trackers: Sequence[Tracker]) -> None:
    """Raises GmiError where a tracker is not installed."""
    known = {str(getattr(each, "value", each)) for each in get_available_trackers()}
    for name in trackers:
        if name not in known:
            raise GmiError(f"track: {name} is not installed: pip install {name}, or leave it out.")


@contextmanager
def tracking(trackers: Sequence[Tracker], name: str, folder: Path) -> Iterator[Log]:
    """Starts trackers, gives the function that logs to all of them, and ends them.

    trackers: none: nothing is logged.
    name: what the run is called there.
    folder: where those that write files do so, in track/.
    Raises GmiError where one is not installed, or fails, as without a login.
    """
    refuse_missing(trackers)
    classes: dict[str, Any] = {str(getattr(key, "value", key)): kind for key, kind in LOGGER_TYPE_TO_CLASS.items()}
    started: dict[str, Any] = {}
    with ExitStack() as ends:
        for each in trackers:
            place = {"logging_dir": folder / "track"} if classes[each].requires_logging_directory else {}
            with _as_sentence(each):
                started[each] = classes[each](name, **place)
                started[each].start()
            ends.callback(started[each].finish)

        def log(values: Mapping[str, float], step: int) -> None:
            for each, tracker in started.items():
                with _as_sentence(each):
                    tracker.log({_key(key): float(value) for key, value in values.items()}, step=step)

        yield log


def _as_sentence(tracker: str) -> Any:
    return foreign(lambda why: f"track: {tracker} failed ({why}): mend it, or leave it out and run the same again.")


def _key(name: str) -> str:
    """A name that every tracker takes: letters, digits, dots, dashes, slashes, spaces."""
    return re.sub(r"[^\w./ -]", "-", name)
