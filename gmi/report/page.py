"""Pages: a template, filled and put in place whole."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gmi.errors import GmiError
from gmi.evidence import purge
from gmi.files import put
from gmi.report.subjects import Rewording, reworded
from gmi.report.terms import label

SCHEMA_VERSION = 12


def read(path: Path) -> dict[str, Any]:
    """The findings that a run left as JSON. Raises GmiError where they are missing, damaged or of another version."""
    try:
        report = json.loads(path.read_text("utf-8"), parse_constant=_reject)
    except FileNotFoundError as error:
        raise GmiError(f"{path.parent} has no {path.name} yet: finish its audit first.") from error
    except (OSError, ValueError) as error:
        raise GmiError(f"{path} is damaged ({error}): start the same audit again.") from error
    if not isinstance(report, dict) or report.get("schema_version") != SCHEMA_VERSION:
        version = report.get("schema_version") if isinstance(report, dict) else None
        raise GmiError(f"{path} has schema version {version}; this gmi reads {SCHEMA_VERSION}.")
    if (state := purge.now(path.parent)) is not None and "evidence" in report:
        report["evidence"] = {"evidence": state, "until": None}
    return report


def write(path: Path, template: Path, filters: Iterable[Callable[..., object]], values: Mapping[str, Any]) -> Path:
    """Fills a template and puts the page in place whole: the same values give the same bytes.

    template: the file of a kind of audit; it may include the parts in this folder.
    filters: what it may use besides `label`, and `worded` for what gmi itself says.
    values: what it shows; "subject" says in which words.
    """
    subject = values.get("subject", "faces")
    return put(path, _environment(template, subject, tuple(filters)).get_template(template.name).render(values))


@cache
def _environment(template: Path, subject: str, filters: tuple[Callable[..., object], ...]) -> Environment:
    """Where templates are read, once for each kind of page."""
    loader = FileSystemLoader([template.parent, Path(__file__).parent])
    world = Environment(
        loader=loader,
        extensions=[Rewording],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    world.extend(subject=subject)
    world.filters.update((function.__name__, function) for function in filters)
    world.filters["label"] = partial(worded_label, subject)
    world.filters["worded"] = lambda text: reworded(text, subject)
    return world


def worded_label(subject: str, name: str, meaning: bool = False) -> str:
    """The words for a name, or its meaning, for this subject; an unknown name is the user's, and stays."""
    text = label(name, meaning)
    return text if text == name else reworded(text, subject)


def _reject(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")
