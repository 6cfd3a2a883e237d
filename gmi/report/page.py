"""Pages: a template of this folder, filled and put in place whole."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def write(path: Path, template: str, filters: Iterable[Callable[..., object]], values: Mapping[str, Any]) -> Path:
    """Writes the page by one rename, for its user alone, and returns its path: the same values give the same bytes."""
    loader = FileSystemLoader(Path(__file__).parent)
    world = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    world.filters.update((function.__name__, function) for function in filters)
    page = world.get_template(template).render(values)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.touch(mode=0o600)  # it may show people
        draft.write_text(page, "utf-8")
        return draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
