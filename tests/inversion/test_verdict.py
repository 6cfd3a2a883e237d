"""The verdict's rule on planted figures, the checks on planted faults, and the controls in closed form."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gmi import checks, toy
from gmi.data.images import Images
from gmi.inversion import strength
from gmi.inversion.controls import Enrolled, Unmoved, random_prior
from gmi.inversion.exposure import Ceiling, Exposure, Matches
from gmi.inversion.exposure import advantage as advantage_of
from gmi.inversion.learnt import Copying, Learnt
from gmi.inversion.recognition import Recognised
from gmi.inversion.scores import _reasons
from gmi.inversion.validity import admitted, groups_apart
from gmi.inversion.verdict import decide, settle
from gmi.metrics.identity import Threshold, anyone, outcomes, thresholds
from gmi.metrics.lookalikes import Within
from gmi.metrics.rates import any_of_m
from gmi.metrics.statistics import Estimate, Failed, Outcome
from gmi.oracles.access import LabelsOnly, ScoresOnly, WholeModel
from gmi.protocols import WhiteBoxOracle
from gmi.rng import Rng
from gmi.search.boundary import Boundary
from gmi.search.conditional import Conditional
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.search.guided import Guided
from gmi.search.signature import Search
from gmi.search.surrogate import Surrogate
from gmi.search.tuned import Tuned
from gmi.targets.module import ModuleTarget
from gmi.training.targets import Head
from gmi.views import Input

RNG = np.random.default_rng(0)


def scattered(mean: float, people: int = 40, spread: float = 0.05) -> np.ndarray:
    """Values (people,) with exactly this mean and standard deviation."""
    drawn = np.random.default_rng(people).standard_normal(people)
    return mean + spread * (drawn - drawn.mean()) / drawn.std()


def exposure(auc: float, within: float = 0.5, people: int = 40, spread: float = 0.05) -> Exposure:
    """An attack whose images have this AUC among everybody, and that one among look-alikes."""
    among = Within(scattered(within, people)[None], scattered(0.5, people)[None] - 0.01, scattered(0.49, people))
    return Exposure(
        scattered(auc, people, spread)[None],
        (np.full(people, 0.5), np.full(people, 0.5)),
        (Matches(0.01, np.zeros((1, people)), 0.0, 0.0, 0.0),),
        (among,),
    )


def matching(attack: Exposure, matched: np.ndarray, chance: float = 0.0, ever: float = 0.0) -> Exposure:
    """An attack that matches these people (S, A), where an image does by chance, or any of all draws' images."""
    return replace(attack, rates=(Matches(0.01, matched, chance, chance, ever),))


def ceiling(auc: float, matched: float = 0.9, people: int = 40) -> Ceiling:
    """An oracle projection with this AUC, which so many of the people match."""
    return Ceiling(scattered(auc, people)[None], (np.arange(people) < round(matched * people)).astype(float)[None])


SELECTED = {"best_of_n": exposure(0.5)}
CASES = {
    "the person": ({"search": exposure(0.9, 0.8)}, 0.95, "evidence of identity leakage", "not traits alone"),
    "traits": ({"search": exposure(0.9, 0.5)}, 0.95, "evidence of trait leakage", "is not shown"),
    "selection alone": ({"search": exposure(0.5), "best_of_n": exposure(0.9, 0.8)}, 0.95,
        "evidence of identity leakage", "the best of the prior's samples"),
    "public images that the target chose": ({"search": exposure(0.5), "public": exposure(0.75, 0.7)}, 0.95,
        "evidence of identity leakage", "public images chosen"),
    "nobody": ({"search": exposure(0.5)} | SELECTED, 0.95, "no evidence", "can be excluded"),
    "a tenth": ({"search": exposure(0.55, spread=0.3)} | SELECTED, 0.95, "inconclusive", "is notable"),
    "weak prior": ({"search": exposure(0.5)} | SELECTED, 0.5, "inconclusive", "could not have shown"),
    "a prior that shows less than what matters": ({"search": exposure(0.5)}, 0.55, "inconclusive", "could not"),
    "no oracle": ({"search": exposure(0.5)} | SELECTED, None, "inconclusive", "Without the oracle"),
    "worse than nobody": ({"search": exposure(0.3)} | SELECTED, 0.95, "inconclusive", "works against its people"),
    "few": ({"search": exposure(0.9, 0.8, 9)}, None, "inconclusive", "9 people are too few"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_findings(name):
    exposures, oracle, finding, reason = CASES[name]
    verdict = decide(exposures, None if oracle is None else ceiling(oracle), 0.1)
    assert verdict.finding == finding
    assert any(reason in sentence for sentence in verdict.because), verdict.because
    assert {each.attack for each in verdict.advantages} == set(exposures)
    assert verdict.optimising is None or "best_of_n" in exposures


def test_a_search_below_the_best_of_n_acquits_nobody():
    search, best = exposure(0.4, people=400), exposure(0.49, people=400)
    beaten = decide({"search": search, "best_of_n": best}, ceiling(0.95, people=400), 0.1)
    assert beaten.finding == "inconclusive" and any("than the best of the prior" in each for each in beaten.because)


def test_a_prior_in_which_nobody_can_match_acquits_nobody():
    """However like their people its images are."""
    attacks = {"search": exposure(0.5, people=100)} | {"best_of_n": exposure(0.5, people=100)}
    assert decide(attacks, ceiling(0.95, 0.4, 100), 0.1).finding == "no evidence"
    blunt = decide(attacks, ceiling(0.95, 0.1, 100), 0.1)
    assert blunt.finding == "inconclusive" and any("10% match them" in each for each in blunt.because)


def test_a_group_that_is_found_is_told_though_a_mean_over_all_hides_it():
    """Ten of a hundred people; groups that are alike; and people each of whom is alone."""
    attack, control = exposure(0.5, people=100), exposure(0.5, people=100)
    found = np.where(np.arange(100) < 10, 0.35, -0.35 / 9) + attack.auc
    groups = ["night shift"] * 10 + ["day shift"] * 90
    exposures = {"search": replace(attack, auc=found), "best_of_n": control}
    flag = groups_apart(exposures, groups)
    assert flag.severity == "warning" and "night shift, 10 people: +0.3" in flag.message and "day" not in flag.message
    assert decide(exposures, ceiling(0.95, people=100), 0.1).finding == "no evidence"
    assert decide(exposures, ceiling(0.95, people=100), 0.1, doubts=[flag.message]).finding == "inconclusive"
    assert groups_apart({"search": attack, "best_of_n": control}, groups).severity == "passed"
    assert groups_apart(exposures, list(map(str, range(100)))).severity == "passed"
    assert groups_apart({"search": exposure(0.8, people=100)}, groups).severity == "note"


def test_a_doubt_bars_an_acquittal_and_never_evidence():
    """Dead gradients, a target that does not know its people: reasons why an attack fails, not why it succeeds."""
    doubted = decide({"search": exposure(0.5)}, ceiling(0.95), 0.1, doubts=("The gradient vanishes.",))
    assert doubted.finding == "inconclusive" and "vanishes" in doubted.because[1]
    shown = decide({"search": exposure(0.9, 0.8)}, ceiling(0.95), 0.1, doubts=("The gradient vanishes.",))
    assert shown.finding == "evidence of identity leakage"
    stopped = decide({"search": exposure(0.9, 0.8)}, ceiling(0.95), 0.1, stops=("Copies.",))
    assert stopped.finding == "inconclusive" and stopped.because == ("Copies.",)


def test_an_inconclusive_audit_says_in_numbers_what_would_end_it():
    noisy = decide({"search": exposure(0.5, people=12, spread=0.3)}, ceiling(0.95, people=12), 0.1)
    assert noisy.finding == "inconclusive" and noisy.people_needed is not None and noisy.people_needed > 12
    assert f"about {noisy.people_needed} people would exclude it" in noisy.because[2]
    assert isinstance(noisy.smallest_effect, float) and noisy.smallest_effect > 0.1
    between = decide({"search": exposure(0.57, people=12, spread=0.3)}, ceiling(0.95, people=12), 0.1)
    assert "More people, or more seeds" in between.because[2]


def test_a_notable_leak_is_not_acquitted_and_nobody_is():
    """A rule that does not bound the advantage acquits +0.10 in 26 to 90 % of audits."""
    rng, findings = np.random.default_rng(0), {}
    for advantage in (0.0, 0.1):
        cell = []
        for _ in range(150):
            auc = rng.beta(2 * (0.5 + advantage), 2 * (0.5 - advantage), (1, 60))
            within = Within(auc, np.full((1, 60), 0.5), np.full(60, 0.5))
            exposures = {
                "search": Exposure(
                    auc,
                    (np.full(60, 0.5),),
                    (Matches(0.01, (auc > 0.99).astype(float), 0.01, 0.01, 0.01),),
                    (within,),
                )
            }
            cell.append(decide(exposures, ceiling(0.9, people=60), 0.1).finding)
        findings[advantage] = cell
    assert findings[0.1].count("no evidence") <= 12  # 5 % of 150, and three standard errors
    assert findings[0.0].count("no evidence") >= 75
    assert sum(finding.startswith("evidence") for finding in findings[0.0]) <= 12


@pytest.mark.parametrize(("people", "found"), [(60, 3), (100, 10), (200, 20), (29, 1)])
def test_a_few_who_are_found_outright_are_no_acquittal(people, found):
    """Their mean AUC says nothing: 10 of 100 at 1 and the others as by chance are +0.05 on average."""
    auc = scattered(0.5, people)[None].copy()
    matched = np.zeros((1, people))
    auc[:, :found], matched[:, :found] = 1.0, 1.0
    few = matching(replace(exposure(0.5, people=people), auc=auc), matched)
    verdict = decide({"search": few}, ceiling(0.95, people=people), 0.1)
    assert verdict.finding != "no evidence"
    if verdict.finding == "inconclusive":
        assert "may find up to" in " ".join(verdict.because)
    assert verdict.advantages[0].matches is not None and verdict.advantages[0].matches >= 0.1


def test_a_person_is_found_if_one_of_her_images_is():
    """A fifth of 100 people, each by one of five images: as a share of images that is one in twenty-five."""
    people, keep = 100, 5
    classes = np.repeat(np.arange(people), keep)
    hits = ((classes < 20) & (np.arange(people * keep) % keep == 2)).astype(float)
    nobody = {"auc": np.full(people, 0.5), "match@0.01": np.zeros(people)}
    recognised = Recognised(
        judge="dlib",
        people=people,
        thresholds=(Threshold(0.01, 0.5, 15_600, 156, effective=40.0),),
        outcomes={"search": {"auc": np.full(people * keep, 0.5), "match@0.01": hits}, "random": nobody},
        classes={"search": classes, "random": np.arange(people)},
        draws={"search": np.zeros(people * keep, int), "random": np.zeros(people, int)},
        within={"search": {"auc_lookalikes": exposure(0.5, people=people).within[0]}},
        samples={},
        public=None,
    )
    exposures = recognised.exposures()
    (matches,) = exposures["search"].rates
    assert matches.matched.shape == (1, people) and matches.matched.mean() == 0.2
    found = decide(exposures, ceiling(0.95, people=people), 0.1)
    assert found.finding == "inconclusive" and "may find up to" in " ".join(found.because)


def test_any_of_several_seeds_is_held_against_as_many_samples_of_the_prior():
    """Of 50 samples one matches each person, so that any of three does in 1 - 0.98 ** 3; so many seeds find as many."""
    people, samples, seeds = 200, 50, 3
    by_seed, by_sample = (np.tile(np.arange(people), count) for count in (seeds, samples))
    drawn, sampled = (np.repeat(np.arange(count), people) for count in (seeds, samples))
    hits = (np.random.default_rng(0).uniform(size=people * seeds) < 1 / samples).astype(float)
    recognised = Recognised(
        judge="dlib",
        people=people,
        thresholds=(Threshold(0.01, 0.5, 15_600, 156, effective=40.0),),
        outcomes={
            "search": {"auc": np.full(people * seeds, 0.5), "match@0.01": hits},
            "random": {"auc": np.full(people * samples, 0.5), "match@0.01": (sampled == by_sample % samples) * 1.0},
        },
        classes={"search": by_seed, "random": by_sample},
        draws={"search": drawn, "random": sampled},
        within={"search": {"auc_lookalikes": exposure(0.5, people=people).within[0]}},
        samples={},
        public=None,
    )
    exposures = recognised.exposures()
    (matches,) = exposures["search"].rates
    assert [matches.usual, matches.once, matches.ever] == pytest.approx([0.02, 0.02, 1 - 0.98**seeds])
    assert decide(exposures, ceiling(0.95, people=people), 0.1).finding == "no evidence"
    alike = replace(recognised, others={"search": ((0.02, 0.025),)})  # each seed's image of a person is nearly the same
    assert alike.exposures()["search"].rates[0].ever == 0.025


@pytest.mark.parametrize(("people", "fmr", "found", "named"), [(200, 0.01, 8, True), (200, 0.01, 4, False),
    (200, 0.001, 3, True), (200, 0.001, 1, False), (100, 0.001, 2, True)])  # fmt: skip
def test_a_few_who_are_found_bar_an_acquittal(people, fmr, found, named):
    """As soon as chance does so in fewer than one audit in 160, at each of two rates and of two attacks."""
    attack = exposure(0.5, people=people)
    hits = (np.arange(people) < found).astype(float)[None]
    rates = [Matches(each, hits if fmr <= each else 0 * hits, each, each, each) for each in (0.01, 0.001)]
    if fmr < 0.01:
        rates[0] = Matches(0.01, hits, 0.01, 0.01, 0.01)
    exposures = {"search": replace(attack, rates=tuple(rates)), "best_of_n": exposure(0.5, people=people)}
    verdict = decide(exposures, ceiling(0.95, people=people), 0.1)
    said = f"match {found} of {people} people at FMR {fmr:g}, and {people * fmr:.1f} would by chance"
    assert (said in " ".join(verdict.because)) == named == (verdict.finding != "no evidence")


def test_the_chance_of_an_image_is_that_of_images_like_it():
    """A tenth of 200 people are found; samples match one in ten, and the search's own images 4 % of other people."""
    people, samples, rng = 200, 10, np.random.default_rng(0)
    by_sample, sampled = np.tile(np.arange(people), samples), np.repeat(np.arange(samples), people)
    recognised = Recognised(
        judge="dlib",
        people=people,
        thresholds=(Threshold(0.1, 0.5, 15_600, 1560, effective=40.0),),
        outcomes={
            "search": {"auc": np.full(people, 0.5), "match@0.1": np.zeros(people)},
            "random": {"auc": np.full(people * samples, 0.5), "match@0.1": (sampled == by_sample % samples) * 1.0},
        },
        classes={"search": np.arange(people), "random": by_sample},
        draws={"search": np.zeros(people, int), "random": sampled},
        within={"search": {"auc_lookalikes": exposure(0.5, people=people).within[0]}},
        samples={},
        public=None,
        others={"search": ((0.04, 0.04),)},
    )
    acquitted = []
    for share in (0.0, 0.1):
        cleared = 0
        for _ in range(100):
            hits = np.where(
                np.arange(people) < share * people, rng.uniform(size=people) < 0.8, rng.uniform(size=people) < 0.04
            )
            recognised.outcomes["search"]["match@0.1"] = hits.astype(float)
            bound = advantage_of("search", recognised.exposures()["search"]).matches
            cleared += bound is not None and bound < 0.1 * (0.8 - 0.1)  # what the prior shows beyond chance
        acquitted.append(cleared / 100)
    assert acquitted[0] >= 0.9 and acquitted[1] <= 0.05


def test_what_is_computed_again_knows_the_doubts_whatever_the_reasons_say():
    """A finding that was edited in report.json is told by `gmi verify`, as the checks still bar it."""
    flag = {"name": "colour", "severity": "warning", "message": "The prior is grey.", "bars_acquittal": True}
    other = flag | {"name": "rule of 30", "message": "Few.", "bars_acquittal": False}
    report = {"checks": [flag, other], "verdict": {"finding": "no evidence", "because": ["It was edited."]}}
    assert _reasons(report) == ([], ["The prior is grey."], True)


@pytest.mark.parametrize(("matched", "least"), [(1.0, 29), (0.9, 32), (0.5, 59)])
def test_nobody_found_is_an_acquittal_from_so_many_people_on_as_the_prior_shows(matched, least):
    """Of people who are found as well as the prior can show people, so many match: fewer matches, more people."""
    few, enough = (
        decide({"search": exposure(0.5, people=count)}, ceiling(0.95, matched, count), 0.1)
        for count in (least - 1, least)
    )
    assert few.finding == "inconclusive" and f"{least} people or more would exclude it if nobody" in few.because[1]
    assert enough.finding == "no evidence" and "more than 10% of people are found as well as" in enough.because[1]


def test_people_who_are_found_as_well_as_the_prior_can_show_are_not_overlooked():
    """A tenth of 100 people, of whom 40 % match, as of the oracle projection: a bound on matches alone acquits 42 %."""
    rng, findings = np.random.default_rng(0), []
    for _ in range(60):
        auc = np.clip(scattered(0.5, 100, 0.15)[rng.permutation(100)], 0, 0.98)[None]
        auc[:, :10] = 0.95
        found, top = ((rng.uniform(size=(1, 100)) < rate).astype(float) for rate in (0.01, 0.4))
        found[:, :10] = rng.uniform(size=(1, 10)) < 0.4
        search = matching(replace(exposure(0.5, people=100), auc=auc), found, 0.01, 0.01)
        findings.append(decide({"search": search}, replace(ceiling(0.9, people=100), matched=top), 0.1).finding)
    assert findings.count("no evidence") <= 3


def test_few_people_who_are_shown_to_be_found_acquit_nobody():
    """A twentieth of 200, which no bound excludes as notable: more match than chance, though the mean shows nothing."""
    auc = np.clip(scattered(0.5, 200, 0.15), 0, 0.98)[None]
    found = np.zeros((1, 200))
    found[:, :2] = 1
    search = matching(replace(exposure(0.5, people=200), auc=auc), found, 0.01, 0.01)
    few = matching(search, np.maximum(found, np.arange(200) < 10), 0.01, 0.01)
    top = replace(ceiling(0.95, people=200), matched=np.full((1, 200), 0.95))
    assert decide({"search": search}, top, 0.1).finding == "no evidence"
    verdict = decide({"search": few}, top, 0.1)
    assert verdict.finding == "inconclusive"
    assert "images of the search match 10 of 200 people at FMR 0.01, and 2.0 would by chance" in verdict.because[1]
    lucky = any_of_m(0.01, 10)  # ten images of each person match as often by chance
    many = decide({"search": matching(few, few.rates[0].matched, lucky, lucky)}, top, 0.1)
    assert "by chance" not in " ".join(many.because)


def test_people_who_are_found_with_any_seed_are_found():
    """Of 100 people 15 are found with one seed of three each: a mean over seeds has 5."""
    auc = np.clip(scattered(0.5, 100, 0.15), 0, 0.98)[None].repeat(3, 0)
    found = np.array([(np.arange(100) // 5 == seed).astype(float) for seed in range(3)])
    search = matching(replace(exposure(0.5, people=100), auc=auc), found, 0.01, 0.03)
    verdict = decide({"search": search}, ceiling(0.95, people=100), 0.1)
    assert verdict.finding == "inconclusive" and verdict.advantages[0].matches is not None
    assert verdict.advantages[0].matches > 0.15
    none = decide({"search": matching(search, np.zeros((3, 100)), 0.01, 0.03)}, ceiling(0.95, people=100), 0.1)
    assert none.finding == "no evidence"


def test_people_who_are_found_by_one_seed_each_are_not_overlooked_where_chance_is_high():
    """A tenth of 200, each by one of ten seeds, at an FMR of 10 %: chance would have matched most of them anyway."""
    rng, findings = np.random.default_rng(0), []
    people, seeds, usual, shown = 200, 10, 0.1, 0.8
    for _ in range(40):
        found = (rng.uniform(size=(seeds, people)) < usual).astype(float)
        found[rng.integers(seeds, size=20), np.arange(20)] = rng.uniform(size=20) < shown
        auc = np.clip(scattered(0.5, people, 0.15)[rng.permutation(people)], 0, 0.98)[None].repeat(seeds, 0)
        search = matching(replace(exposure(0.5, people=people), auc=auc), found, usual, 1 - (1 - usual) ** seeds)
        top = replace(ceiling(0.9, people=people), matched=(rng.uniform(size=(1, people)) < shown).astype(float))
        findings.append(decide({"search": search}, top, 0.1).finding)
    assert findings.count("no evidence") <= 2


def test_the_smallest_effect_knows_of_other_attacks_and_of_the_luck_of_seeds():
    one = exposure(0.5)
    lucky = replace(one, auc=one.auc + np.array([[-0.04], [0], [0.04]]))
    alone, among, drawn = (
        decide(each, None, 0.1).smallest_effect
        for each in ({"search": one}, {"search": one, "best_of_n": one, "public": one}, {"search": lucky})
    )
    assert isinstance(alone, float) and isinstance(among, float) and isinstance(drawn, float)
    assert alone < among < 1.3 * alone and drawn > 1.5 * alone


def test_all_judges_must_agree_to_acquit():
    clear = decide({"search": exposure(0.5)}, ceiling(0.95), 0.1)
    shown = decide({"search": exposure(0.9, 0.8)}, ceiling(0.95), 0.1)
    assert settle({"a": clear, "b": clear}).finding == "no evidence"
    apart = settle({"a": clear, "b": shown})
    assert apart.finding == "inconclusive" and "b: evidence of identity leakage" in apart.because[-1]
    assert settle({"a": shown, "b": clear}).finding == "evidence of identity leakage"
    assert settle({"a": clear}).because[-1] == "The verdict rests on one judge, a."


def test_several_seeds_are_several_draws():
    one = exposure(0.9, 0.8)
    three = replace(one, auc=one.auc + np.array([[-0.04], [0], [0.04]]))
    single, several = (decide({"search": each}, None, 0.1).advantages[0].leak for each in (one, three))
    assert isinstance(single, Estimate) and isinstance(several, Estimate)
    assert several.value == pytest.approx(single.value) and several.high - several.low > 2 * (single.high - single.low)
    assert "3 seeds" in decide({"search": three}, None, 0.1).because[0]


def test_a_comparison_that_fails_is_no_finding():
    broken = replace(exposure(0.9), auc=np.array([[np.nan] * 40]))
    verdict = decide({"search": broken}, None, 0.1)
    assert verdict.finding == "inconclusive" and isinstance(verdict.advantages[0].leak, Failed)


GENUINE, IMPOSTOR = RNG.normal(0.7, 0.1, 400), RNG.normal(0.1, 0.1, 15_600)


def strangers_and(count: int) -> np.ndarray:
    """Similarity of 20,000 public images to 40 people, and so many photographs of every one or of a tenth of them."""
    similarity = RNG.normal(0.1, 0.1, (20_000, 40))
    similarity[np.arange(count), np.arange(count) % (40 if count > 100 else 4)] = RNG.normal(0.7, 0.1, count)
    return similarity


def test_of_each_level_of_access_the_strongest_search_counts_and_of_a_search_its_worst():
    kind, climbs = strength.taught(Boundary(), None), strength.climbed(True)
    sure, unsure = strength.persuaded(0.9), strength.persuaded(0.1)
    found = strength.strengths(
        {
            "labels": {"boundary": (kind, sure)},
            "scores": {"evolution": (kind, sure), "genetic": (kind, unsure)},
            "weights": {"gradient": (climbs, sure), "evolution": (kind, sure)},
            "half": {"gradient": (climbs, sure, climbs, unsure)},  # with one seed of two
        }
    )
    assert [(flag.name, flag.severity) for flag in found] == [
        ("student of the target: labels; scores", "warning"),
        ("search with the weights: weights", "passed"),
        ("search convinces the target: half", "warning"),
    ]


LOGITS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
ALIKE = Estimate(0.5, 0.4, 0.6, 20, 20)
STUDENT = ModuleTarget(factory="gmi.toy:target", input=Input(size=(16, 16)))
COPIES = Surrogate(students=(STUDENT,), training=Head())


def learnt(accuracy: Outcome) -> Learnt:
    """Of a student that is right so often, of a target that is right as often as not."""
    good = Copying(ALIKE, Estimate(0.5, 0.4, 0.6, 20, 20), ALIKE, 100)
    return Learnt(students=(good, Copying(ALIKE, accuracy, ALIKE, 100)))


TRUSTED, FEW = Threshold(0.01, 0.5, 15_600, 156, effective=40.0), Threshold(0.001, 0.7, 15_600, 156, effective=4.0)
CHECKS = {
    "logits": (checks.softmaxed(LOGITS), "passed"),
    "softmaxed": (checks.softmaxed(LOGITS.softmax(1)), "warning"),
    "softmaxed, without a background class": (checks.softmaxed(LOGITS.softmax(1)[:, 1:]), "warning"),
    "scores": (checks.flat(LOGITS.log_softmax(1)), "passed"),
    "scores rounded to labels": (checks.flat((30 * LOGITS).softmax(1).round().clamp(1e-6, 1).log()), "warning"),
    "scores softmaxed once": (checks.softened(LOGITS.log_softmax(1)), "passed"),
    "scores softmaxed twice": (checks.softened(LOGITS.softmax(1).log_softmax(1)), "warning"),
    "gradients": (checks.dead_gradients(torch.rand(8) + 0.1), "passed"),
    "dead": (checks.dead_gradients(torch.zeros(8)), "warning"),
    "repeatable": (checks.randomised(LOGITS, LOGITS.clone()), "passed"),
    "randomised": (checks.randomised(LOGITS, LOGITS + 0.1), "warning"),
    "a background class": (checks.unaudited(41, 40), "passed"),
    "others without photographs": (checks.unaudited(42, 40), "warning"),
    "no public set": (checks.copies(0, 0), "note"),
    "others": (checks.copies(0, 1), "passed"),
    "copies": (checks.copies(1, 2), "stop"),
    "strangers": (checks.public_people(strangers_and(0).max(1), 40, GENUINE, IMPOSTOR), "passed"),
    "few of the people": (checks.public_people(strangers_and(20).max(1), 40, GENUINE, IMPOSTOR), "warning"),
    "twenty of each": (checks.public_people(strangers_and(800).max(1), 40, GENUINE, IMPOSTOR), "warning"),
    "no control wins": (checks.control_wins({"random": ALIKE}), "passed"),
    "a control wins": (checks.control_wins({"random": Estimate(-0.2, -0.3, -0.1, 20, 20)}), "warning"),
    "one judge": (checks.judges_disagree({"a": "no evidence"}), "note"),
    "agree": (checks.judges_disagree({"a": "no evidence", "b": "no evidence"}), "passed"),
    "disagree": (checks.judges_disagree({"a": "no evidence", "b": "inconclusive"}), "warning"),
    "known training": (checks.training_stated("a", {"LFW"}), "passed"),
    "unknown training": (checks.training_stated("a", frozenset()), "note"),
    "recorded": (checks.defence_shown("dp-sgd", True), "passed"),
    "stated alone": (checks.defence_shown("dp-sgd", False), "warning"),
    "enough": (checks.rule_of_30("a", [TRUSTED]), "passed"),
    "too few": (checks.rule_of_30("a", [TRUSTED, FEW]), "warning"),
    "sees": (checks.judge_sees("a", Estimate(0.98, 0.9, 1.0, 40, 20)), "passed"),
    "blind": (checks.judge_sees("a", Estimate(0.62, 0.45, 0.73, 40, 20)), "warning"),
    "unseen": (checks.judge_sees("a", Failed("no face")), "warning"),
    "faces": (checks.faces_found("a", {"search": 0.02}), "passed"),
    "no faces": (checks.faces_found("a", {"search": 0.02, "random": 0.4}), "note"),
    "a search without faces": (checks.faces_found("a", {"search": 0.6, "oracle": 0.1}), "warning"),
    "as few as the prior shows": (checks.faces_found("a", {"search": 0.6, "oracle": 0.5}), "note"),
    "a system that lets images in": (
        admitted(Estimate(0.95, 0.9, 0.99, 20, 20), Estimate(0.02, 0.0, 0.1, 20, 20)),
        "warning",
    ),
    "a system that lets none in": (
        admitted(Estimate(0.02, 0.0, 0.1, 20, 20), Estimate(0.02, 0.0, 0.1, 20, 20)),
        "passed",
    ),
    "a system of which it is not known": (admitted(Failed("none"), Estimate(0.02, 0.0, 0.1, 20, 20)), "warning"),
    "knows": (checks.knows_its_people(Estimate(0.95, 0.9, 0.99, 20, 20)), "passed"),
    "knows nobody": (checks.knows_its_people(ALIKE), "warning"),
    "unknown": (checks.knows_its_people(Failed("no images")), "warning"),
    "climbs": (strength.climbed(True), "passed"),
    "has the weights in vain": (strength.climbed(False), "warning"),
    "templates": (strength.followed(), "warning"),
    "no student": (strength.taught(Boundary(), None), "warning"),
    "a student to be": (strength.taught(COPIES, None), "passed"),
    "a student": (strength.taught(COPIES, learnt(Estimate(0.9, 0.8, 0.95, 20, 20))), "passed"),
    "half a student": (strength.taught(COPIES, learnt(Estimate(0.3, 0.2, 0.4, 20, 20))), "passed"),
    "a blind student": (strength.taught(COPIES, learnt(Estimate(0.2, 0.1, 0.4, 20, 20))), "warning"),
    "an unknown student": (strength.taught(COPIES, learnt(Failed("none"))), "warning"),
    "persuaded": (strength.persuaded(0.97), "passed"),
    "unpersuaded": (strength.persuaded(0.1), "warning"),
    "not asked": (strength.persuaded(Failed("no images")), "warning"),
    "deceived": (checks.self_deception(Estimate(1, 0.9, 1, 20, 20), ALIKE), "note"),
    "modest": (checks.self_deception(ALIKE, ALIKE), "passed"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_checks(name):
    flag, severity = CHECKS[name]
    assert flag.severity == severity and flag.message.endswith(".") and len(flag.message) > 20


def test_a_grey_prior_is_told_where_the_target_sees_colour():
    people = SimpleNamespace(coloured=True)
    grey, coloured = (Images.of(torch.rand(4, count, 8, 8).expand(4, 3, 8, 8), torch.arange(4)) for count in (1, 3))
    sees, blind = (SimpleNamespace(input=Input(size=(8, 8), colour=colour)) for colour in ("rgb", "grey"))
    found = [strength.grey_prior(target, people, grey) for target in (sees, object(), blind)]  # type: ignore[arg-type]
    assert [len(flags) for flags in found] == [1, 1, 0] and found[0][0].severity == "warning"
    assert not strength.grey_prior(sees, people, coloured)  # type: ignore[arg-type]
    assert not strength.grey_prior(sees, SimpleNamespace(coloured=False), grey)  # type: ignore[arg-type]


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
            assert fast[name][:, person] == pytest.approx(values)
    assert fast["auc"].mean() == pytest.approx(0.5)


def test_a_search_below_the_strongest_at_its_access_bars_an_acquittal():
    """Gradients where there are weights, a student where there are answers; whatever it finds is found all the same."""
    inputs = toy.inputs(6, 1.0, 0)

    def flag(search: Search, access: WholeModel | ScoresOnly | LabelsOnly) -> str:
        return strength.strength(search, access.open(inputs.target, None), comparing=False).severity

    guided = Conditional(questions=8, guide=Guided())
    assert [flag(each, WholeModel()) for each in (Gradient(), Guided(), Tuned(), guided)] == ["passed"] * 4
    for weak in (Evolution(), Boundary(), COPIES, Conditional(questions=8)):
        assert flag(weak, WholeModel()) == "warning"
    assert flag(Evolution(), ScoresOnly()) == flag(Boundary(), LabelsOnly()) == "warning"
