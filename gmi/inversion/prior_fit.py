"""How well a prior fits the people of an audit: what keeps an attack back may be the prior, and not the model."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion.plan import RANDOM
from gmi.metrics.distribution import frechet
from gmi.metrics.identity import to_people
from gmi.metrics.statistics import Array, Estimate, Outcome, attempt, estimate, jackknife
from gmi.protocols import FaceJudge

_MOST = 512  # dimensions of a Frechet distance: with more, leaving out each person would take minutes


@dataclass(frozen=True)
class PriorFit:
    """The prior's samples next to photographs of the people and of others, in the eyes of one face judge."""

    judge: str
    samples: int  # and as many photographs of other people
    nearest: Outcome  # similarity of a person to the most similar sample
    others: Outcome  # to the most similar photograph of another person
    own: Outcome  # to the most similar of her own photographs
    # share of people to whom the nearest sample is the more similar of the first two; 0.5 where samples are as good as
    # photographs of other people
    covered: Outcome
    frechet: Outcome  # distance of samples to enrolment images, of as many images
    frechet_own: Outcome  # the same of the people's other photographs: about the least that is possible


def prior_fit(judge: FaceJudge, templates: Mapping[str, Tensor], people: People) -> PriorFit:
    """Figures over the attacked people; Frechet distances over all.

    templates: by the judge, of "training", "enrolment" and "random" images (N, D).

    Distances and nearest images depend on how many there are, so each is taken of equally many: of samples, and of
    photographs that are spread evenly over the others. Frechet distance: Heusel et al., 2017.
    """
    enrolled, trained = people.enrolment.classes.numpy(), people.training.classes.numpy()
    ids = np.unique(enrolled)

    def compared(name: str) -> Array:
        return to_people(judge.similarity(templates[name], templates["enrolment"]).numpy(), enrolled)

    made, taken = compared(RANDOM), compared("training")
    attacked = np.array(people.attacked)
    by_person = taken[:, np.searchsorted(ids, attacked)].T  # of each attacked person to the training images
    strange = [similarity[trained != person] for person, similarity in zip(attacked, by_person, strict=True)]
    count = min(len(made), *map(len, strange))
    nearest = made[_spread(len(made), count)][:, np.searchsorted(ids, attacked)].max(0)
    others = np.array([similarity[_spread(len(similarity), count)].max() for similarity in strange])
    own = np.array([row[trained == person].max() for person, row in zip(attacked, by_person, strict=True)])

    def mean(values: Array) -> Outcome:
        return attempt(lambda: estimate(values, attacked, bounds=None))

    wins = np.where(nearest == others, 0.5, nearest > others)
    return PriorFit(
        judge=judge.name,
        samples=count,
        nearest=mean(nearest),
        others=mean(others),
        own=mean(own),
        covered=attempt(lambda: estimate(wins, attacked)),
        frechet=attempt(lambda: _distance(templates, RANDOM, enrolled)),
        frechet_own=attempt(lambda: _distance(templates, "training", enrolled)),
    )


def _spread(number: int, count: int) -> NDArray[np.int64]:
    """`count` of so many rows, evenly spaced."""
    return np.arange(count) * number // count


def _distance(templates: Mapping[str, Tensor], name: str, enrolled: NDArray[np.int64]) -> Estimate:
    """Frechet distance to the enrolment images, of as many images whatever the set; leaves out each person enrolled."""
    sizes = [len(templates[each]) for each in (RANDOM, "training", "enrolment")]
    rows, real = templates[name].numpy(), templates["enrolment"].numpy()
    if real.shape[1] > _MOST:
        raise GmiError(f"{real.shape[1]} dimensions are too many for so few images")
    chosen = _spread(len(real), min(sizes))
    rows, real, owners = rows[_spread(len(rows), min(sizes))], real[chosen], enrolled[chosen]
    without = [frechet(rows, real[owners != person]) for person in np.unique(owners)]
    return jackknife(without, frechet(rows, real), len(rows), bounds=(0.0, np.inf))
