"""Why an audit that found nothing does not acquit: reasons, and what would end them."""

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.stats import binom

from gmi.inversion.exposure import NAMES, Advantage, Ceiling, Exposure, signed
from gmi.metrics.power import people_unseen
from gmi.metrics.rates import TAIL
from gmi.metrics.statistics import difference


def doubts(
    figures: Mapping[str, Advantage],
    exposures: Mapping[str, Exposure],
    ceiling: Ceiling | None,
    notable: float,
    needed: int | None,
) -> Iterator[str]:
    """Every reason that the figures give.

    figures: by attack. ceiling: of the oracle projection; None: it was not made. notable: the smallest advantage, and
    the smallest share of people found, that matters. needed: people who would exclude a notable advantage.
    """
    yield from _excess(figures, exposures, notable, needed)
    yield from _few(figures, exposures, notable, shown(ceiling, exposures["search"]))
    yield from _met(exposures)
    yield from _room(ceiling, exposures["search"], notable)


def shown(ceiling: Ceiling | None, search: Exposure) -> float:
    """The share of people found who match beyond chance: that of the oracle projection; 1 where nothing is known."""
    return 1.0 if ceiling is None else max(TAIL, float(ceiling.matched.mean()) - search.rates[0].usual)


def _excess(
    figures: Mapping[str, Advantage], exposures: Mapping[str, Exposure], notable: float, needed: int | None
) -> list[str]:
    """Why a notable leak cannot be excluded, and what would end it."""
    name = max(figures, key=lambda attack: figures[attack].bound or 0)
    bound, value = figures[name].bound, float(exposures[name].leak.mean())
    if bound is None or bound < notable:
        return []
    sentence = f"{NAMES[name].capitalize()} may have an advantage of up to {bound:+.2f}, and {notable:+.2f} is notable."
    if needed is None:
        return [sentence]
    if value >= notable / 2:
        return [sentence, f"More people, or more seeds, will tell whether {value:+.2f} is a leak or chance."]
    people = exposures[name].auc.shape[1]
    if needed > people:
        return [sentence, f"If there is no leak, about {needed} people would exclude it four times in five."]
    return [sentence, "Another seed, or a few more people, would as a rule exclude it if there is no leak."]


def _few(
    figures: Mapping[str, Advantage], exposures: Mapping[str, Exposure], notable: float, shown: float
) -> list[str]:
    """Why it cannot be excluded that a notable share of people are found, whatever the mean is.

    shown: share of people found who match beyond chance, which is that of the oracle projection.
    """
    name = max(figures, key=lambda attack: figures[attack].matches or 0)
    matches = figures[name].matches
    if matches is None or matches < notable * shown:
        return []
    least, people = people_unseen(notable * shown), exposures[name].auc.shape[1]
    if shown <= notable:  # it takes another prior, and not more people
        return [
            f"How many people {NAMES[name]} finds cannot be told: even of those whom this prior shows as well as it "
            f"can, {shown:.0%} match beyond chance."
        ]
    found = f"{NAMES[name].capitalize()} may find up to {min(1.0, matches / shown):.0%} of people, and {notable:.0%} is"
    found += " notable"
    if shown < 1:
        found += f": up to {matches:.0%} match beyond chance, and of those whom this prior shows as well as it can, "
        found += f"{shown:.0%} do"
    if people >= least:
        return [f"{found}."]
    return [f"{found}. {least} people or more would exclude it if nobody is found."]


def _met(exposures: Mapping[str, Exposure]) -> list[str]:
    """Attacks that match more people than chance, though their mean shows nothing.

    By Bonferroni for the attacks and the false match rates: at a strict one, few are much. Chance is no less than the
    rate itself, as what images do with other people is known from few matches.
    """
    reasons = []
    for name, exposure in exposures.items():
        tail = TAIL / (len(exposures) * len(exposure.rates))
        for each in exposure.rates:
            people, found = each.matched.shape[1], int(each.matched.max(0).sum())
            once, ever = max(each.once, each.fmr), max(each.ever, each.fmr)
            usually = difference(each.matched, np.full(people, once), tail=tail).low > 0
            if usually or binom.sf(found - 1, people, ever) < tail:
                reasons.append(
                    f"But images of {NAMES[name]} match {found} of {people} people at FMR {each.fmr:g}, and "
                    f"{people * ever:.1f} would by chance: some people are found, which the mean hides. See who "
                    "they are (scores.jsonl), and whether they are a group (data.groups)."
                )
                break
    return reasons


def _room(ceiling: Ceiling | None, search: Exposure, notable: float) -> list[str]:
    """Why a failure of the attack would show nothing."""
    reasons = []
    if difference(search.leak, np.zeros(search.leak.shape[1])).high < 0:
        reasons.append("The search does worse than images that know nothing: it works against its people.")
    if ceiling is None:
        return [*reasons, "Without the oracle projection nothing is known of what the prior can express."]
    room = min((difference(ceiling.auc, values) for values in search.nobody), key=lambda room: room.low)
    matches = difference(ceiling.matched, np.full(ceiling.matched.shape[1], search.rates[0].usual))
    advice = "Take more steps and a larger pool first, then another prior."
    if room.low <= notable:
        reasons.append(
            "Even the people's own photographs, projected into the prior, are hardly more like them than other images "
            f"(AUC {signed(room)}): with this search, this prior could not have shown a leak. {advice}"
        )
    elif matches.low <= notable:
        reasons.append(
            f"Of the people's own photographs, projected into the prior, {matches.value:.0%} match them beyond chance "
            f"(95 %: {matches.low:.0%} to {matches.high:.0%}): with this search and this prior, a person who is found "
            f"may not match. {advice}"
        )
    return reasons
