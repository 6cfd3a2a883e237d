"""The command that joins runs of one system into a dossier."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gmi.cli.options import flags_of
from gmi.cli.reports import pdf
from gmi.dossier.dossier import Dossier
from gmi.errors import GmiError
from gmi.files import put
from gmi.report import page
from gmi.report.coverage import standards
from gmi.report.terms import written

TEMPLATE = Path(__file__).with_name("page.html")


def main(arguments: Sequence[str]) -> None:
    """Writes a dossier's page and JSON; with --to pdf, prints the page, too.

    Raises GmiError where the runs are not of one system, or not finished.
    """
    options = flags_of("dossier").parse_args(arguments)
    if (options.out / "config.yaml").exists() or options.out.resolve() in {run.resolve() for run in options.runs}:
        raise GmiError(f"--out: {options.out} holds a run, and a dossier needs a folder of its own.")
    path = write(Dossier.of(options.runs, options.system), options.out)
    print(pdf(path) if options.to == "pdf" else path)


def write(dossier: Dossier, out: Path) -> Path:
    """Writes `index.html` and `dossier.json` into a folder, and returns the page's path."""
    put(out / "dossier.json", json.dumps(plain(dossier), indent=1) + "\n")
    links = {part.folder: quote(os.path.relpath(part.folder / part.page, out)) for part in dossier.parts}
    values: dict[str, Any] = {"dossier": dossier, "links": links, "standards": standards()}
    return page.write(out / "index.html", TEMPLATE, (written,), values)


def plain(dossier: Dossier) -> dict[str, Any]:
    """A dossier as plain data: runs and what they found, attacks that none made, evidence by requirement."""
    return {
        "system": dossier.system,
        "apart": dossier.apart,
        "runs": [
            {
                "name": part.name,
                "kind": part.report["kind"],
                "folder": str(part.folder),
                "access": part.access,
                "attacks": part.report["attacks"],
                "finding": part.finding,
                "beside": part.beside,
                "cautions": part.cautions,
                "finished": part.report["provenance"]["finished"],
                "gmi": part.report["gmi"],
                "model": part.model,
                "configuration": part.report["provenance"]["config_digest"],
                "evidence": part.report["evidence"],
                "has_signature": part.has_signature,
            }
            for part in dossier.parts
        ],
        "not_tested": [attack.what for attack in dossier.missing],
        "requirements": [
            {"document": document.title, "id": requirement.id, "figures": list(figures)}
            for requirement, document, figures in dossier.requirements
        ],
    }
