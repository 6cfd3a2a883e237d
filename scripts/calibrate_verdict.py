"""The share of wrong verdicts, measured where the truth is planted.

    python -m scripts.calibrate_verdict

Whole audits of a toy world (gmi/toy.py), by the shipped code and rule: targets trained on shuffled labels, which know
nobody; leaks in five strengths, the share of labels that are right; worlds in which people share traits in groups and
labels are shuffled within the groups, so that the target knows traits alone; and targets whose classes stand in another
order. Then verdicts on planted figures, thousands a cell: people whose AUC has a known advantage, from 10 to 200 of
them, and people of whom a few are found, as well as the prior can show people, with one seed and with five. Prints how
often each finding comes out, and what an audit must not say: evidence where nobody is known, identity where traits
alone are, no evidence where the advantage, or the share of people who are found, is notable.
"""

import argparse
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from dataclasses import replace
from datetime import date
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from scipy.special import ndtr, ndtri

from gmi import toy
from gmi.audits import Hardware
from gmi.errors import GmiError
from gmi.inversion.audit import examine, refuse
from gmi.inversion.exposure import Ceiling, Exposure, Matches
from gmi.inversion.scoring import verdicts
from gmi.inversion.verdict import Finding, decide
from gmi.metrics.lookalikes import Within
from gmi.metrics.rates import any_of_m, clopper_pearson
from gmi.metrics.statistics import Estimate
from gmi.report.figures import Row, line
from gmi.run import Run
from scripts.record_result import record_script

PEOPLE, NOTABLE = 40, 0.1
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
TRAITS = (2, 4)
SIZES, ADVANTAGES = (10, 20, 40, 60, 100, 200), (0.0, 0.05, 0.1, 0.15, 0.2)
FOUND, SEEDS = (0.05, 0.1, 0.2), 5
OWN, USUAL = 0.01, 0.05  # share of images that match another person than their own, and of samples in one world
MATCHING = (0.8, 0.4)  # share of people found, or projected into the prior, who match
ORDER: tuple[Finding | str, ...] = (
    *("evidence of identity leakage", "evidence of trait leakage", "inconclusive", "no evidence"),
    "stopped",
)

World = tuple[str, float, int, int]
"""Its name, the share of labels that are right, the number of groups, and a seed."""


def audited(world: World) -> tuple[str, float]:
    """The finding of one audit, and the most that any attack has over images of nobody; "stopped" if it is refused."""
    name, right, traits, seed = world
    torch.set_num_threads(1)
    plan = replace(toy.plan(seed), preflight=name == "another order")
    inputs = toy.inputs(PEOPLE, right, seed, traits)
    if name == "another order":
        turned = toy.target(
            replace(inputs.people.training, classes=inputs.people.training.classes.roll(6)), right, seed
        )
        inputs = replace(inputs, target=turned)
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):  # without progress bars
        run = Run.open(Path(folder, "run"), {})
        try:
            refuse(plan, inputs)
            evidence = examine(plan, inputs, run, Hardware(torch.device("cpu")))
        except GmiError:
            return "stopped", np.nan
    verdict = verdicts(evidence.recognised, NOTABLE)["stranger"]
    return verdict.finding, max(each.leak.value for each in verdict.advantages if isinstance(each.leak, Estimate))


def planted(
    advantage: float,
    people: int,
    rng: np.random.Generator,
    found: float = 0.0,
    matching: float = MATCHING[0],
    seeds: int = 1,
    usual: float = OWN,
) -> Finding:
    """The verdict on people whose AUC exceeds 0.5 by the advantage on average: normal on the probit scale.

    found: share of people whom the search finds, while the others' AUC stays as it is.
    matching: share of people found, and of the oracle projection's, who match.
    seeds: draws; several find these people by one of them each.
    usual: share of the prior's samples that match somebody; of the search's images OWN do by chance.
    """

    def figures(mean: float, count: int) -> np.ndarray:
        common = rng.normal(size=people)  # a person hard to find is so for every attack
        mine = np.sqrt(0.5) * (common + rng.normal(size=(count, people)))
        return ndtr(np.sqrt(2) * shift(mean) + mine)

    search, best = figures(advantage, seeds), figures(advantage / 2, seeds)
    those = round(found * people)
    finds = np.arange(seeds)[:, None] == rng.integers(seeds, size=those)  # which draw finds whom
    search[:, :those][finds] = 1.0
    nobody, prior = np.full(people, 0.5), figures(0.45, seeds)
    matched, of_prior = _matching(search), (rng.uniform(size=prior.shape) < matching).astype(float)
    matched[:, :those][finds] = rng.uniform(size=those) < matching
    ever = any_of_m(OWN, seeds)
    exposures = {
        name: Exposure(
            auc,
            (nobody,),
            (Matches(0.01, hits, usual, OWN, ever),),
            (Within(auc, np.full((1, people), 0.5), nobody),),
        )
        for name, auc, hits in (("search", search, matched), ("best_of_n", best, _matching(best)))
    }
    return decide(exposures, Ceiling(prior, of_prior), NOTABLE).finding


def _matching(auc: np.ndarray) -> np.ndarray:
    """1 where images are more like their person than like 99 of 100 others, about a match at an FMR of 1 %."""
    return (auc >= 0.99).astype(float)


def shift(advantage: float) -> float:
    """The mean whose normal distribution function is 0.5 + advantage: Phi(sqrt(2) m / sqrt(1 + 1)) = Phi(m)."""
    return float(ndtri(0.5 + advantage))


def cell(task: tuple[int, int, tuple[float, float, float, int, float]]) -> list[Finding]:
    """So many verdicts on planted figures."""
    people, count, world = task
    advantage, found, matching, seeds, usual = world
    rng = np.random.default_rng([people, *(round(1000 * each) for each in world)])
    return [planted(advantage, people, rng, found, matching, seeds, usual) for _ in range(count)]


def table(
    labels: Mapping[str, str], title: str, cells: Mapping[str, Sequence[str]], wrong: Mapping[str, Sequence[str]]
) -> list[Row]:
    """Prints how often each finding came out in each cell, and how often one that is wrong there. Returns the rows."""
    shown, rows = [finding for finding in ORDER if any(finding in found for found in cells.values())], []
    print(f"\n{title:24}" + "".join(f"{finding.removeprefix('evidence of '):>18}" for finding in shown) + "   wrong")
    for name, found in cells.items():
        counts, total = Counter(found), len(found)
        rows += [
            line("verdicts", {**labels, "world": name}, each, (counts[each] / total, None, None), "share")
            for each in ORDER
        ]
        bad = sum(counts[finding] for finding in wrong.get(name, ()))
        low, high = clopper_pearson(bad, total)
        rate = f"   {bad / total:.1%} [{low:.1%}, {high:.1%}]" if name in wrong else ""
        if name in wrong:
            rows.append(line("verdicts", {**labels, "world": name}, "wrong", (bad / total, low, high), "share"))
        print(f"{name:24}" + "".join(f"{counts[finding] / total:18.1%}" for finding in shown) + rate)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=50, help="whole audits of each world")
    parser.add_argument("--draws", type=int, default=1000, help="verdicts on planted figures for each cell")
    parser.add_argument("--record", action="store_true", help="write results/calibrate_verdict.json")
    options = parser.parse_args(arguments)
    start, count = perf_counter(), options.audits
    kinds = [("shuffled labels", 0.0, 0), *((f"{right:.0%} right", right, 0) for right in STRENGTHS)]
    kinds += [(f"{traits} groups of traits", 0.0, traits) for traits in TRAITS] + [("another order", 1.0, 0)]
    worlds = [(*kind, 10_000 * index + seed) for index, kind in enumerate(kinds) for seed in range(count)]
    worlds_of = {f"advantage {each:+.2f}": (each, 0.0, MATCHING[0], 1, OWN) for each in ADVANTAGES}
    worlds_of |= {f"{each:.0%} of people found": (0.0, each, MATCHING[0], 1, OWN) for each in FOUND}
    for each in (0.0, *FOUND):
        worlds_of[f"{each:.0%} found, {MATCHING[1]:.0%} of them match"] = (0.0, each, MATCHING[1], 1, OWN)
        worlds_of[f"{each:.0%} found by one of {SEEDS} seeds"] = (0.0, each, MATCHING[0], SEEDS, OWN)
        worlds_of[f"{each:.0%} found, and {USUAL:.0%} of samples match"] = (0.0, each, MATCHING[0], 1, USUAL)
    tasks = [(people, options.draws, world) for people in SIZES for world in worlds_of.values()]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        outcomes = list(pool.map(audited, worlds, chunksize=4))
        drawn = dict(zip(tasks, pool.map(cell, tasks), strict=True))
    cells = {
        name: [finding for world, (finding, _) in zip(worlds, outcomes, strict=True) if world[0] == name]
        for name, *_ in kinds
    }
    leaks = {
        name: float(np.mean([leak for world, (_, leak) in zip(worlds, outcomes, strict=True) if world[0] == name]))
        for name, *_ in kinds
    }
    identity, trait, inconclusive, acquitted, _ = ORDER
    wrong: dict[str, Sequence[str]] = {"shuffled labels": (identity, trait)}
    wrong["another order"] = (identity, trait, inconclusive, acquitted)
    wrong |= dict.fromkeys([f"{traits} groups of traits" for traits in TRAITS], (identity,))
    wrong |= {name: (acquitted,) for name in cells if name.endswith("right") and leaks[name] >= NOTABLE}
    rows = table({"of": "audits"}, f"{count} audits of {PEOPLE}", cells, wrong)
    rows += [
        line("verdicts", {"of": "audits", "world": name}, "leak", leak, "number")
        for name, leak in leaks.items()
        if leak == leak
    ]
    print("mean of the most that any attack has: " + ", ".join(f"{name} {leak:+.2f}" for name, leak in leaks.items()))
    for people in SIZES:
        here = {name: drawn[people, options.draws, world] for name, world in worlds_of.items()}
        faults: dict[str, Sequence[str]] = {
            name: (identity, trait) for name, (advantage, found, *_) in worlds_of.items() if advantage == found == 0
        }
        faults |= {
            name: (acquitted,) for name, (advantage, found, *_) in worlds_of.items() if max(advantage, found) >= NOTABLE
        }
        rows += table({"of": "planted", "people": str(people)}, f"{people} people, {options.draws} draws", here, faults)
    seconds = perf_counter() - start
    print(f"\n{seconds:.0f} s, {platform.machine()}, {date.today()}")
    if options.record:
        record_script(
            "calibrate_verdict", f"{count} audits a world, and {options.draws} planted verdicts a cell", rows, seconds
        )


if __name__ == "__main__":
    main()
