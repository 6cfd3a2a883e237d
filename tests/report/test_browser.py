"""Pages in a real browser: no violation that axe-core finds, nothing wider than the screen, and a PDF on A4.

Needs an installed Chromium, so these are slow tests, and are skipped without one.
"""

from pathlib import Path

import pytest
from reference.browser import faults, needs_browser
from reference.planted import example, write

from gmi.cli.reports import pdf
from gmi.errors import GmiError
from gmi.inversion.page import render


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(write(tmp_path_factory.mktemp("run"), example()))


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_has_no_violation_and_fits_the_screen(page: Path, scheme: str, width: int) -> None:
    assert faults(page, width, scheme) == []


@pytest.mark.slow
@needs_browser
def test_page_prints_as_pdf_on_a4(page: Path) -> None:
    printed = pdf(page)
    content = printed.read_bytes()
    assert content.startswith(b"%PDF") and printed.stat().st_mode & 0o777 == 0o600
    assert b"/MediaBox [0 0 594.95" in content or b"/MediaBox [0 0 595" in content  # points


def test_without_a_browser_one_sentence_says_what_to_do(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GmiError, match="install Chromium, or open"):
        pdf(page)
