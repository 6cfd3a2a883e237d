"""An installed browser that looks at pages: what axe-core finds, and what is wider than the screen."""

import shutil
from pathlib import Path

import pytest

from gmi.cli.reports import BROWSERS

BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


def faults(page: Path, width: int, scheme: str) -> list[tuple[str, str]]:
    """Each rule of axe-core that the page breaks, with the first element that does; and "width" where it overflows.

    width: of the screen, in CSS pixels. scheme: "light" or "dark".
    """
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        tab.goto(page.as_uri())
        violations = Axe().run(tab).response["violations"]
        beyond = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        browser.close()
    found = [(each["id"], each["nodes"][0]["html"]) for each in violations]
    return found + [("width", f"{beyond} pixels beyond")] * (beyond > 0)


def faults_everywhere(page: Path) -> list[tuple[str, str]]:
    """Faults on a phone and on a laptop, in light and in dark."""
    return [fault for width in (390, 1280) for scheme in ("light", "dark") for fault in faults(page, width, scheme)]
