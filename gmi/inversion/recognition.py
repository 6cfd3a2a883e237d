"""Recognition: how one face judge takes every method's images, attacks and controls by the same rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gmi.data.people import People
from gmi.inversion.judging import Releases
from gmi.inversion.plan import RANDOM
from gmi.inversion.verdict import METRIC, Exposure
from gmi.metrics import identity
from gmi.metrics.lookalikes import Within, lookalikes, of_group, within
from gmi.metrics.statistics import Array, by_draw
from gmi.protocols import FaceJudge

ATTACKS = ("search", "best_of_n", "public")
"""Whatever asks the target."""
NOBODY = (RANDOM, "public_random")
"""Images that know nothing of the target: samples of the prior, and public images, each scored as everybody."""
CONTROLS = ("best_of_n", *NOBODY, "public", "permuted")
ARITHMETIC = ("auc", *(f"rank{k}" for k in identity.RANKS))
"""Metrics that are no measurement where images are scored as everybody: 1 / 2 and k / P by arithmetic."""


@dataclass(frozen=True)
class Recognised:
    """One face judge's figures of every method."""

    judge: str
    people: int  # enrolled, distractors included
    thresholds: tuple[identity.Threshold, ...]
    outcomes: dict[str, dict[str, Array]]  # by method and metric (N,)
    classes: dict[str, Array]  # by method (N,)
    draws: dict[
        str, NDArray[np.int64]
    ]  # by method (N,): of an attack the seed, of what is scored as everybody the image
    within: dict[str, dict[str, Within]]  # by attack and metric: among look-alikes, and among those of her group
    samples: dict[str, Array]  # similarities of single comparisons, for the report's histograms
    public: Array | None  # similarity (N, P) of the whole public set to the people
    attack: str = "search"  # the method that controls are held against

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
        match = f"match@{max(cut.fmr for cut in self.thresholds):g}"
        usual = float(self.of_people(RANDOM, match).mean())
        return {
            name: Exposure(
                self.of_people(name, METRIC), controls, self.of_people(name, match), usual, tuple(among.values())
            )
            for name, among in self.within.items()
            if public or name != "public"
        }


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
    enrolment, distractors = people.enrolment.classes, people.distractors
    gallery, enrolled = templates["enrolment"], enrolment.numpy()
    if distractors is not None:
        gallery = torch.cat([gallery, templates["distractors"]])
        enrolled = torch.cat([enrolment, distractors.classes]).numpy()
    ids = np.unique(enrolled)

    def compare(name: str) -> Array:
        return identity.to_people(judge.similarity(templates[name], gallery).numpy(), enrolled)

    genuine, trained = compare("training"), people.training.classes.numpy()
    photographs = {"enrolment": people.enrolment, "distractors": distractors, "strangers": people.strangers}
    compared = {name: compare(name) for name, images in photographs.items() if images is not None}
    probes = np.concatenate([genuine, *compared.values()])
    whose = np.concatenate([trained, *(photographs[name].classes.numpy() for name in compared)])
    enrolled_columns = np.isin(ids, enrolment)
    probes_of_people = probes[:, enrolled_columns]
    cuts = identity.thresholds(probes_of_people, whose, ids[enrolled_columns], fmrs=fmrs)
    is_attacked = np.isin(trained, people.attacked)
    similarity = {name: compare(name) for name in releases} | {"genuine": genuine[is_attacked]}
    classes = {name: images.classes.numpy() for name, images in releases.items()} | {"genuine": trained[is_attacked]}
    draws = {name: np.repeat(np.arange(seeds), len(images) // seeds) for name, images in releases.items()}
    draws["genuine"] = np.zeros(is_attacked.sum(), int)
    outcomes = {name: identity.outcomes(values, classes[name], ids, cuts) for name, values in similarity.items()}
    samples = {name: values["similarity"] for name, values in outcomes.items()}
    permuted = identity.permuted(similarity[attack], classes[attack], ids, cuts, enrolment)
    outcomes["permuted"] = {name: values for name, values in permuted.items() if name not in ARITHMETIC}
    classes["permuted"], draws["permuted"] = classes[attack], draws[attack]
    attacked = np.isin(ids, people.attacked)
    public = compare("public_set") if "public_set" in templates else None
    for name, images in {RANDOM: similarity.get(RANDOM), "public_random": public}.items():
        if images is not None:
            table = identity.anyone(images, ids, cuts)
            outcomes[name] = {metric: values[:, attacked].ravel() for metric, values in table.items()}
            classes[name], draws[name] = (
                np.tile(ids[attacked], len(images)),
                np.repeat(np.arange(len(images)), attacked.sum()),
            )
    samples["impostor"] = probes_of_people[whose[:, None] != ids[enrolled_columns]]
    among = {}
    if RANDOM in similarity:
        kinds: dict[str, Any] = {
            "auc_lookalikes": lookalikes(np.stack([np.nanmean(probes[whose == person], 0) for person in ids]))
        }
        if people.groups is not None:  # distractors are in none
            kinds["auc_group"] = of_group([*people.groups, *[None] * (len(ids) - len(people.groups))])
        among = {
            name: {
                metric: within(
                    similarity[name], np.searchsorted(ids, classes[name]), draws[name], alike, similarity[RANDOM]
                )
                for metric, alike in kinds.items()
            }
            for name in ATTACKS
            if name in similarity
        }
    return Recognised(
        judge.name,
        len(ids),
        cuts,
        outcomes,
        classes,
        draws,
        among,
        samples,
        None if public is None else public[:, enrolled_columns],
        attack,
    )
