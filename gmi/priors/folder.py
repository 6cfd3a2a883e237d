"""Folders of priors."""

from pathlib import Path

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError


def prior_folder(name: str) -> Path:
    """The folder that a setting names. Raises GmiError if it is missing, or the folder of a training."""
    folder = resolve(name)
    if not name or not folder.is_dir():
        raise GmiError(f"There is no prior folder {folder if name else repr(name)}.")
    if (folder / "prior").is_dir():
        raise GmiError(f"{folder} is the folder of a training: its prior is {folder / 'prior'}.")
    return folder
