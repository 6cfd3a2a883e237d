"""Audits a generative model: which of its training records its samples copy, beside a model that never saw them.

python pipelines/extract.py configs/extract_orl.yaml
"""

import json
from collections.abc import Sequence
from pathlib import Path

from gmi import cli
from gmi.extraction.audit import audit
from gmi.extraction.plan import ExtractionAudit


def main(arguments: Sequence[str]) -> None:
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--out", type=Path, help="run folder; runs/NAME unless given")
    options, plan = cli.configured(parser, arguments, ExtractionAudit)
    page = audit(plan, options.out or Path("runs", plan.name), cli.accelerator().device)
    verdict = json.loads(page.with_suffix(".json").read_text("utf-8"))["verdict"]
    print(f"{verdict['finding'].capitalize()}. {verdict['because']}")
    print(page)


if __name__ == "__main__":
    cli.run(main)
