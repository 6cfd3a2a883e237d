"""The command that writes the forms of a finished run anew, and its page as a PDF."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gmi.cli.commands import COMMANDS, imported
from gmi.cli.options import flags_of
from gmi.errors import GmiError, because, foreign
from gmi.files import put

if TYPE_CHECKING:
    from gmi.audits import Kind
    from gmi.gate.policy import Policy

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
"""Programs that print a page, in the order in which they are looked for."""
PATIENCE = 120  # seconds for a page to be printed


def main(arguments: Sequence[str]) -> None:
    """Writes page, summary and card of a finished run from its JSON; with --to pdf, the page as a PDF, too.

    With a policy, the process ends with the decision's exit code.
    """
    options = flags_of("report").parse_args(arguments)
    from gmi.gate.policy import read_policy

    policy = None if options.policy is None else read_policy(options.policy)
    page = rendered(kind_of(options.run), options.run)
    shown = pdf(page) if options.to == "pdf" else page
    code = 0 if policy is None else gate(policy, page)
    print(shown)
    if code:
        sys.exit(code)


def gate(policy: "Policy", page: Path, current: bool = True) -> int:
    """Prints what a policy says of a finished run, writes it next to the page, and returns the exit code.

    current: whether its figures are of the model as it is now, if that is what is to be decided on.
    """
    from gmi.gate.formats import put as put_decision
    from gmi.gate.policy import EXIT, decide
    from gmi.report.page import read

    report = read(page.with_suffix(".json"))
    doubt = (
        f"whether it is still that of {report['provenance']['finished'][:10]} is not known: "
        f"choose another --out, or decide on these figures with gmi report {page.parent} --policy FILE"
    )
    decision = decide(policy, report, "" if current else doubt)
    put_decision(decision, report["name"], page)
    print(decision)
    return EXIT[decision.result]


def kind_of(folder: Path) -> "Kind[Any, Any, Any]":
    """The kind of audit whose finished run a folder holds. Raises GmiError where it holds none."""
    from gmi.report.brief import COMMANDS as KINDS

    try:
        for name, command in KINDS.items():
            if (folder / f"{name}.json").is_file():
                return imported(COMMANDS[command].work)
    except OSError as error:
        raise GmiError(f"{folder} cannot be read ({because(error)}): ask its owner for a copy.") from error
    raise GmiError(f"{folder} holds no finished run: name the folder of one, such as runs/quickstart.")


def rendered(kind: "Kind[Any, Any, Any]", folder: Path) -> Path:
    """Every form of a finished run, and its page's path. Raises GmiError where its JSON was damaged or changed."""
    from gmi.audits import render

    with foreign(lambda why: f"{kind.name}.json does not hold what a page shows ({why}): it was changed."):
        return render(kind, folder)


def pdf(page: Path) -> Path:
    """Prints a page as PDF on A4, next to it. Raises GmiError where no browser is installed, or it fails."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise GmiError(
            f"No browser that prints is installed: install Chromium, or open {page} in any browser and print it there."
        )
    out = page.with_suffix(".pdf")
    with TemporaryDirectory(prefix="gmi-") as profile:  # private to its user
        draft = Path(profile, out.name)
        command = [browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"] * (os.name == "posix" and os.geteuid() == 0)  # which root cannot have
        command += [f"--print-to-pdf={draft}", page.resolve().as_uri()]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
            content = draft.read_bytes()
        except (OSError, subprocess.SubprocessError) as error:
            raise GmiError(f"{browser} did not print {page} ({error}): open the page and print it there.") from error
    return put(out, content)
