"""Look-alikes: against the slow way, and in worlds where an attack recovers traits alone, or the person."""

import numpy as np
import pytest

from gmi.metrics import statistics
from gmi.metrics.lookalikes import lookalikes, of_group, within


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def world(rng: np.random.Generator, people: int, traits: int, recovers: str) -> tuple[np.ndarray, ...]:
    """Similarity of an attack's images, of the prior's samples, and of people; the trait that each person has."""
    shared, whose = unit(rng.normal(size=(traits, 64))), rng.integers(traits, size=(2, people))
    person = unit(0.6 * shared[whose[0]] + 0.8 * unit(rng.normal(size=(people, 64))))
    photographs = unit(person[:, None] + 0.9 * unit(rng.normal(size=(people, 3, 64))))
    samples = unit(0.6 * shared[whose[1]] + 0.8 * unit(rng.normal(size=(people, 64))))
    images = unit(0.6 * shared[whose[0]] + 0.8 * unit(rng.normal(size=(people, 64))))
    if recovers == "person":
        images = unit(samples + 0.3 * person)
    to_people = [(each @ photographs.reshape(-1, 64).T).reshape(people, people, 3).max(2) for each in (images, samples)]
    return *to_people, np.einsum("imd,jnd->ij", photographs, photographs), whose[0]


def test_look_alikes_are_the_nearest_others() -> None:
    similarity = -np.abs(np.subtract.outer(np.arange(60.0), np.arange(60.0)))
    alike = lookalikes(similarity)
    assert alike.shape == (60, 6) and set(alike[30]) == {27, 28, 29, 31, 32, 33}
    assert lookalikes(similarity[:4, :4]).shape == (4, 3) and lookalikes(similarity[:12, :12]).shape == (12, 5)


def test_scores_among_look_alikes_by_hand() -> None:
    alike = np.array([[1, 2], [2, 0], [0, 1]])
    images = np.array([[0.9, 0.1, 0.2], [0.5, 0.4, 0.3], [np.nan] * 3])
    result = within(images, [0, 1, 2], [0, 0, 0], alike, [[0.3, 0.2, 0.3], [0.1, 0.2, 0.3]])
    np.testing.assert_allclose(result.own, [[1.0, 0.5, 0.5]])  # an image without a face ties
    np.testing.assert_allclose(result.nobody, [(0.75 + 0) / 2, (0 + 0.5) / 2, (0.75 + 1) / 2])
    # image 1 as person 0, against 2; image 2 ties. Image 2 as person 1 ties; image 0 as person 1, against 2. And so on.
    np.testing.assert_allclose(result.others, [[(1 + 0.5) / 2, (0.5 + 0) / 2, (1 + 0) / 2]])


@pytest.mark.parametrize(("people", "traits"), [(20, 2), (40, 4), pytest.param(60, 4, marks=pytest.mark.slow)])
def test_traits_alone_are_not_taken_for_a_person(people: int, traits: int) -> None:
    """The AUC among everybody is called in all audits; among look-alikes in 5 % at most, while a person is found."""
    rng, called = np.random.default_rng(0), {"traits": 0, "person": 0, "leak": 0}
    for recovers in ("traits", "person"):
        for _ in range(60):
            images, samples, between, _ = world(rng, people, traits, recovers)
            result = within(images, np.arange(people), np.zeros(people), lookalikes(between), samples)
            lows = [statistics.difference(values, np.zeros(people)).low for values in result.beyond]
            called[recovers] += min(lows) > 0
            own = np.diagonal(images)[:, None]
            called["leak"] += statistics.difference((images < own).sum(1) / (people - 1), np.full(people, 0.5)).low > 0
    assert called["traits"] <= 6 and called["person"] >= 55 and called["leak"] >= 115


def test_a_group_is_those_with_the_same_labels() -> None:
    groups = of_group(["a", "b", "a", None, None, "a"])
    assert [each.tolist() for each in groups] == [[2, 5], [], [0, 5], [], [], [0, 2]]


def test_who_is_alone_in_her_group_ties() -> None:
    result = within([[0.9, 0.1], [0.1, 0.9]], [0, 1], [0, 0], of_group(["a", "b"]), [[0.3, 0.2]])
    assert [values.tolist() for values in result.beyond] == [[[0.0, 0.0]]] * 2


def test_known_groups_tell_traits_from_people_where_look_alikes_cannot() -> None:
    """Eight traits of 24 people: of a person's five nearest, most have not her trait."""
    rng, called = np.random.default_rng(0), {"by the judge": 0, "by group": 0, "person": 0}
    for recovers in ("traits", "person"):
        for _ in range(30):
            images, samples, between, groups = world(rng, 24, 8, recovers)
            for kind, alike in {"by the judge": lookalikes(between), "by group": of_group(groups.tolist())}.items():
                result = within(images, np.arange(24), np.zeros(24), alike, samples)
                low = min(statistics.difference(values, np.zeros(24)).low for values in result.beyond)
                name = kind if recovers == "traits" else "person" if kind == "by group" else None
                called |= {} if name is None else {name: called[name] + (low > 0)}
    assert called["by group"] <= 3 < called["by the judge"] and called["person"] >= 25, called
