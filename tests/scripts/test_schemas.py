"""The schema next to every page is what the dataclasses of the findings say today."""

from pathlib import Path

import pytest

import gmi
from scripts.schemas import WINGS, text


@pytest.mark.parametrize("wing", WINGS)
def test_the_schema_of_a_page_is_that_of_the_findings(wing):
    written = Path(gmi.__file__).parent.joinpath(wing, "page.schema.json").read_text("utf-8")
    assert written == text(WINGS[wing]), "run: python scripts/schemas.py"


def test_every_page_with_a_schema_is_guarded():
    assert {path.parent.name for path in Path(gmi.__file__).parent.glob("*/page.schema.json")} == set(WINGS)


def test_prose_is_no_part_of_a_schema():
    assert not any('"description": "' in text(kind) for kind in WINGS.values())
