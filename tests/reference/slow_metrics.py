"""Slow formulas for gmi.metrics: loops over single comparisons, written from the definitions."""

from math import isnan

import numpy as np
from scipy.linalg import sqrtm


def to_people(similarity: np.ndarray, people: np.ndarray) -> np.ndarray:
    ids = sorted(set(people.tolist()))
    return np.array([[max(row[j] for j in range(len(people)) if people[j] == i) for i in ids] for row in similarity])


def threshold(similarity: np.ndarray, people: np.ndarray, ids: np.ndarray, fmr: float) -> tuple[int, int, float]:
    """Comparisons, false matches, and the least observed similarity (or infinity) that may count as a match."""
    pairs = [row[j] for row, p in zip(similarity, people, strict=True) for j, i in enumerate(ids) if i != p]
    pairs = [s for s in pairs if not isnan(s)]
    for candidate in [*sorted(set(pairs)), np.inf]:
        hits = sum(s >= candidate for s in pairs)
        if hits <= fmr * len(pairs) + 1e-9:
            return len(pairs), hits, candidate
    raise AssertionError


def outcome(row: np.ndarray, own: int, values: dict[str, float]) -> dict[str, float]:
    """The outcomes of one candidate that claims the person in column own."""
    others = [s for j, s in enumerate(row) if j != own]
    rank = 1 + sum(not s < row[own] for s in others)
    result = {name: float(row[own] >= value) for name, value in values.items()}
    result |= {f"rank{k}": float(rank <= k) for k in (1, 5)}
    wins = sum(1.0 if s < row[own] else 0.5 if s == row[own] or isnan(row[own]) else 0.0 for s in others)
    return result | {"auc": wins / len(others), "similarity": row[own]}


def nearest(found: np.ndarray, classes: np.ndarray, reference: np.ndarray, people: np.ndarray) -> list[float]:
    return [
        min(
            sum((a - b) ** 2 for a, b in zip(x, r, strict=True))
            for r, p in zip(reference, people, strict=True)
            if p == c
        )
        for x, c in zip(found, classes, strict=True)
    ]


def prdc(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, list[float]]:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(i: int, among: np.ndarray) -> float:
        return sorted(distance(among[i], among[j]) for j in range(len(among)) if j != i)[k - 1]

    real_balls = [radius(i, real) for i in range(len(real))]
    fake_balls = [radius(j, fake) for j in range(len(fake))]
    held = [[distance(r, f) <= ball for f in fake] for r, ball in zip(real, real_balls, strict=True)]
    return {
        "precision": [float(any(held[i][j] for i in range(len(real)))) for j in range(len(fake))],
        "recall": [float(any(distance(r, f) <= b for f, b in zip(fake, fake_balls, strict=True))) for r in real],
        "density": [sum(held[i][j] for i in range(len(real))) / k for j in range(len(fake))],
        "coverage": [float(any(row)) for row in held],
    }


def frechet(left: np.ndarray, right: np.ndarray) -> float:
    """Heusel et al. (2017), eq. 6, with the matrix root taken."""
    a, b = np.cov(left, rowvar=False), np.cov(right, rowvar=False)
    shift = left.mean(0) - right.mean(0)
    return float(shift @ shift + np.trace(a + b - 2 * np.real(sqrtm(a @ b))))
