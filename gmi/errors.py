"""The one exception that the toolkit's own checks raise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import shorten


class GmiError(Exception):
    """A mistake or circumstance the user can mend: one clear sentence; command lines print it and exit with 2."""


class Damaged(GmiError):
    """A finished piece of work that cannot be read: damaged, changed, or of another run."""


class Untrained(GmiError):
    """The weights of a configuration's target are still to be made."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: gmi train-target makes them, from the configuration of an audit.")
        self.reason = reason


class Overspent(GmiError):
    """An audit would ask more than its budget: a forecast shows what for."""


def because(error: Exception) -> str:
    """The error's own words, in one line: without the number and the path that a system puts around them."""
    words = next((line for line in str(error).splitlines() if line.strip()), "")
    if not words or isinstance(error, KeyError):
        words = f"{type(error).__name__} {words}".strip()
    elif isinstance(error, UnicodeDecodeError):
        words = "it is no text in UTF-8"
    elif isinstance(error, FileNotFoundError):
        words = "there is no such file"
    elif isinstance(error, OSError) and error.strerror:
        words = f"{error.strerror[0].lower()}{error.strerror[1:]}"
    return shorten(words.rstrip(". \n"), 300, placeholder=" ...")


def visible(text: str) -> str:
    """The text with control characters spelt out, which could steer a terminal; line ends stay."""
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text)


@contextmanager
def foreign(sentence: Callable[[str], str]) -> Iterator[None]:
    """A border to code that is not gmi's: whatever is raised within becomes a GmiError, which keeps it as its cause.

    sentence: makes the message of the error's own words. What gmi itself raises passes as it is.
    """
    try:
        yield
    except GmiError:
        raise
    except Exception as error:
        raise GmiError(sentence(because(error))) from error


OPTIONAL = {"cryptography": "cryptography", "sklearn": "scikit-learn"}
OPTIONAL |= dict.fromkeys(("fastapi", "uvicorn"), "fastapi uvicorn")
"""Modules of gmi's optional dependencies, and their packages; gmi's extras, of a clone, bring them, too."""


def missing(error: ModuleNotFoundError) -> GmiError:
    """What to install for a module that was not found. Raises the error itself if gmi does not know the module."""
    module = (error.name or "").partition(".")[0]
    if module not in OPTIONAL:
        raise error
    packages = OPTIONAL[module]
    return GmiError(f"This needs {packages.replace(' ', ' and ')}: pip install {packages}.")
