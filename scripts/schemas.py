"""Writes the JSON schema of every kind of audit next to its page, from the dataclasses of its findings.

python scripts/schemas.py
"""

import json
from pathlib import Path
from typing import Any, cast, get_type_hints

from pydantic import TypeAdapter

import gmi
from gmi.attributes.audit import ATTRIBUTES
from gmi.audits import Kind
from gmi.comparison.audit import COMPARISON
from gmi.extraction.audit import EXTRACTION
from gmi.inversion.audit import INVERSION
from gmi.ladder.audit import LADDER
from gmi.report.header import Header
from gmi.watching.audit import WATCHING

WINGS: dict[str, Kind] = {
    "inversion": INVERSION,
    "ladder": LADDER,
    "comparison": COMPARISON,
    "attributes": ATTRIBUTES,
    "extraction": EXTRACTION,
    "watching": WATCHING,
}


def schema(kind: Kind[Any, Any, Any]) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of what a kind of audit writes: the header's keys and those of its findings."""
    parts = [
        TypeAdapter(part).json_schema(mode="serialization")
        for part in (Header, get_type_hints(kind.findings)["return"])
    ]
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{kind.name}.json of gmi",
        "type": "object",
        "properties": parts[0]["properties"] | parts[1]["properties"],
        "$defs": parts[0].get("$defs", {}) | parts[1].get("$defs", {}),
    }
    return cast("dict[str, Any]", _closed(whole))


def _closed(tree: Any) -> Any:
    """The schema with the keys of every object as they are written: all of them, no others, and without prose."""
    if isinstance(tree, dict):
        closed = {key: _closed(value) for key, value in tree.items()}
        if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
            if isinstance(closed.get("description"), str):  # a dataclass's docstring
                del closed["description"]
            closed |= {"additionalProperties": False, "required": list(closed["properties"])}
        return closed
    return [_closed(branch) for branch in tree] if isinstance(tree, list) else tree


def text(kind: Kind) -> str:
    """The file's content."""
    return json.dumps(schema(kind), indent=1) + "\n"


if __name__ == "__main__":
    for wing, kind in WINGS.items():
        Path(gmi.__file__).parent.joinpath(wing, "page.schema.json").write_text(text(kind), "utf-8")
