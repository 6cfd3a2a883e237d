"""Which of two audits of the same people recovered more: paired differences, person by person, with 95 % intervals.

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
    parser.add_argument("one", type=Path, metavar="RUN", help="run folder of an audit")
    parser.add_argument("other", type=Path, metavar="RUN", help="run folder whose figures are subtracted")
    options = parser.parse_args(arguments)
    one, other = _report(options.one), _report(options.other)
    paired = list(differences(one, other))
    print(f"{one['name']} - {other['name']}: {one['data']['attacked']} people, judged by {one['judges'][0]['name']}")
    for metric, found in paired:
        if isinstance(found, Failed):
            print(f"{metric:12} failed: {found.failed}")
        else:
            print(f"{metric:12} {found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")


def differences(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str, Outcome]]:
    """For each metric of both reports the mean difference, one pair a person. Raises GmiError for other people."""
    for what, look in {
        "data, or in their split": lambda report: report["data"]["digest"],
        "people attacked": lambda report: [row["index"] for row in _people(report)],
        "first judge": lambda report: report["judges"][0]["name"],
    }.items():
        if look(one) != look(other):
            raise GmiError(f"The two reports differ in the {what}: their people cannot be paired.")
    first, second = _values(one), _values(other)
    for metric in [name for name in first if name in second]:
        bounds = None if metric == "similarity" else (-1.0, 1.0)
        yield metric, attempt(lambda name=metric, ends=bounds: difference(first[name], second[name], bounds=ends))


def _values(report: dict[str, Any]) -> dict[str, NDArray[np.float64]]:
    """By metric, (A,) of the attacked people."""
    people = _people(report)
    values = {f"match@{fmr}": [row["matched"][fmr] for row in people] for fmr in people[0]["matched"]}
    if report["cost"]["reconstructions"] == len(people):  # of several images a person there is only the mean rank
        values |= {f"rank{k}": [row["rank"] <= k for row in people] for k in RANKS}
    values |= {name: [row[name] for row in people] for name in ("auc", "similarity")}
    return {name: np.asarray(some, np.float64) for name, some in values.items()}


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
