"""Two audits of the same people compared in what they recovered: paired differences with 95 % intervals.

For two searches or priors on one target, or two targets of the same people, under the same first judge.

Example: python scripts/compare_reports.py runs/lfw_flow runs/lfw_gan
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gmi.cli import run
from gmi.errors import GmiError
from gmi.metrics.identity import RANKS
from gmi.metrics.statistics import Failed, Outcome, attempt, difference


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, metavar="RUN", help="run folder of an audit")
    parser.add_argument("second", type=Path, metavar="RUN", help="run folder whose figures are subtracted")
    options = parser.parse_args(arguments)
    first, second = _report(options.first), _report(options.second)
    paired = list(differences(first, second))
    people, judge = first["data"]["attacked"], first["judges"][0]["name"]
    print(f"{first['name']} - {second['name']}: {people} people, judged by {judge}")
    for metric, outcome in paired:
        if isinstance(outcome, Failed):
            print(f"{metric:12} failed: {outcome.failed}")
        else:
            print(f"{metric:12} {outcome.value:+.3f} [{outcome.low:+.3f}, {outcome.high:+.3f}]")


def differences(first: dict[str, Any], second: dict[str, Any]) -> Iterator[tuple[str, Outcome]]:
    """The mean difference in each metric of both reports, one pair a person. Raises GmiError for other people."""
    for what, look in {
        "data, or in their split": lambda report: report["data"]["digest"],
        "people attacked": lambda report: [row["index"] for row in _people(report)],
        "first judge": lambda report: report["judges"][0]["name"],
    }.items():
        if look(first) != look(second):
            raise GmiError(f"The two reports differ in the {what}: their people cannot be paired.")
    left, right = _values(first), _values(second)
    for metric in [name for name in left if name in right]:
        bounds = None if metric == "similarity" else (-1.0, 1.0)
        yield metric, attempt(lambda name=metric, ends=bounds: difference(left[name], right[name], bounds=ends))


def _values(report: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """The values of the attacked people (A,), by metric."""
    people = _people(report)
    values = {f"match@{fmr}": [row["matched"][fmr] for row in people] for fmr in people[0]["matched"]}
    if report["cost"]["reconstructions"] == len(people):  # of several images a person there is only the mean rank
        values |= {f"rank{k}": [row["rank"] <= k for row in people] for k in RANKS}
    values |= {name: [row[name] for row in people] for name in ("auc", "similarity")}
    return {name: np.asarray(column, np.float64) for name, column in values.items()}


def _people(report: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(report["people"], key=lambda row: row["index"])


def _report(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "report.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        if not folder.is_dir():
            raise GmiError(f"There is no run folder {folder}.") from error
        raise GmiError(f"{folder} holds no report yet ({error}): run the audit first.") from error


if __name__ == "__main__":
    run(main)
