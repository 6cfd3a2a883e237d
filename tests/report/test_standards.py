"""Standards as data: what a run cites depends on how it reached the model, and figures that are named exist."""

import json
from pathlib import Path

import pytest

from gmi.report.coverage import Figure, bearings, coverage, standards, told
from gmi.report.figures import line
from gmi.report.parts import PARTS

RESULTS = Path(__file__).parents[2] / "results"
KINDS = {"quickstart": "report", "neighbours_orl": "report", "templates_orl": "report", "ladder_orl": "ladder"} | {
    "defences_orl": "comparison",
    "watch_templates_lfw": "watch",
    "attributes_adult": "attributes",
    "extract_orl": "extraction",
}
"""Recorded results, and the kind of audit that they are of."""


def test_every_document_attack_and_mitigation_is_known():
    known = standards()
    assert {row.document for row in known.requirements} <= known.documents.keys()
    assert all(each in known.attacks for row in known.mitigations for each in row.against)
    assert [attack.nist for attack in known.attacks.values()] == [
        *["NISTAML.032"] * 3,
        *("NISTAML.038", "NISTAML.033", "NISTAML.031", "NISTAML.034"),
    ]
    assert {row.id for row in known.requirements if row.document == "aisvs"} == {
        *(f"C11.2.{number}" for number in range(1, 6)),
        *("C11.3.1", "C11.3.2"),
    }


@pytest.mark.parametrize(
    ("reaches", "cited"),
    [
        (("weights",), "AML.T0044"),
        (("api",), "AML.T0024.001, AML.T0040"),
        (("api", "weights"), "AML.T0024.001, AML.T0040, AML.T0044"),
    ],
)
def test_a_run_cites_how_it_reached_the_model(reaches, cited):
    rows = {row.attack.what: row for row in coverage({"representatives": reaches})}
    first = rows["Inversion: images of a class's people"]
    assert first.made == reaches and first.atlas == cited
    assert not any(row.made for what, row in rows.items() if what != first.attack.what)


def test_a_run_of_an_unknown_attack_is_a_mistake():
    with pytest.raises(KeyError):
        coverage({"telepathy": ("api",)})


def test_figures_that_standards_name_are_recorded_somewhere():
    recorded = {
        (kind, row["part"], row["metric"])
        for name, kind in KINDS.items()
        for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    }
    named = [figure for row in (*standards().requirements, *standards().mitigations) for figure in _figures(row)]
    unmeasured = {"hits@0.001", "comparisons"}  # a rate that no recorded run has; left out of the comparisons' records
    assert named
    for figure in named:
        if figure.metric not in unmeasured:
            assert (figure.kind, figure.part, figure.metric) in recorded, figure


def test_every_figure_that_is_named_has_words():
    named = [figure for row in (*standards().requirements, *standards().mitigations) for figure in _figures(row)]
    assert {figure.part for figure in named} <= PARTS.keys()
    assert all("_" not in told(figure, [line(figure.part, {}, figure.metric, 1, "count")]) for figure in named)


def _figures(row):
    return row.figures if hasattr(row, "figures") else row.measured


def test_what_bears_on_a_requirement_is_told_with_its_interval():
    figure = Figure(kind="report", part="related.copying", metric="agreement")
    one = line("related.copying", {}, "agreement", (0.425, 0.3, 0.56), "share")
    more = line("related.copying", {}, "agreement", (0.8, 0.7, 0.9), "share")
    lost = line("related.copying", {}, "agreement", None, "share")
    name = "How well a student copies the model, agrees with the model: "
    assert told(figure, [one]) == f"{name}42\u202f% [30, 56]"
    assert told(figure, [lost]) == f"{name}not known"
    assert told(figure, [more, one]) == f"{name}42\u202f% [30, 56] to 80\u202f% [70, 90] (2 figures)"
    assert told(figure, [one, one, lost]) == f"{name}42\u202f% [30, 56] (3 figures, of which 1 are not known)"


def test_requirements_without_figures_are_not_shown():
    estimate = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 9, "people": 9}
    report = {"kind": "report", "related": {"membership": {"methods": [{"method": "LiRA", "auc": estimate}]}}}
    (found,) = bearings(report)
    assert found.requirement.id == "C11.2.5" and "0.60 [0.50, 0.70]" in found.evidence[0]
    (judged,) = bearings(report | {"verdict": {"finding": "inconclusive"}})
    assert judged.evidence == (*found.evidence, "the run's finding: inconclusive")
