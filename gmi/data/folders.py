"""Folders of images, and what lies in them: one for each person, or any."""

import unicodedata
from itertools import pairwise
from pathlib import Path

from gmi.assets.catalogue import resolve
from gmi.errors import GmiError, because

SUFFIXES = {".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
SYSTEM = {
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "@eadir",
    "@recently-snapshot",
    "@recycle",
    "@tmp",
    "__macosx",
    "lost+found",
    "system volume information",
}
"""Names, in lower case, of folders that storage and systems make beside those of their users."""


def folder(name: str, key: str) -> Path:
    """The folder that the setting `key` names. Raises GmiError if there is none."""
    path = resolve(name)
    if not name or not path.is_dir():
        raise GmiError(f"{key}: there is no folder {path if name else repr(name)}.")
    return path


def listing(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """The images in a folder, at any depth, sorted; and what else lies there, with the reason to leave it out.

    Hidden files are neither. Raises GmiError where the folder cannot be read or a name in it is no text.
    """
    found, left = [], {}
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise GmiError(f"{folder} cannot be read ({because(error)}).") from error
    for entry in entries:
        if not _written(entry.name):
            raise GmiError(f"{folder} holds {entry.name!a}, whose name is no text in UTF-8: rename it.")
        if _hidden(entry.name):
            if entry.is_dir() and any(path.suffix.lower() in SUFFIXES for path in entry.rglob("*")):
                left[entry] = "a hidden folder, or one of the system"
        elif entry.is_dir():
            if entry.is_symlink():
                left[entry] = "a link to a folder"
            else:
                inner, others = listing(entry)
                found += inner
                left |= others
        elif not entry.is_file():
            left[entry] = "a link to nothing" if entry.is_symlink() else "no file"
        elif entry.suffix.lower() in SUFFIXES:
            found.append(entry)
        else:
            left[entry] = f"{entry.suffix} is not read" if entry.suffix else "it has no suffix"
    return sorted(found), left


def files(folder: Path) -> list[Path]:
    """The images in a folder, at any depth, sorted. Raises GmiError as `listing` does."""
    return listing(folder)[0]


def left_out(folder: Path, public: bool = False) -> list[str]:
    """What lies in a folder and is not read as an image of somebody, each with the reason.

    public: of a folder of images that need be nobody's; otherwise each person has a folder in it.
    """
    if public:
        left = listing(folder)[1]
    else:
        found = within(folder)
        top = [path for path in sorted(folder.iterdir()) if path.is_file() and not _hidden(path.name)]
        left = {path: "it is in no person's folder" for path in top if path.suffix.lower() in SUFFIXES}
        left |= {path: why for path, why in listing(folder)[1].items() if path not in found}
        left |= {path: why for person in found for path, why in listing(person)[1].items()}
    return [f"{path.relative_to(folder.parent).as_posix()}: {why}" for path, why in left.items()]


def within(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, but for hidden ones."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not _hidden(path.name)]


def refuse_empty(person: Path) -> None:
    """Raises GmiError where a person's folder holds no image that is read."""
    if files(person):
        return
    others = sorted({path.suffix.lower() for path in person.rglob("*") if path.is_file()} - {""})
    kinds = f" (but {', '.join(others)}: convert these to JPEG or PNG)" if others else ""
    raise GmiError(f"{person} holds no image{kinds}: add some, or remove the folder.")


def people(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, str, int]]]:
    """Names of the people that have a folder in this one, sorted, and (path, relative name, person) of their images.

    Raises GmiError for fewer than two people, for a person without images, and for names that are equal in Unicode's
    normal form.
    """
    found = {path: name_of(path) for path in within(folder)}
    names = tuple(sorted(found.values()))
    if twice := [name for name, after in pairwise(names) if name == after]:
        raise GmiError(f"{folder} has two folders of {twice[0]}, which differ in how Unicode writes it: join them.")
    if len(names) < 2:
        raise GmiError(
            f"{folder} has folders of {len(names)} people: an audit needs one folder for each of two or more."
        )
    for person in found:
        refuse_empty(person)
    paths = [files(path) for path in sorted(found, key=found.__getitem__)]
    return names, [
        (path, path.relative_to(folder).as_posix(), person) for person, group in enumerate(paths) for path in group
    ]


def name_of(folder: Path) -> str:
    """The name of a person's folder in Unicode's normal form NFC, whatever system has written it.

    Raises GmiError if it is no text.
    """
    if not _written(folder.name):
        raise GmiError(f"{folder.parent} holds {folder.name!a}, whose name is no text in UTF-8: rename it.")
    return unicodedata.normalize("NFC", folder.name)


def _written(name: str) -> bool:
    """Whether a name is text; Python puts surrogates for bytes that are none."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _hidden(name: str) -> bool:
    """Whether a file or a folder is hidden, or a system's own."""
    return name.startswith(".") or name.lower() in SYSTEM


def public(name: str, key: str) -> list[Path]:
    """The images, sorted, in the folder that the setting `key` names. Raises GmiError if there are none."""
    where = folder(name, key)
    if not (paths := files(where)):
        raise GmiError(f"{key}: {where} holds no image.")
    return paths
