"""How often the verdict is wrong, measured where the truth is planted.

    python scripts/calibrate_verdict.py

Audits of a toy world (gmi/toy.py) by the shipped code and rule: 100 null ones, whose targets were trained on shuffled
labels, and 100 planted leaks in five strengths, the share of labels that are right. Prints the rate of false alarms,
the power by strength, and the coverage of the 95 % intervals. An interval's truth is the mean over the other audits of
its strength: 99 null ones, 19 of each strength planted.
"""

import argparse
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from gmi import toy
from gmi.inversion import judging, scoring
from gmi.inversion.audit import reconstruct
from gmi.inversion.judging import own_opinion
from gmi.inversion.verdict import METRIC
from gmi.metrics.statistics import Estimate, by_person, clopper_pearson, difference, estimate
from gmi.run import Run

PEOPLE = 40
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Outcome:
    right: float  # share of labels
    finding: str
    figures: Mapping[str, Estimate]


def audited(task: tuple[float, int]) -> Outcome:
    """One audit, up to its verdict."""
    right, seed = task
    torch.set_num_threads(1)
    plan, inputs = toy.plan(seed), toy.inputs(PEOPLE, right, seed)
    judge = inputs.judges.faces[0]
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(Path(folder, "run"), {})
        cpu = torch.device("cpu")
        oracle = plan.access.open(inputs.target, run.folder)
        found, _, _ = reconstruct(plan, inputs, oracle, run, cpu)
        judged = judging.judge(run, inputs.judges, own_opinion(inputs.target, oracle, cpu), inputs.people, found)
    seen = scoring.recognise(judge, judged.templates[judge.name], inputs.people, found, plan.fmrs)
    search, classes = seen.outcomes["search"], seen.classes["search"]
    figures = {name: estimate(search[name], classes) for name in ("match@0.01", "rank1", "rank5", METRIC)}
    for control in ("best_of_n", "permuted"):
        own = by_person(search[METRIC], classes)
        figures[f"{METRIC} - {control}"] = difference(own, seen.of_people(control, METRIC))
    return Outcome(right, scoring.verdicts([seen])[judge.name].finding, figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=100, help="of each kind; a multiple of 5")
    count = parser.parse_args().audits
    tasks = [(0.0, seed) for seed in range(count)]
    tasks += [(right, 10_000 + seed) for right in STRENGTHS for seed in range(count // len(STRENGTHS))]
    start = perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        outcomes = list(pool.map(audited, tasks, chunksize=5))
    cells = {right: [one for one in outcomes if one.right == right] for right in (0.0, *STRENGTHS)}

    print(f"{PEOPLE} people an audit, {perf_counter() - start:.0f} s, {platform.machine()}, {date.today()}\n")
    print("labels right   audits   evidence           no evidence   inconclusive")
    for right, cell in cells.items():
        findings = Counter(one.finding for one in cell)
        alarms = findings["evidence of leakage"]
        low, high = clopper_pearson(alarms, len(cell))
        rate = f"{alarms / len(cell):.0%} [{low:.0%}, {high:.0%}]"
        kind = "shuffled" if right == 0 else f"{right:.0%}"
        print(f"{kind:12}{len(cell):9}   {rate:17}{findings['no evidence']:13}{findings['inconclusive']:15}")

    print("\n95 % interval of          null              planted")
    for name in outcomes[0].figures:
        shown = [_covered([cells[0.0]], name), _covered([cells[right] for right in STRENGTHS], name)]
        print(f"{name:22}" + "".join(f"{one:>18}" for one in shown))


def _covered(cells: list[list[Outcome]], name: str) -> str:
    """How many of the intervals hold their cell's mean; the mean itself is taken without the audit that is asked."""
    hits = total = 0
    for cell in cells:
        values = np.array([one.figures[name].value for one in cell])
        for place, one in enumerate(cell):
            truth = np.delete(values, place).mean()
            hits += one.figures[name].low <= truth <= one.figures[name].high
            total += 1
    low, high = clopper_pearson(hits, total)
    return f"{hits / total:.0%} [{low:.0%}, {high:.0%}]"


if __name__ == "__main__":
    main()
