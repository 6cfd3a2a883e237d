"""The share of wrong verdicts, measured where the truth is planted.

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
from gmi.audits import Hardware
from gmi.inversion import judging, scoring
from gmi.inversion.attacker import Attacker
from gmi.inversion.audit import reconstruct
from gmi.inversion.judging import own_opinion
from gmi.inversion.verdict import METRIC
from gmi.metrics.statistics import Estimate, by_person, clopper_pearson, difference, estimate
from gmi.run import Run

PEOPLE = 40
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Outcome:
    """The verdict and the figures of one audit."""

    right: float  # share of the target's labels that are right
    finding: str
    figures: Mapping[str, Estimate]


def audited(task: tuple[float, int]) -> Outcome:
    """The outcome of one audit, up to its verdict."""
    right, seed = task
    torch.set_num_threads(1)
    plan, inputs = toy.plan(seed), toy.inputs(PEOPLE, right, seed)
    judge = inputs.judges.faces[0]
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(Path(folder, "run"), {})
        cpu = torch.device("cpu")
        oracle = plan.access.open(inputs.target, run.folder)
        attacker = Attacker(plan.attack, inputs.prior, inputs.people, run, Hardware(cpu))
        releases = reconstruct(plan, inputs, oracle, attacker)
        judged = judging.judge(run, inputs.judges, own_opinion(inputs.target, oracle, cpu), inputs.people, releases)
    recognised = scoring.recognise(judge, judged.templates[judge.name], inputs.people, releases, plan.fmrs)
    search, classes = recognised.outcomes["search"], recognised.classes["search"]
    figures = {name: estimate(search[name], classes) for name in ("match@0.01", "rank1", "rank5", METRIC)}
    for control in ("best_of_n", "permuted"):
        attacked = by_person(search[METRIC], classes)
        figures[f"{METRIC} - {control}"] = difference(attacked, recognised.of_people(control, METRIC))
    return Outcome(right, scoring.verdicts([recognised])[judge.name].finding, figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=100, help="of each kind; a multiple of 5")
    count = parser.parse_args().audits
    tasks = [(0.0, seed) for seed in range(count)]
    tasks += [(right, 10_000 + seed) for right in STRENGTHS for seed in range(count // len(STRENGTHS))]
    start = perf_counter()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        outcomes = list(pool.map(audited, tasks, chunksize=5))
    cells = {right: [outcome for outcome in outcomes if outcome.right == right] for right in (0.0, *STRENGTHS)}

    print(f"{PEOPLE} people an audit, {perf_counter() - start:.0f} s, {platform.machine()}, {date.today()}\n")
    print("labels right   audits   evidence           no evidence   inconclusive")
    for right, cell in cells.items():
        findings = Counter(outcome.finding for outcome in cell)
        alarms = findings["evidence of leakage"]
        low, high = clopper_pearson(alarms, len(cell))
        rate = f"{alarms / len(cell):.0%} [{low:.0%}, {high:.0%}]"
        kind = "shuffled" if right == 0 else f"{right:.0%}"
        print(f"{kind:12}{len(cell):9}   {rate:17}{findings['no evidence']:13}{findings['inconclusive']:15}")

    print("\n95 % interval of          null              planted")
    for name in outcomes[0].figures:
        shares = [_covered([cells[0.0]], name), _covered([cells[right] for right in STRENGTHS], name)]
        print(f"{name:22}" + "".join(f"{share:>18}" for share in shares))


def _covered(cells: list[list[Outcome]], name: str) -> str:
    """The share of intervals that hold their cell's mean, which is taken without the interval's own audit."""
    hits = total = 0
    for cell in cells:
        values = np.array([outcome.figures[name].value for outcome in cell])
        for number, outcome in enumerate(cell):
            truth = np.delete(values, number).mean()
            hits += outcome.figures[name].low <= truth <= outcome.figures[name].high
            total += 1
    low, high = clopper_pearson(hits, total)
    return f"{hits / total:.0%} [{low:.0%}, {high:.0%}]"


if __name__ == "__main__":
    main()
