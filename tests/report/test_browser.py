"""Pages in a real browser: no violation that axe-core finds, nothing wider than the screen, and a PDF on A4.

Needs an installed Chromium, so these are slow tests, and are skipped without one.
"""

import shutil
from pathlib import Path

import pytest
from reference.planted import example, write

from gmi.cli.reports import BROWSERS, pdf
from gmi.errors import GmiError
from gmi.inversion.page import render

BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(write(tmp_path_factory.mktemp("run"), example()))


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_has_no_violation_and_fits_the_screen(page: Path, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        tab.goto(page.as_uri())
        violations = Axe().run(tab).response["violations"]
        beyond = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        browser.close()
    assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == [] and beyond <= 0


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_page_prints_as_pdf_on_a4(page: Path) -> None:
    printed = pdf(page)
    content = printed.read_bytes()
    assert content.startswith(b"%PDF") and printed.stat().st_mode & 0o777 == 0o600
    assert b"/MediaBox [0 0 594.95" in content or b"/MediaBox [0 0 595" in content  # points


def test_without_a_browser_one_sentence_says_what_to_do(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GmiError, match="install Chromium, or open"):
        pdf(page)
