"""How often each finding came out over several finished audits.

python -m scripts.findings runs/null_orl/0 runs/null_orl/1 ... --record null_orl
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from gmi.inversion.verdict import Finding
from gmi.metrics.rates import clopper_pearson
from gmi.report.figures import Row, line
from scripts.record_result import record_script


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished audits")
    parser.add_argument("--record", metavar="NAME", help="write results/NAME.json")
    options = parser.parse_args(arguments)
    reports = [json.loads((run / "report.json").read_text("utf-8")) for run in options.runs]
    name, *others = sorted({report["name"] for report in reports})
    if others:
        parser.error(f"these are audits of {name}, {', '.join(others)}: give the runs of one configuration")
    verdicts = [report["verdict"] for report in reports]
    rows = [*shares(Counter(verdict["finding"] for verdict in verdicts), name), *_levels(verdicts, name)]
    if options.record:
        seconds = sum(map(_took, reports))
        record_script(
            "findings",
            f"{len(reports)} audits of {name}",
            rows,
            seconds,
            f" {options.runs[0].parent}/*",
            options.record,
        )


def shares(counts: Mapping[str, int], name: str) -> list[Row]:
    """The share of each finding among audits of that name with its interval, printed and as rows of a results file."""
    total, rows = sum(counts.values()), []
    for finding in get_args(Finding):
        count = counts.get(finding, 0)
        low, high = clopper_pearson(count, total)
        rows.append(line("verdicts", {"of": name}, finding, (count / total, low, high), "share"))
        print(f"{finding:32}{count / total:8.1%} [{low:.1%}, {high:.1%}]")
    print(f"evidence: {sum(number for finding, number in counts.items() if finding.startswith('evidence'))} of {total}")
    return rows


def _levels(verdicts: Sequence[Mapping[str, Any]], name: str) -> Iterator[Row]:
    """The target's own opinion and the search's advantage: mean, least and most of the audits."""
    for metric, unit, values in (
        ("own_opinion", "share", [verdict["naive"]["value"] for verdict in verdicts]),
        ("leak", "area difference", [verdict["advantages"][0]["leak"]["value"] for verdict in verdicts]),
    ):
        print(f"{metric:32}{mean(values):8.2f} from {min(values):.2f} to {max(values):.2f}")
        yield line("levels", {"of": name}, metric, (mean(values), min(values), max(values)), unit)


def _took(report: Mapping[str, Any]) -> float:
    started, finished = (datetime.fromisoformat(report["provenance"][end]) for end in ("started", "finished"))
    return (finished - started).total_seconds()


if __name__ == "__main__":
    main()
