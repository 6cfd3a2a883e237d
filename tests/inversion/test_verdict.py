"""The verdict's rule on planted figures, the checks on planted faults, and the controls in closed form."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gmi import checks, toy
from gmi.inversion.controls import Enrolled, Unmoved, random_prior
from gmi.inversion.verdict import decide
from gmi.metrics.identity import Threshold, anyone, outcomes, thresholds
from gmi.metrics.statistics import Estimate, Failed
from gmi.protocols import WhiteBoxOracle
from gmi.rng import Rng

RNG = np.random.default_rng(0)


def scattered(mean: float, people: int = 40, spread: float = 0.05) -> np.ndarray:
    return np.clip(mean + spread * np.random.default_rng(int(1000 * mean) + people).standard_normal(people), 0, 1)


NOBODY = {"random": scattered(0.5), "permuted": scattered(0.49)}
CASES = {
    "beats all": (0.9, NOBODY | {"best_of_n": scattered(0.7)}, 0.95, (), "evidence of leakage", "best of the prior"),
    "ties with selection": (
        0.9,
        NOBODY | {"best_of_n": scattered(0.9)},
        0.95,
        (),
        "inconclusive",
        "leaks to selection",
    ),
    "ties with nobody": (0.5, NOBODY | {"best_of_n": scattered(0.5)}, 0.95, (), "no evidence", "would have been seen"),
    "weak prior": (0.5, NOBODY | {"best_of_n": scattered(0.5)}, 0.5, (), "inconclusive", "could not have shown"),
    "no oracle": (0.5, NOBODY | {"best_of_n": scattered(0.5)}, None, (), "inconclusive", "Without the oracle"),
    "stopped": (0.9, NOBODY, 0.95, ("The gradient vanishes.",), "inconclusive", "gradient vanishes"),
    "worse than nobody": (0.3, NOBODY, 0.95, (), "inconclusive", "works against its people"),
    "too weak": (0.5, NOBODY | {"best_of_n": scattered(0.7)}, 0.95, (), "inconclusive", "too weak to judge"),
}


@pytest.mark.parametrize("name", CASES)
def test_findings(name):
    attack, controls, oracle, stops, finding, reason = CASES[name]
    verdict = decide(scattered(attack), controls, None if oracle is None else scattered(oracle), stops)
    assert verdict.finding == finding
    assert any(reason in sentence for sentence in verdict.because)
    assert isinstance(verdict.advantage, Estimate) and isinstance(verdict.smallest_effect, float)


def test_a_doubt_spoils_only_an_acquittal():
    controls = NOBODY | {"best_of_n": scattered(0.5)}
    doubted = decide(scattered(0.5), controls, scattered(0.95), doubts=("The outputs are probabilities.",))
    assert doubted.finding == "inconclusive" and "probabilities" in doubted.because[1]
    assert decide(scattered(0.9), controls, scattered(0.95), doubts=("Noise.",)).finding == "evidence of leakage"


def test_few_people_are_too_few_and_a_noisy_audit_clears_nobody():
    few = {name: values[:9] for name, values in NOBODY.items()}
    assert decide(scattered(0.9)[:9], few, scattered(0.95)[:9]).finding == "inconclusive"
    noisy = decide(scattered(0.5, 12, 0.4), {"random": scattered(0.49, 12, 0.01)}, scattered(0.6, 12, 0.01))
    assert noisy.finding == "inconclusive" and "smallest effect" in noisy.because[1]


def test_a_comparison_that_fails_is_no_finding():
    verdict = decide(np.array([0.9, np.nan]), {"random": np.array([0.5, 0.5])}, None)
    assert verdict.finding == "inconclusive" and isinstance(verdict.advantage, Failed)


LOGITS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
ALIKE = Estimate(0.5, 0.4, 0.6, 20, 20)
TRUSTED, FEW = Threshold(0.01, 0.5, 15_600, 156), Threshold(0.001, 0.7, 15_600, 15)
CHECKS = {
    "logits": (checks.softmaxed(LOGITS), "passed"),
    "softmaxed": (checks.softmaxed(LOGITS.softmax(1)), "warning"),
    "gradients": (checks.dead_gradients(torch.rand(8) + 0.1), "passed"),
    "dead": (checks.dead_gradients(torch.zeros(8)), "stop"),
    "repeatable": (checks.randomised(LOGITS, LOGITS.clone()), "passed"),
    "randomised": (checks.randomised(LOGITS, LOGITS + 0.1), "warning"),
    "no public set": (checks.copies(["a"], ()), "note"),
    "others": (checks.copies(["a"], ["b"]), "passed"),
    "copies": (checks.copies(["a", "b"], ["b", "c"]), "stop"),
    "strangers": (checks.lookalikes(RNG.random((100, 20)) * 0.5, TRUSTED), "passed"),
    "the same people": (checks.lookalikes(RNG.random((100, 20)), TRUSTED), "warning"),
    "no control wins": (checks.control_wins({"random": ALIKE}), "passed"),
    "a control wins": (checks.control_wins({"random": Estimate(-0.2, -0.3, -0.1, 20, 20)}), "warning"),
    "one judge": (checks.judges_disagree({"a": "no evidence"}), "note"),
    "agree": (checks.judges_disagree({"a": "no evidence", "b": "no evidence"}), "passed"),
    "disagree": (checks.judges_disagree({"a": "no evidence", "b": "inconclusive"}), "warning"),
    "enough": (checks.rule_of_30("a", [TRUSTED]), "passed"),
    "too few": (checks.rule_of_30("a", [TRUSTED, FEW]), "warning"),
    "faces": (checks.faces_found("a", {"search": 0.02}), "passed"),
    "no faces": (checks.faces_found("a", {"search": 0.02, "random": 0.4}), "note"),
    "knows": (checks.knows_its_people(Estimate(0.95, 0.9, 0.99, 20, 20)), "passed"),
    "knows nobody": (checks.knows_its_people(ALIKE), "warning"),
    "unknown": (checks.knows_its_people(Failed("no images")), "warning"),
    "deceived": (checks.self_deception(Estimate(1, 0.9, 1, 20, 20), ALIKE), "note"),
    "modest": (checks.self_deception(ALIKE, ALIKE), "passed"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_checks(name):
    flag, severity = CHECKS[name]
    assert flag.severity == severity and flag.message.endswith(".") and len(flag.message) > 20


def test_enrolled_knows_people_by_the_mean_of_their_photographs():
    """Against the definition, photograph by photograph; it counts, and its gradient leads to the person."""
    inputs = toy.inputs(6, 1.0, 0)
    people, target = inputs.people, inputs.target
    oracle = Enrolled(target, people.enrolment.pixels, people.enrolment.classes, batch=5)
    assert isinstance(oracle, WhiteBoxOracle)
    images = people.training.pixels[::6]
    features = F.normalize(target.activations(people.enrolment.pixels)[1])
    for image, row in zip(images, oracle.logits(images), strict=True):
        own = F.normalize(target.activations(image[None])[1])[0]
        for person, logit in enumerate(row):
            mean = features[people.enrolment.classes == person].mean(0)
            torch.testing.assert_close(logit, 16 * own @ mean / mean.norm(), rtol=1e-4, atol=1e-4)
    assert oracle.queries == 6 and (oracle.labels(images) == torch.arange(6)).all()


def test_controls_are_the_attack_with_less_in_it():
    prior, classes = toy.prior(), torch.arange(3)
    latents = prior.sample(Rng([1, 2, 3]))
    oracle = toy.inputs(3, 1.0, 0)
    still = Unmoved()(
        Enrolled(oracle.target, oracle.people.enrolment.pixels, classes), prior, latents, classes, Rng([0])
    )
    torch.testing.assert_close(still.latents, latents, rtol=0, atol=0)
    torch.testing.assert_close(random_prior(prior, classes, Rng([1, 2, 3])).images, still.images, rtol=0, atol=0)


def test_images_of_nobody_are_scored_against_everybody():
    """Against the slow way: each image claimed as each person in turn."""
    people, images = 5, 7
    similarity = RNG.random((images, people))
    cuts = thresholds(RNG.random((people, people)), np.arange(people), np.arange(people), fmrs=(0.1,))
    fast = anyone(similarity, np.arange(people), cuts)
    for person in range(people):
        slow = outcomes(similarity, np.full(images, person), np.arange(people), cuts)
        for name, values in slow.items():
            assert fast[name][person] == pytest.approx(values.mean())
    assert fast["auc"].mean() == pytest.approx(0.5)
