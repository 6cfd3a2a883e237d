"""Conclusions in words: a finding, its reasons, and what would end a doubt."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from gmi.metrics.detection import Detection
from gmi.metrics.power import people_needed, people_unseen
from gmi.metrics.rates import TAIL
from gmi.metrics.statistics import Estimate, Failed

FEWEST = 10  # people, of whom anything is concluded


@dataclass(frozen=True)
class Conclusion:
    """A finding, and the sentences that give its reasons."""

    finding: str
    because: tuple[str, ...]


def ending(value: float, spread: float, notable: float, people: int, what: str = "people") -> str:
    """A sentence on what would end an audit that cannot exclude a notable effect.

    value: of the effect, in its mean over people.
    spread: standard deviation of the per-person effects.
    what: who or what is counted, in words.
    """
    if value >= notable / 2:
        shown = int(np.ceil(((ndtri(1 - TAIL) + ndtri(0.8)) * spread / value) ** 2))
        if shown > people:
            return f"If {value:+.2f} is leakage, about {shown:,} {what} would show it four times in five."
        return f"Another seed, or a few more {what}, would as a rule tell whether {value:+.2f} is leakage or luck."
    needed = max(people_needed(spread, notable), people_unseen(notable))
    if needed > people:
        return f"If there is no leak, about {needed:,} {what} would exclude it four times in five; here are {people:,}."
    return f"Another seed, or a few more {what}, would as a rule exclude it if there is no leak."


@dataclass(frozen=True)
class _Excess:
    """What one figure of one method has over guessing."""

    words: str
    level: float  # of guessing
    figure: Estimate

    @property
    def most(self) -> float:
        """The most that it may have."""
        return self.figure.high - self.level


def told_apart(rows: Sequence[Detection], notable: float) -> Conclusion:
    """Whether members are told from others, from the figures of several methods.

    notable: the smallest excess over guessing that matters, of the AUC and of the share that is found at every rate of
        false alarms. "No evidence" needs the upper end of every interval below it: a method that is sure of few
        members has an AUC near 0.5 (Carlini et al., Membership Inference Attacks From First Principles, 2022).
    Evidence: an interval lies above guessing, with Bonferroni's correction for the number of figures.
    """
    failed = [f"{row.method}: {row.auc.failed}" for row in rows if isinstance(row.auc, Failed)]
    if failed:
        return Conclusion("inconclusive", (f"A method failed ({'; '.join(failed)}).",))
    excesses = [each for row in rows for each in _excesses(row)]
    if (few := max(each.figure.people for each in excesses)) < FEWEST:
        return Conclusion("inconclusive", (f"{few} people are too few to conclude anything: take at least {FEWEST}.",))
    wider = float(ndtri(TAIL / len(excesses)) / ndtri(TAIL))
    shown = [
        each for each in excesses if each.figure.value - wider * (each.figure.value - each.figure.low) > each.level
    ]
    people = max(each.figure.people for each in excesses)
    sample = f"over {people:,} people, one target"
    if shown:
        best = max(shown, key=lambda each: each.figure.value - each.level)
        figure = f"{best.figure.value:.2f} [{best.figure.low:.2f}, {best.figure.high:.2f}]"
        return Conclusion(
            "evidence of leakage", (f"{best.words} is {figure}, and guessing has {best.level:g} ({sample}).",)
        )
    tie = f"No method is shown to tell members from others ({sample})."
    worst = max(excesses, key=lambda each: each.most)
    if unknown := sorted(
        {f"at {float(rate):.1%}" for row in rows for rate, hits in row.hits.items() if isinstance(hits, Failed)}
    ):
        reason = f"Of hits {' and '.join(unknown)} false alarms nothing is known: take more photographs, or leave "
        reason += "those rates out."
        return Conclusion("inconclusive", (tie, reason))
    tops = {each.words: each.figure.value + wider * (each.figure.high - each.figure.value) for each in excesses}
    least = min(excesses, key=lambda each: tops[each.words] - each.level)
    if tops[least.words] < least.level:
        figure = f"{least.figure.value:.2f} [{least.figure.low:.2f}, {least.figure.high:.2f}]"
        below = (
            f"But {least.words[0].lower()}{least.words[1:]} is {figure}, and guessing has {least.level:g}: others are "
        )
        return Conclusion(
            "inconclusive", (tie, below + "known better than members. Check that neither are taken for the other.")
        )
    if worst.most < notable:
        return Conclusion(
            "no evidence",
            (tie, f"More than {worst.most:+.2f} over guessing can be excluded, and {notable:+.2f} was notable."),
        )
    spread = (worst.figure.high - worst.figure.value) / -float(ndtri(TAIL)) * float(np.sqrt(worst.figure.people))
    return Conclusion(
        "inconclusive",
        (
            tie,
            f"{worst.words} may be up to {worst.figure.high:.2f}, and {worst.level + notable:g} is notable.",
            ending(worst.figure.value - worst.level, spread, notable, people),
        ),
    )


def _excesses(row: Detection) -> Iterator[_Excess]:
    if isinstance(row.auc, Estimate):
        yield _Excess(f"The AUC of {row.method}", 0.5, row.auc)
    for rate, hits in row.hits.items():
        if isinstance(hits, Estimate):
            words = f"The share of members that {row.method} finds at {float(rate):.1%} false alarms"
            yield _Excess(words, float(rate), hits)
