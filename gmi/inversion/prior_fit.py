"""How well a prior fits the people of an audit: what keeps an attack back may be the prior, and not the model."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmi.data.people import People
from gmi.inversion.plan import RANDOM
from gmi.metrics.distribution import frechet_estimate
from gmi.metrics.gallery import Gallery, spread
from gmi.metrics.statistics import Array, Outcome, attempt, estimate
from gmi.protocols import FaceJudge

_SAMPLES = 2000  # of the prior, and as many other people, at most
_MOST = 200  # images of a Frechet distance: with more, leaving out each person in turn would take minutes


@dataclass(frozen=True)
class PriorFit:
    """The prior's samples next to photographs of the people and of others, in the eyes of one face judge."""

    judge: str
    samples: int  # of each seed; and as many other people, by one photograph each
    nearest: Outcome  # similarity of a person to the most similar sample
    others: Outcome  # to the most similar of the other people's photographs
    own: Outcome  # to the most similar of her own photographs
    # share of people to whom the nearest sample is the more similar of the first two; 0.5 where samples are as good as
    # photographs of other people
    covered: Outcome
    images: int  # of each side of a Frechet distance
    frechet: Outcome  # distance of samples to enrolment images
    frechet_own: Outcome  # the same of the people's other photographs: about the least that is possible


def prior_fit(judge: FaceJudge, templates: Mapping[str, Tensor], people: People, seeds: int) -> PriorFit:
    """Figures over the attacked people; Frechet distances over all.

    templates: by the judge, of "training", "enrolment" and "random" images (N, D); the last stand seed after seed.

    Distances and nearest images depend on how many there are, so each is taken of equally many, spread evenly over the
    set. Several photographs of one person are no more strangers than one is. Frechet distance: Heusel et al., 2017.
    """
    enrolled, trained = people.enrolment.classes.numpy(), people.training.classes.numpy()
    gallery, attacked = Gallery(judge.similarity, templates["enrolment"], enrolled), np.array(people.attacked)
    columns = np.searchsorted(gallery.ids, attacked)

    def compared(name: str, rows: NDArray[np.int64]) -> Array:  # images (N,) with attacked people (A,)
        return gallery.dense(templates[name][torch.from_numpy(rows)])[:, columns]

    strangers, first = np.unique(trained, return_index=True)
    of_seed = len(templates[RANDOM]) // seeds
    count = min(of_seed, len(strangers) - 1, _SAMPLES)
    taken = compared("training", first)  # (P, A)
    others = [column[strangers != person] for person, column in zip(attacked, taken.T, strict=True)]
    other = np.array([similarity[spread(len(similarity), count)].max() for similarity in others])  # (A,)
    made = [compared(RANDOM, seed * of_seed + spread(of_seed, count)).max(0) for seed in range(seeds)]
    nearest = np.stack(made)  # (S, A)
    mine = np.flatnonzero(np.isin(trained, attacked))
    close = gallery.exact(templates["training"], mine, np.searchsorted(gallery.ids, trained[mine]))
    own = np.array([close[trained[mine] == person].max() for person in attacked])
    draws, whose = np.indices(nearest.shape)
    size = min(len(templates[RANDOM]) // seeds, len(trained), len(enrolled), _MOST)
    real = spread(len(enrolled), size)

    def distance(name: str, classes: Array | None) -> Outcome:
        chosen = spread(len(templates[name]), size)
        sides = templates[name].numpy()[chosen], templates["enrolment"].numpy()[real]
        owners = None if classes is None else classes[chosen]
        return attempt(lambda: frechet_estimate(*sides, owners, enrolled[real]))

    def mean(values: Array, bounds: tuple[float, float] | None = None) -> Outcome:
        return attempt(lambda: estimate(values.ravel(), whose.ravel(), draws=draws.ravel(), bounds=bounds))

    def alone(values: Array) -> Outcome:
        return attempt(lambda: estimate(values, attacked, bounds=None))

    return PriorFit(
        judge=judge.name,
        samples=count,
        nearest=mean(nearest),
        others=alone(other),
        own=alone(own),
        covered=mean((np.sign(nearest - other) + 1) / 2, (0.0, 1.0)),
        images=size,
        frechet=distance(RANDOM, None),
        frechet_own=distance("training", trained),
    )
