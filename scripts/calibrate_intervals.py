"""How often the 95 % intervals of a report cover the truth, by kind of figure and number of people.

    python -m scripts.calibrate_intervals

Worlds with a known truth are drawn over and over, rare rates among them; each cell is the share of intervals that hold
it. It should be 93 to 97 %, or above where few people or few events leave no choice but caution, and never below 92 %.
"""

import argparse
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from time import perf_counter
from zlib import crc32

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import beta

from gmi.metrics import identity
from gmi.metrics.detection import auc, hit_rate
from gmi.metrics.rates import quantile_ranks
from gmi.metrics.statistics import Array, Estimate, Failed, by_person, difference, estimate, recovered, widened
from gmi.report.figures import line
from scripts.record_result import record_script

PEOPLE = (10, 20, 40, 60)
SIZE, PHOTOGRAPHS = 32, 3  # of templates, and how many of each person are enrolled
CROWD = 1500  # people in general, among whom the true match rate is measured

Draw = Callable[[np.random.Generator, int], tuple[Estimate | Failed, float]]
"""An interval from a world of so many people, and the truth."""


def rates(rng: np.random.Generator, rate: float, images: int, people: int) -> Array:
    """Share of each person's images that match (people,): people differ, beta with correlation 0.3."""
    scale = 1 / 0.3 - 1
    return rng.binomial(images, rng.beta(rate * scale, (1 - rate) * scale, people)) / images


def level(rate: float, images: int) -> Draw:
    def draw(rng: np.random.Generator, people: int) -> tuple[Estimate | Failed, float]:
        return estimate(rates(rng, rate, images, people), np.arange(people)), rate

    return draw


def area(a: float, b: float) -> Draw:
    def draw(rng: np.random.Generator, people: int) -> tuple[Estimate | Failed, float]:
        return estimate(rng.beta(a, b, people), np.arange(people)), a / (a + b)

    return draw


def contrast(left: float, right: float, images: int) -> Draw:
    def draw(rng: np.random.Generator, people: int) -> tuple[Estimate | Failed, float]:
        sides = (rates(rng, rate, images, people) for rate in (left, right))
        return difference(*sides), left - right

    return draw


def share(attack: float, control: float, oracle: float) -> Draw:
    def draw(rng: np.random.Generator, people: int) -> tuple[Estimate | Failed, float]:
        sides = (rates(rng, rate, 5, people) for rate in (attack, control, oracle))
        return recovered(*sides), (attack - control) / (oracle - control)

    return draw


def seeds(count: int, common: float) -> Draw:
    """People whose values differ by 0.1, draws that move everybody by `common`, and as much as people for both."""

    def draw(rng: np.random.Generator, people: int) -> tuple[Estimate | Failed, float]:
        luck, mine = rng.normal(0, common, (count, 1)), rng.normal(0, 0.1, people)
        values = luck + mine + rng.normal(0, 0.1, (count, people))
        ids, draws = np.tile(np.arange(people), count), np.repeat(np.arange(count), people)
        return estimate(values.ravel(), ids, draws=draws, bounds=None), 0.0

    return draw


def hits(alarms: float, lead: float, negatives: int) -> Draw:
    """Positives a lead above negatives, so many negatives of each person; half of the variance is the person's."""

    def draw(rng: np.random.Generator, people: int) -> tuple[Estimate | Failed, float]:
        own = rng.normal(size=(2, people, 1)) * np.sqrt(0.5)
        scores = (own[0] + rng.normal(size=(people, negatives)) * np.sqrt(0.5)).ravel()
        more = (lead + own[1] + rng.normal(size=(people, 3)) * np.sqrt(0.5)).ravel()
        ids = np.concatenate([np.repeat(np.arange(people), negatives), people + np.repeat(np.arange(people), 3)])
        truth = np.repeat([False, True], [len(scores), len(more)])
        return hit_rate(np.concatenate([scores, more]), truth, alarms, ids), float(ndtr(lead - ndtri(1 - alarms)))

    return draw


def curve(lead: float) -> Draw:
    def draw(rng: np.random.Generator, people: int) -> tuple[Estimate | Failed, float]:
        scores = np.concatenate([rng.normal(size=people), lead + rng.normal(size=people)])
        return auc(scores, np.repeat([False, True], people)), float(ndtr(lead / np.sqrt(2)))

    return draw


def worst(rng: np.random.Generator, people: int) -> tuple[Estimate | Failed, float]:
    values = np.concatenate([[0.0], np.sort(rng.beta(5, 2, people)), [1.0]])
    low, high = quantile_ranks(0.9, people)
    return Estimate(0, float(values[low + 1]), float(values[high + 1]), people, people), float(beta.ppf(0.9, 5, 2))


def templates(rng: np.random.Generator, people: int, strength: float) -> tuple[Array, Array, Array]:
    """Enrolled and probe templates, three each of every person, and one image that an attack made of her."""
    traits = np.random.default_rng(0).normal(size=(4, SIZE))
    person = _unit(_unit(traits)[rng.integers(4, size=people)] + 1.3 * _unit(rng.normal(size=(people, SIZE))))

    def photographs() -> Array:
        near = _unit(rng.normal(size=(people, PHOTOGRAPHS, SIZE)))
        return _unit(person[:, None] + 0.8 * near).reshape(-1, SIZE)

    return photographs(), photographs(), _unit(strength * person + _unit(rng.normal(size=(people, SIZE))))


def matches(fmr: float, strength: float) -> Draw:
    """The match rate at a threshold set on the audited people, against that at the threshold of people in general."""
    rng = np.random.default_rng(1)
    enrolled, probes, _ = templates(rng, CROWD, strength)
    ids = np.repeat(np.arange(CROWD), PHOTOGRAPHS)
    strangers = identity.to_people(probes[::PHOTOGRAPHS] @ enrolled.T, ids)
    threshold = float(np.quantile(strangers[~np.eye(CROWD, dtype=bool)], 1 - fmr))
    own = []
    for _ in range(8):
        enrolled, _, images = templates(rng, CROWD, strength)
        own.append(_own(images, enrolled, CROWD))
    truth = float((np.concatenate(own) >= threshold).mean())

    def draw(rng: np.random.Generator, people: int) -> tuple[Estimate | Failed, float]:
        enrolled, probes, images = templates(rng, people, strength)
        ids, owners = np.arange(people), np.repeat(np.arange(people), PHOTOGRAPHS)
        (cut,) = identity.thresholds(identity.to_people(probes @ enrolled.T, owners), owners, ids, fmrs=(fmr,))
        mine = _own(images, enrolled, people)
        least, greatest = (float(by_person(mine >= end, ids).mean()) for end in (cut.high, cut.low))
        return widened(estimate(mine >= cut.value, ids), least, greatest), truth

    return draw


def _own(images: Array, enrolled: Array, people: int) -> Array:
    """The similarity (P,) of each image to its own person."""
    return np.einsum("pd,pkd->pk", images, enrolled.reshape(people, PHOTOGRAPHS, SIZE)).max(1)


def _unit(values: Array) -> Array:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


KINDS: dict[str, Callable[[], Draw]] = {
    **{f"rate {rate:g}, {images} image{'s' * (images > 1)}": lambda r=rate, i=images: level(r, i)
       for rate in (0.01, 0.05, 0.3, 0.95) for images in (1, 5)},
    "AUC .50": lambda: area(1, 1),
    "AUC .83": lambda: area(5, 1),
    "AUC .95": lambda: area(1.9, 0.1),
    "rate .01 - .0006": lambda: contrast(0.01, 0.0006, 1),
    "rate .05 - .01": lambda: contrast(0.05, 0.01, 1),
    "rate .05 - .05": lambda: contrast(0.05, 0.05, 5),
    "rate .5 - .3": lambda: contrast(0.5, 0.3, 5),
    "recovered .02 of .6": lambda: share(0.02, 0.0006, 0.6),
    "recovered .1 of .5": lambda: share(0.1, 0.05, 0.5),
    "recovered .4 of .8": lambda: share(0.4, 0.05, 0.8),
    "three seeds alike": lambda: seeds(3, 0.0),
    "two seeds, sd .01": lambda: seeds(2, 0.01),
    "three seeds, sd .01": lambda: seeds(3, 0.01),
    "two seeds, sd .03": lambda: seeds(2, 0.03),
    "three seeds, sd .03": lambda: seeds(3, 0.03),
    "three seeds, sd .1": lambda: seeds(3, 0.1),
    "match at FMR .01, weak": lambda: matches(0.01, 0.4),
    "match at FMR .01, strong": lambda: matches(0.01, 1.0),
    "match at FMR .001, strong": lambda: matches(0.001, 1.0),
    "match at FMR .1, weak": lambda: matches(0.1, 0.4),
    "hits at .01 alarms": lambda: hits(0.01, 2.0, 10),
    "hits at .1 alarms": lambda: hits(0.1, 1.0, 5),
    "area under the curve": lambda: curve(1.0),
    "worst tenth": lambda: worst,
}  # fmt: skip


def coverage(task: tuple[str, int]) -> tuple[dict[int, float], float]:
    """The share of intervals that cover the truth, by number of people, and the share of draws without an interval."""
    name, count = task
    draw, rng = KINDS[name](), np.random.default_rng(crc32(name.encode()))
    shares, failures = {}, 0
    for people in PEOPLE:
        drawn = [draw(rng, people) for _ in range(count)]
        given = [(each, truth) for each, truth in drawn if isinstance(each, Estimate)]
        failures += len(drawn) - len(given)
        shares[people] = float(np.mean([each.low - 1e-12 <= truth <= each.high + 1e-12 for each, truth in given]))
    return shares, failures / count / len(PEOPLE)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="worlds for each cell")
    parser.add_argument("--record", action="store_true", help="write results/calibrate_intervals.json")
    options, start = parser.parse_args(arguments), perf_counter()
    count = options.draws
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(coverage, [(name, count) for name in KINDS]))
    print(f"{'':28}" + "".join(f"{people:>9}" for people in PEOPLE) + "  people; without an interval")
    for name, (shares, failures) in zip(KINDS, rows, strict=True):
        print(f"{name:28}" + "".join(f"{share:9.1%}" for share in shares.values()) + f"{failures:9.1%}")
    least = min(share for shares, _ in rows for share in shares.values())
    seconds = perf_counter() - start
    print(f"\nleast {least:.1%}; {count} draws, {seconds:.0f} s, {platform.machine()}, {date.today()}")
    if options.record:
        figures = [
            line("coverage", {"kind": name}, f"{people} people", (share, None, None), "share")
            for name, (shares, _) in zip(KINDS, rows, strict=True)
            for people, share in shares.items()
        ]
        record_script("calibrate_intervals", f"{count} worlds a cell", figures, seconds)


if __name__ == "__main__":
    main()
