"""Outputs of a network by name, where they are not the people in sorted order."""

from pathlib import Path

from gmi.errors import GmiError, because


def columns(file: Path, people: tuple[str, ...]) -> tuple[int, ...]:
    """The output (K,) that belongs to each person, from a text file with one name a line, in the outputs' order.

    A name that is no person's (a background class, people who are not audited) is left out. Raises GmiError where the
    file cannot be read, a person is not in it, or is in it twice.
    """
    try:
        names = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise GmiError(f"target.outputs: {file} cannot be read ({because(error)}).") from error
    for person in people:
        if names.count(person) != 1:
            raise GmiError(
                f"target.outputs: {person} stands {names.count(person)} times in {file}: give one line to each output, "
                "with the name of the person's folder."
            )
    return tuple(names.index(person) for person in people)
