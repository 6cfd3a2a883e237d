"""The page on security: every test that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_has_its_tests():
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| ") and "`test_" in line]
    named = [re.findall(r"`(test_\w+)`", tests) for _, tests in rows]
    assert len(rows) > 25 and all(named)
    there = set(re.findall(r"^def (test_\w+)\(", code, re.MULTILINE))
    assert {name for names in named for name in names} - there == set()
