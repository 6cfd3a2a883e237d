"""Comparisons block by block decide as the whole matrix in double precision does, to the last count."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.errors import GmiError
from gmi.metrics import gallery as galleries
from gmi.metrics import identity, impostors, lookalikes
from gmi.metrics.gallery import Gallery
from gmi.metrics.impostors import Impostors
from gmi.metrics.lookalikes import Claims, Likeness

pytestmark = pytest.mark.usefixtures("one_thread")
NAN = float("nan")


def cosine(left: Tensor, right: Tensor) -> Tensor:
    return F.normalize(left) @ F.normalize(right).T


def nearness(left: Tensor, right: Tensor) -> Tensor:
    return -torch.cdist(left, right)


class World:
    """People with one to four enrolled images each, probes of them, and what the slow way makes of both."""

    def __init__(self, compare=cosine, people: int = 30, probes: int = 400, near: float = 0.0) -> None:
        draws = np.random.default_rng(0)
        self.ids = np.sort(draws.choice(1000, people, replace=False))
        self.people = draws.permutation(np.concatenate([self.ids, draws.choice(self.ids, 2 * people)]))
        centres = draws.normal(size=(1000, 16))
        self.templates = torch.from_numpy(centres[self.people] + draws.normal(size=(3 * people, 16))).float()
        self.whose = draws.choice(self.ids, probes)
        self.probes = torch.from_numpy(centres[self.whose] + draws.normal(size=(probes, 16))).float()
        if near:  # differences that single precision cannot tell
            self.templates = F.normalize(torch.ones(16) + near * self.templates)
            self.probes = F.normalize(torch.ones(16) + near * self.probes)
        self.templates[np.flatnonzero(self.people == self.ids[3])[1:]] = NAN  # one of hers is left
        self.probes[5] = NAN
        self.gallery = Gallery(compare, self.templates, self.people)
        self.slow = identity.to_people(compare(self.probes.double(), self.templates.double()).numpy(), self.people)
        self.own = np.searchsorted(self.ids, self.whose)


@pytest.fixture(params=["whole", "blocks"])
def blocks(request, monkeypatch):
    if request.param == "blocks":
        monkeypatch.setattr(galleries, "_BLOCK", 200)
        monkeypatch.setattr(galleries, "_PEOPLE", 28)
        monkeypatch.setattr(lookalikes, "_BLOCK", 40)
        monkeypatch.setattr(impostors, "_FEWEST", 100)
    return request.param


@pytest.mark.parametrize("compare", [cosine, nearness])
def test_a_person_is_as_alike_as_her_most_alike_image(compare, blocks):
    world = World(compare)
    np.testing.assert_allclose(world.gallery.dense(world.probes), world.slow, atol=1e-5)
    rows, columns = np.repeat(np.arange(6, 400), 2), np.tile([3, 17], 394)
    np.testing.assert_allclose(world.gallery.exact(world.probes, rows, columns), world.slow[rows, columns], atol=1e-14)
    assert (
        np.isnan(world.gallery.dense(world.probes)[5]).all()
        and len(world.gallery.exact(world.probes, rows[:0], rows[:0])) == 0
    )
    mixed = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_allclose(
        world.gallery.exact(world.probes, rows[mixed], columns[mixed]),
        world.slow[rows[mixed], columns[mixed]],
        atol=1e-14,
    )


@pytest.mark.parametrize("near", [0.0, 1e-4])
@pytest.mark.parametrize("compare", [cosine, nearness])
def test_outcomes_are_those_of_double_precision(compare, near, blocks):
    """With `near`, rounding alone decides most comparisons in single precision."""
    world = World(compare, near=near)
    level = float(np.nanquantile(world.slow, 0.9))
    cut = [impostors.Threshold(0.1, level, 0, 0)]
    expected = (
        identity.outcomes(world.slow, world.whose, world.ids, cut),
        identity.permuted(world.slow, world.whose, world.ids, cut),
    )
    found: list[list[dict]] = [[], []]
    for rows, values in world.gallery.sharp(world.probes, world.own, [level]):
        found[0].append(identity.outcomes(values, world.whose[rows], world.ids, cut))
        found[1].append(identity.permuted(values, world.whose[rows], world.ids, cut))
    for tables, wanted in zip(found, expected, strict=True):
        for name, values in wanted.items():
            mine = np.concatenate([table[name] for table in tables])
            np.testing.assert_allclose(mine, values, rtol=0, atol=1e-6 if name == "similarity" else 1e-12, err_msg=name)
    if near:
        rough = identity.outcomes(world.gallery.dense(world.probes), world.whose, world.ids, cut)
        assert (rough["auc"] != expected[0]["auc"]).any()


@pytest.mark.parametrize("near", [0.0, 3e-3])
def test_thresholds_are_those_of_double_precision(near, blocks):
    world = World(near=near)
    fmrs = (0.1, 0.01)
    expected = identity.thresholds(world.slow, world.whose, world.ids, fmrs=fmrs)
    strangers = Impostors(world.ids, len(world.probes), fmrs)
    for rows, values in world.gallery.blocks(world.probes):
        strangers.add(values, world.whose[rows])
    found = strangers.thresholds(
        lambda rows, columns: world.gallery.exact(world.probes, rows, columns), world.gallery.rounding
    )
    for mine, theirs in zip(found, expected, strict=True):
        counts = (mine.comparisons, mine.false_matches, mine.effective, mine.rates)
        assert counts == (
            theirs.comparisons,
            theirs.false_matches,
            pytest.approx(theirs.effective),
            pytest.approx(theirs.rates),
        )
        assert mine.value == pytest.approx(theirs.value, abs=1e-14) and mine.high == pytest.approx(
            theirs.high, abs=1e-14
        )
        assert mine.low == pytest.approx(theirs.low, abs=1e-14) or (blocks == "blocks" and mine.low == -np.inf)
    assert found[1].low > -np.inf
    if blocks == "whole":
        np.testing.assert_allclose(
            strangers.sample, world.slow[(world.whose[:, None] != world.ids) & ~np.isnan(world.slow)], atol=1e-6
        )


def test_look_alikes_and_claims_are_the_same_in_blocks(blocks):
    world, rng = World(), np.random.default_rng(1)
    likeness = Likeness(len(world.ids))
    for rows, values in world.gallery.blocks(world.probes):
        likeness.add(values, world.own[rows])
    means = np.stack([np.nanmean(world.slow[world.own == person], 0) for person in range(len(world.ids))])
    alike = lookalikes.lookalikes(means)
    np.testing.assert_array_equal(likeness.lookalikes, alike)
    values, symmetric = np.empty(0), (means + means.T) / 2
    for person, others in enumerate(alike):
        rest = np.setdiff1d(np.arange(len(world.ids)), [person, *others])
        assert symmetric[person, others].min() > symmetric[person, rest].max()
        values = np.append(values, np.diff(symmetric[person, others]))
    assert (values <= 0).all()
    samples, draws = rng.normal(size=(20, len(world.ids))), np.zeros(len(world.own), int)
    whole = lookalikes.within(world.slow, world.own, draws, alike, samples)
    claims = Claims(alike, world.own)
    for rows, part in world.gallery.sharp(world.probes, world.own, []):
        claims.add(part, world.own[rows], draws[rows])
    for mine, theirs in zip(vars(claims.within(samples)).values(), vars(whole).values(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


def slow_share(row: np.ndarray, person: int, others: list[int]) -> float:
    if not others or np.isnan(row[person]):
        return 0.5
    return sum(
        1.0 if row[other] < row[person] else 0.5 if row[other] == row[person] else 0.0 for other in others
    ) / len(others)


def test_claims_are_the_slow_formula_with_groups_draws_and_people_without_images():
    rng = np.random.default_rng(2)
    people, images = 9, 60
    similarity = rng.integers(0, 5, (images, people)) / 4
    similarity[7] = NAN
    shown, draws = np.tile(np.repeat([0, 1, 2, 4, 5, 8], 5), 2), np.repeat([3, 7], 30)
    groups = lookalikes.of_group(["a", "a", "b", "b", "a", "c", "b", "a", "b"])
    samples = rng.integers(0, 5, (11, people)) / 4
    found = lookalikes.within(similarity, shown, draws, groups, samples)
    for place, person in enumerate(np.unique(shown)):
        others = groups[person].tolist()
        nobody = np.mean([slow_share(row, person, others) for row in samples])
        assert found.nobody[place] == pytest.approx(nobody)
        for seed, draw in enumerate((3, 7)):
            mine = similarity[(shown == person) & (draws == draw)]
            assert found.own[seed, place] == pytest.approx(np.mean([slow_share(row, person, others) for row in mine]))
            claims = [
                np.mean([slow_share(row, person, [each for each in others if each != other]) for row in theirs])
                for other in others
                if len(theirs := similarity[(shown == other) & (draws == draw)])
            ]
            assert found.others[seed, place] == pytest.approx(np.mean(claims) if claims else nobody)


def test_a_person_without_a_usable_image_is_named():
    templates = torch.randn(4, 8)
    templates[2] = NAN
    with pytest.raises(GmiError, match=r"no enrolment image of \[7\] could be embedded"):
        Gallery(cosine, templates, np.array([3, 3, 7, 9])).dense(templates)


def test_the_sample_of_strangers_comes_to_all_people(monkeypatch):
    monkeypatch.setattr(impostors, "_SAMPLE", 400)
    strangers = Impostors(np.arange(100), 1000, (0.01,))
    values = np.tile(np.arange(100.0), (1000, 1))  # each similarity names its column
    for start in range(0, 1000, 30):
        strangers.add(values[start : start + 30], np.full(len(values[start : start + 30]), -1))
    counts = np.bincount(strangers.sample.astype(int), minlength=100)
    assert len(strangers.sample) == pytest.approx(400, rel=0.05) and counts.min() >= 2 and counts.max() <= 6


def test_a_judge_that_ties_costs_no_more_than_another(monkeypatch):
    """All templates are the same: nothing is compared one by one, and no more is kept than is needed."""
    monkeypatch.setattr(impostors, "_FEWEST", 100)
    monkeypatch.setattr(impostors, "_TIES", 50)
    templates, people = torch.ones(60, 8), np.repeat(np.arange(30), 2)
    gallery = Gallery(cosine, templates, people)
    monkeypatch.setattr(Gallery, "exact", lambda *_: pytest.fail("one by one"))
    strangers = Impostors(np.arange(30), 60, (0.01,))
    for rows, values in gallery.sharp(templates, people, []):
        strangers.add(values, people[rows])
        found = identity.outcomes(values, people[rows], np.arange(30), ())
        assert (found["auc"] == 0.5).all() and not found["rank5"].any()
    (cut,) = strangers.thresholds(gallery.exact, 1e-6)
    assert (cut.comparisons, cut.false_matches) == (60 * 29, 0)
    assert len(strangers._people) == 1 and cut.value > 1 - 1e-6


def test_a_large_group_is_stood_for_by_some():
    groups = lookalikes.of_group(["a"] * 500 + ["b"] * 3 + [None])
    assert {len(each) for each in groups[:500]} == {199, 200} and all(
        person not in each for person, each in enumerate(groups)
    )
    assert [each.tolist() for each in groups[500:]] == [[501, 502], [500, 502], [500, 501], []]
