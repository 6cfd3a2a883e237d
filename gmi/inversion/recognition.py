"""Recognition: how one face judge takes every method's images, attacks and controls by the same rule."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmi.data.people import People
from gmi.inversion.exposure import METRIC, Ceiling, Exposure, Matches
from gmi.inversion.judging import Releases
from gmi.inversion.plan import RANDOM
from gmi.metrics import identity
from gmi.metrics.gallery import Gallery, spread
from gmi.metrics.impostors import Impostors, Threshold
from gmi.metrics.lookalikes import Claims, Likeness, Within, of_group
from gmi.metrics.statistics import Array, by_draw
from gmi.protocols import FaceJudge

ATTACKS = ("search", "best_of_n", "public")
"""Whatever asks the target."""
NOBODY = (RANDOM, "public_random")
"""Images that know nothing of the target: samples of the prior, and public images, each scored as everybody."""
CONTROLS = ("best_of_n", *NOBODY, "public", "permuted")
_OF_NOBODY = {RANDOM: RANDOM, "public_random": "public_set"}  # by method: the set of templates
_FEWEST, _MOST = 500, 1_000_000  # images of nobody that are scored, if there are so many, and comparisons for them
ARITHMETIC = ("auc", *(f"rank{k}" for k in identity.RANKS))
"""Metrics that are no measurement where images are scored as everybody: 1 / 2 and k / P by arithmetic."""


@dataclass(frozen=True)
class Recognised:
    """One face judge's figures of every method."""

    judge: str
    people: int  # enrolled, distractors included
    thresholds: tuple[Threshold, ...]
    outcomes: dict[str, dict[str, Array]]  # by method and metric (N,)
    classes: dict[str, Array]  # by method (N,)
    draws: dict[
        str, NDArray[np.int64]
    ]  # by method (N,): of an attack the seed, of what is scored as everybody the image
    within: dict[str, dict[str, Within]]  # by attack and metric: among look-alikes, and among those of her group
    samples: dict[str, Array]  # similarities of single comparisons, for the report's histograms
    public: Array | None  # similarity (N,) of each image of the public set to the person whom it is most like
    attack: str = "search"  # the method that controls are held against
    # by attack, at each threshold: how often any of a draw's images of a person, and any of all, matches somebody else
    others: dict[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)

    def of_people(self, method: str, metric: str) -> Array:
        """Mean of each attacked person (S, A) in each draw; of images of nobody, over all of them (1, A)."""
        values = by_draw(self.outcomes[method][metric], self.classes[method], self.draws[method])
        return values.mean(0, keepdims=True) if method in NOBODY else values

    def strongest(self, metric: str) -> str:
        """The control that finds most."""
        controls = [name for name in CONTROLS if metric in self.outcomes.get(name, ())]
        return max(controls, key=lambda name: self.of_people(name, metric).mean())

    @property
    def rates(self) -> list[str]:
        """The metrics that are shares."""
        return [name for name in self.outcomes[self.attack] if name != "similarity"]

    def exposures(self, public: bool = True) -> dict[str, Exposure]:
        """What the verdict rests on, by attack. public: False leaves the public set out, which may show the people."""
        nobody = [name for name in NOBODY if name in self.outcomes and (public or name == RANDOM)]
        controls = tuple(self.of_people(name, METRIC)[0] for name in nobody)
        return {
            name: Exposure(self.of_people(name, METRIC), controls, tuple(self._matches(name)), tuple(among.values()))
            for name, among in self.within.items()
            if public or name != "public"
        }

    @property
    def ceiling(self) -> Ceiling | None:
        """What the oracle projection shows; None: it was not made."""
        if "oracle" not in self.outcomes:
            return None
        return Ceiling(self.of_people("oracle", METRIC), self.of_people("oracle", self._match))

    def _matches(self, method: str) -> Iterator[Matches]:
        """Whom an attack's images match at each false match rate, the greatest first."""
        for number, cut in sorted(enumerate(self.thresholds), key=lambda each: -each[1].fmr):
            metric = f"match@{cut.fmr:g}"
            chance = self.of_people(RANDOM, metric)
            found = identity.any_of(self.outcomes[method][metric], self.classes[method], self.draws[method])
            images, others = len(self.classes[method]), self.others.get(method)
            lucky = _lucky(chance, images, len(found), others[number] if others else (1.0, 1.0))
            yield Matches(cut.fmr, found, float(chance.mean()), *lucky)

    @property
    def _match(self) -> str:
        """The match rate at the audit's greatest FMR."""
        return f"match@{max(cut.fmr for cut in self.thresholds):g}"


def _lucky(chance: Array, images: int, draws: int, others: tuple[float, float]) -> tuple[float, float]:
    """How often any of a draw's images of a person matches by chance, and any of all draws'.

    chance (1, A): of one sample of the prior. others: how often the attack's own images match other people. It is what
    as many independent samples do, or these, whichever is less.
    """
    several = (images // (draws * chance.size), images // chance.size)
    independent = (float((1 - (1 - chance) ** count).mean()) for count in several)
    once, ever = map(min, independent, others)
    return once, ever if draws > 1 else once


def recognise(
    judge: FaceJudge,
    templates: Mapping[str, Tensor],
    people: People,
    releases: Releases,
    fmrs: Sequence[float],
    attack: str = "search",
    seeds: int = 1,
) -> Recognised:
    """Thresholds from strangers among the photographs, then each method by the same rule.

    Ranks are among all who are enrolled, people and distractors. Thresholds come from comparisons with the audited
    people, who may resemble each other more than strangers do: the rates are rates among them. The random prior's
    samples and the public set are scored as everybody, the other images against their own person. Genuine comparisons
    are those of the attacked people's training images with their enrolment images.

    attack: the method that is scored under permuted identities, too, as a control.
    seeds: the number of seeds whose images stand one after the other in each release.
    """
    gallery = _gallery(judge, templates, people)
    ids, trained = gallery.ids, people.training.classes.numpy()
    audited, attacked = np.isin(ids, people.enrolment.classes.numpy()), np.isin(ids, people.attacked)
    cuts, alike, strangers, genuine = _photographs(gallery, audited, templates, people, fmrs)
    known = np.isin(trained, people.attacked)
    classes = {name: images.classes.numpy() for name, images in releases.items()} | {"genuine": trained[known]}
    draws = {name: np.repeat(np.arange(seeds), len(images) // seeds) for name, images in releases.items()}
    draws["genuine"] = np.zeros(known.sum(), int)
    kinds: dict[str, Any] = {"auc_lookalikes": alike}
    if people.groups is not None:  # distractors are in none
        kinds["auc_group"] = of_group([*people.groups, *[None] * (len(ids) - len(people.groups))])
    outcomes, samples, among, others = {}, {}, {}, {}
    nobody = {name: templates[source] for name, source in _OF_NOBODY.items() if source in templates}
    for name in releases:
        if name == RANDOM:  # scored as everybody, below
            continue
        whose = classes[name]
        columns = np.searchsorted(ids, whose)
        wanted = kinds if RANDOM in nobody and name in ATTACKS else {}
        claims = {metric: Claims(each, columns) for metric, each in wanted.items()}
        parts, wrong = [], []
        strange = [identity.Others(whose, draws[name], ids, ids[audited], cut.value) for cut in cuts if name in ATTACKS]
        for rows, values in gallery.sharp(
            templates[name], columns, [cut.value for cut in cuts] if name == attack else []
        ):
            parts.append(identity.outcomes(values, whose[rows], ids, cuts))
            if name == attack:
                wrong.append(identity.permuted(values, whose[rows], ids, cuts, ids[audited]))
            for each in claims.values():
                each.add(values, columns[rows], draws[name][rows])
            for each in strange:
                each.add(rows, values)
        outcomes[name] = _joined(parts)
        samples[name] = outcomes[name]["similarity"]
        among |= {name: claims} if claims else {}
        others |= {name: tuple(each.rates for each in strange)} if strange else {}
        if name == attack:
            outcomes["permuted"], classes["permuted"], draws["permuted"] = _joined(wrong), whose, draws[name]
    matches = {f"match@{cut.fmr:g}": (genuine["similarity"] >= cut.value).astype(np.float64) for cut in cuts}
    outcomes["genuine"] = {metric: values[known] for metric, values in (matches | genuine).items()}
    samples["genuine"] = outcomes["genuine"]["similarity"]
    within = {}
    for name, images in nobody.items():
        chosen = spread(len(images), max(_FEWEST, _MOST // len(ids)))
        values = gallery.dense(images[torch.from_numpy(chosen)])
        table = identity.anyone(values, ids, cuts)
        outcomes[name] = {metric: each[:, attacked].ravel() for metric, each in table.items()}
        draws[name] = np.repeat(np.arange(len(chosen)), attacked.sum())
        if name == RANDOM:
            samples[name] = values[np.arange(len(chosen)), np.searchsorted(ids, classes[name][chosen])]
            within = {
                attack: {kind: each.within(values) for kind, each in kinds.items()} for attack, kinds in among.items()
            }
        classes[name] = np.tile(ids[attacked], len(chosen))
    public = None
    if "public_set" in templates:
        blocks = gallery.blocks(templates["public_set"])
        public = np.concatenate([values[:, audited].max(1) for _, values in blocks])
    return Recognised(
        judge.name,
        len(ids),
        cuts,
        outcomes,
        classes,
        draws,
        within,
        samples | {"impostor": strangers},
        public,
        attack,
        others,
    )


def _gallery(judge: FaceJudge, templates: Mapping[str, Tensor], people: People) -> Gallery:
    """Everybody who is enrolled, people and distractors."""
    enrolled, whose = [templates["enrolment"]], [people.enrolment.classes]
    if people.distractors is not None:
        enrolled.append(templates["distractors"])
        whose.append(people.distractors.classes)
    whole = torch.cat(enrolled) if len(enrolled) > 1 else enrolled[0]  # no copy: templates may be many
    return Gallery(judge.similarity, whole, torch.cat(whose).numpy())


def _photographs(
    gallery: Gallery,
    audited: NDArray[np.bool_],
    templates: Mapping[str, Tensor],
    people: People,
    fmrs: Sequence[float],
) -> tuple[tuple[Threshold, ...], NDArray[np.int64], Array, dict[str, Array]]:
    """Thresholds and look-alikes from all real photographs, strangers' similarities, and how training images rank.

    audited: which of the enrolled (P,) are people of the audit.
    """
    sets = {
        "training": people.training,
        "enrolment": people.enrolment,
        "distractors": people.distractors,
        "strangers": people.strangers,
    }
    present = {name: images for name, images in sets.items() if images is not None}
    probes = torch.cat([templates[name] for name in present])
    places, ranked = np.flatnonzero(audited), []
    columns_audited = slice(None) if audited.all() else places  # a slice is no copy
    impostors, likeness = Impostors(gallery.ids[places], len(probes), fmrs, np.float32), Likeness(len(gallery.ids))
    for name, images in present.items():
        whose = images.classes.numpy()
        columns = np.where(np.isin(whose, gallery.ids), np.searchsorted(gallery.ids, whose), -1)
        sharp = name == "training"
        for rows, values in gallery.sharp(templates[name], columns, []) if sharp else gallery.blocks(templates[name]):
            impostors.add(values[:, columns_audited], whose[rows])
            likeness.add(values, columns[rows])
            if sharp:
                ranked.append(identity.outcomes(values, whose[rows], gallery.ids, ()))
    cuts = impostors.thresholds(lambda rows, mine: gallery.exact(probes, rows, places[mine]), gallery.rounding)
    return cuts, likeness.lookalikes, impostors.sample, _joined(ranked)


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Tables with the same keys, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
