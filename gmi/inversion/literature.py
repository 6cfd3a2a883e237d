"""The figures of papers, to compare with papers: no finding rests on them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from gmi.data.people import People
from gmi.errors import GmiError
from gmi.inversion.judging import Judged, Releases
from gmi.inversion.scoring import Result, result
from gmi.metrics import identity
from gmi.metrics.distance import nearest
from gmi.metrics.distribution import frechet_estimate, prdc
from gmi.metrics.gallery import Gallery, spread
from gmi.metrics.statistics import Array, Failed, Outcome, attempt, estimate
from gmi.protocols import FaceJudge

_PEOPLE = 200  # in clouds at most: leaving out each person in turn takes its time
_PAIRS = 20_000_000  # comparisons of single images on which a threshold rests at most, of photographs evenly chosen


def figures(judged: Judged, first: str, people: People, releases: Releases) -> list[Result]:
    """The figures of papers: perceptual distances, classifiers' accuracy, feature distances, PRDC and Frechet distance.

    Distances and clouds are taken in the first face judge's space and in the classifier's; the real side is the
    enrolment images of the attacked people. Clouds are of 200 people at most, evenly chosen.
    """
    rows = []
    classes = {name: images.classes.numpy() for name, images in releases.items()}
    for judge, methods in judged.distances.items():
        for method, distances in methods.items():
            rows += [result(method, judge, metric, values, classes[method]) for metric, values in distances.items()]
    for judge, methods in judged.answers.items():
        for method in releases:
            for k in (1, 5):
                chance = min(1.0, k / methods[method].choices)
                hits = methods[method].top(k)
                rows.append(result(method, judge, f"top{k}", hits, classes[method], (0.0, 1.0), chance))
    enrolled = people.enrolment.classes.numpy()
    is_attacked = np.isin(enrolled, people.attacked)
    shown = np.array(people.attacked)[spread(len(people.attacked), _PEOPLE)]
    for judge, sets in ({first: judged.templates[first]} | judged.features).items():
        references, owners = sets["enrolment"].numpy()[is_attacked], enrolled[is_attacked]
        for method in releases:
            samples = sets[method].numpy()
            distances = attempt(
                lambda s=samples, m=method, r=references, o=owners: estimate(
                    nearest(s, classes[m], r, o), classes[m], bounds=None
                )
            )
            rows.append(Result(method, judge, "nearest", distances))
            real, made = np.isin(owners, shown), np.isin(classes[method], shown)
            sides = references[real], owners[real], samples[made], classes[method][made]
            rows += _clouds(method, judge, *sides)
    return rows


def pair_matches(
    judge: FaceJudge, templates: Mapping[str, Tensor], people: People, releases: Releases, fmrs: Sequence[float]
) -> list[Result]:
    """Match rates as papers count them: best of the person's enrolment images, under thresholds from single pairs.

    Distractors and strangers play no part. Other people match more often so than the rate says (`identity` has the rule
    that our findings rest on), which is why no chance level stands beside it.
    """
    enrolled, enrolment = people.enrolment.classes.numpy(), templates["enrolment"]
    gallery = Gallery(judge.similarity, enrolment, enrolled)
    photographs = torch.cat([templates["training"], enrolment])
    chosen = spread(len(photographs), max(1, _PAIRS // len(enrolment)))
    owners = np.concatenate([people.training.classes.numpy(), enrolled])[chosen]
    similarity = judge.similarity(photographs[torch.from_numpy(chosen)], enrolment).numpy()
    cuts = identity.pair_thresholds(similarity, owners, enrolled, fmrs=fmrs)
    rows = []
    for name, images in releases.items():
        classes = images.classes.numpy()
        own = gallery.exact(templates[name], np.arange(len(classes)), np.searchsorted(gallery.ids, classes))
        for cut in cuts:
            matches = (own >= cut.value).astype(np.float64)
            rows.append(result(name, judge.name, f"pairmatch@{cut.fmr:g}", matches, classes, (0.0, 1.0)))
    return rows


def _clouds(method: str, judge: str, references: Array, owners: Array, samples: Array, classes: Array) -> list[Result]:
    names = ("precision", "recall", "density", "coverage")
    rows = []
    try:
        items = prdc(references, samples)
    except GmiError as error:
        rows += [Result(method, judge, name, Failed(str(error))) for name in names]
    else:
        for name in names:
            of = classes if name in ("precision", "density") else owners
            rows.append(result(method, judge, name, items[name], of, None if name == "density" else (0.0, 1.0)))

    distance = attempt(lambda: frechet_estimate(samples, references, classes, owners))
    return [*rows, Result(method, judge, "frechet", distance)]


def target_accuracy(judged: Judged, people: People) -> Outcome:
    """The target's accuracy on everybody's enrolment images."""
    classes = people.enrolment.classes.numpy()
    return attempt(lambda: estimate(judged.answers["target"]["enrolment"].top(1), classes))
