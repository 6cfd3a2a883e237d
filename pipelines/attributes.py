"""Audits a model of tables: what it gives away of one attribute of the people in it, beside what anybody can guess.

python pipelines/attributes.py configs/attributes_fair.yaml
"""

import json
from collections.abc import Sequence
from pathlib import Path

from gmi import cli
from gmi.errors import GmiError


def main(arguments: Sequence[str]) -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise GmiError("Tables need scikit-learn: pip install -e '.[tabular]'.") from error
    from gmi.attributes.audit import audit
    from gmi.attributes.plan import AttributeAudit

    parser = cli.parser(__doc__ or "")
    parser.add_argument("--out", type=Path, help="run folder; runs/NAME unless given")
    options, plan = cli.configured(parser, arguments, AttributeAudit)
    page = audit(plan, options.out or Path("runs", plan.name))
    verdict = json.loads(page.with_suffix(".json").read_text("utf-8"))["verdict"]
    print(f"{verdict['finding'].capitalize()}. {verdict['because']}")
    print(page)


if __name__ == "__main__":
    cli.run(main)
