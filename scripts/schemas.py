"""Writes the JSON schema of every kind of audit next to its page, from the dataclasses of its findings.

python scripts/schemas.py
"""

import json
from pathlib import Path

import gmi
from gmi.attributes.audit import ATTRIBUTES
from gmi.audits import Kind, schema
from gmi.comparison.audit import COMPARISON
from gmi.extraction.audit import EXTRACTION
from gmi.inversion.audit import INVERSION
from gmi.ladder.audit import LADDER

WINGS: dict[str, Kind] = {
    "inversion": INVERSION,
    "ladder": LADDER,
    "comparison": COMPARISON,
    "attributes": ATTRIBUTES,
    "extraction": EXTRACTION,
}


def text(kind: Kind) -> str:
    """The file's content."""
    return json.dumps(schema(kind), indent=1) + "\n"


if __name__ == "__main__":
    for wing, kind in WINGS.items():
        Path(gmi.__file__).parent.joinpath(wing, "page.schema.json").write_text(text(kind), "utf-8")
