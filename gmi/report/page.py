"""Pages: a template, filled and put in place whole."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gmi.errors import GmiError


def read(path: Path) -> dict[str, Any]:
    """What a run left of its figures. Raises GmiError where the file is missing, damaged or of another version."""
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise GmiError(f"{path.parent} has no {path.name} yet, or a damaged one ({error}): make it again.") from error
    if report.get("schema_version") != 1:
        raise GmiError(f"{path} has schema version {report.get('schema_version')}; this gmi reads 1.")
    return report


def write(path: Path, template: Path, filters: Iterable[Callable[..., object]], values: Mapping[str, Any]) -> Path:
    """Writes the page by one rename, for its user alone, and returns its path: the same values give the same bytes.

    template: the file of a kind of audit; it may include the parts in this folder.
    """
    loader = FileSystemLoader([template.parent, Path(__file__).parent])
    world = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    world.filters.update((function.__name__, function) for function in filters)
    page = world.get_template(template.name).render(values)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.touch(mode=0o600)  # it may show people
        draft.write_text(page, "utf-8")
        return draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
