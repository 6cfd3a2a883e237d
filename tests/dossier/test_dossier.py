"""Dossiers: runs of one system, what they made and what none made, and the measures that reach what was attacked."""

import json
from pathlib import Path

import pytest
from reference.planted import est, example, write

from gmi.audits import forms
from gmi.dossier.command import main
from gmi.dossier.dossier import NO_VERDICT, Dossier
from gmi.errors import GmiError

PERMISSION = {"system": "Door 3", "allowed_by": "A. Owner", "until": "2027-01-31"}


def ladder(**changes) -> dict:
    """A ladder.json, as far as a dossier reads it."""
    shared = {
        key: example()[key] for key in ("schema_version", "gmi", "assets", "provenance", "evidence", "authorised")
    }
    points = [
        {"rung": "scores", "access": "score", "search": "evolution", "name": "rung0_0", "queries": 504}
        | {"figures": {"rank1": est(0.3, 0.2, 0.4), "auc": est(0.8, 0.7, 0.9)}},
        {"rung": "labels", "access": "label-only", "search": "boundary", "name": "rung1_0", "queries": 2000}
        | {"figures": {"rank1": est(0.03, 0.0, 0.1), "auc": est(0.6, 0.5, 0.7)}},
    ]
    report = {"kind": "ladder", "name": "levels", "authorisation": PERMISSION, "attacks": {"representatives": ["api"]}}
    return shared | report | {"points": points, "random_prior": {}, "subject": "faces"} | changes


def put(folder: Path, report: dict) -> Path:
    if report["kind"] == "report":
        return write(folder, report, images=False)
    folder.mkdir()
    (folder / f"{report['kind']}.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [put(tmp_path / "a", example()), put(tmp_path / "b", ladder())]


def test_a_dossier_tells_what_was_tested_and_what_was_not(runs):
    dossier = Dossier.of(runs)
    assert dossier.system == "Door 3"
    assert [(key, part.name) for _, part, key in dossier.tested] == [
        ("representatives", "quickstart"),
        ("representatives", "levels"),
        ("membership", "quickstart"),
        ("copying", "quickstart"),
    ]
    assert [attack.nist for attack in dossier.missing] == [
        *("NISTAML.032", "NISTAML.032", "NISTAML.038", "NISTAML.034"),  # templates, attributes, records, property
    ]
    findings = {(key, part.name): part.found(key) for _, part, key in dossier.tested}
    assert findings["representatives", "quickstart"] == "evidence of identity leakage"
    assert findings["representatives", "levels"] == NO_VERDICT
    assert findings["membership", "quickstart"] == "evidence of leakage"


def test_runs_on_different_models_are_told_apart(runs, tmp_path):
    assert Dossier.of(runs).apart == ""
    older = ladder(name="before")
    older["provenance"] = older["provenance"] | {"digests": {"target": "a1" * 32}}
    dossier = Dossier.of([*runs, put(tmp_path / "c", older)])
    assert (
        "attacked 2 different models, or one by interfaces" in dossier.apart and "(quickstart, before)" in dossier.apart
    )
    main([*map(str, [*runs, tmp_path / "c"]), "--out", str(tmp_path / "out")])
    text = (tmp_path / "out" / "index.html").read_text()
    assert "2 different models" in text and "a1a1a1a1a1a1" in text


def test_measures_are_those_that_reach_the_attack_with_what_runs_tell(runs):
    risks = {risk.attack.nist: risk for risk in Dossier.of(runs).risks if risk.attack.edpb == "model inversion"}
    measures = {measure.id: figures for measure, figures in risks["NISTAML.032"].measures}
    rates = "levels: By level of access, Rank-1: 3\u202f% [0, 10] to 30\u202f% [20, 40] (2 figures)"
    assert measures["AML.M0002"] == (rates,) and measures["AML.M0003"] == ()
    assert measures["AML.M0004"] == ("levels: By level of access, queries: 504 to 2,000 (2 figures)",)
    (alone,) = [risk for risk in Dossier.of(runs[:1]).risks if risk.attack.edpb == "model inversion"]
    assert {measure.id for measure, _ in alone.measures} == {"AML.M0005", "AML.M0003"}  # the weights were attacked


def test_a_watch_tells_of_the_measure_though_it_attacks_nothing(runs, tmp_path):
    shared = {key: each for key, each in ladder().items() if key != "points"}
    traffic = [{"name": "evolution", "access": "score", "flagged": 0.75, "disguised": [], "queries": 99}]
    watch = shared | {"kind": "watch", "name": "door", "attacks": {}, "traffic": traffic}
    dossier = Dossier.of([*runs, put(tmp_path / "c", watch)])
    measures = [{measure.id: figures for measure, figures in risk.measures} for risk in dossier.risks]
    assert measures[0]["AML.M0024"] == ("door: Attacks whose queries the watch looks at, of them flagged: 75\u202f%",)


def test_the_page_shows_all_of_it_and_the_users_words_as_text(tmp_path, capsys):
    hostile = "<script>alert(1)</script>"
    runs = [put(tmp_path / "a", example(name=hostile, authorisation=PERMISSION | {"system": hostile}))]
    main([*map(str, runs), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "index.html")
    page = (tmp_path / "out" / "index.html").read_text()
    assert hostile not in page and "&lt;script&gt;" in page and "<script" not in page
    assert 'href="../a/report.html"' in page and "no verdict on anonymity or compliance" in page
    for text in ("AML.M0003 Predictive AI Model Hardening", "C11.2.5", "prEN 18282", "AITG-MOD-04", "not measured"):
        assert text in page
    tree = json.loads((tmp_path / "out" / "dossier.json").read_text())
    assert tree["system"] == hostile and tree["runs"][0]["finding"] == "evidence of identity leakage"
    assert tree["runs"][0]["has_signature"] is False and "figures" in tree["requirements"][0]


def test_a_dossier_says_what_its_runs_warn_of_and_is_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gmi.dossier.command.pdf", lambda page: page.with_suffix(".pdf"))
    main([str(put(tmp_path / "a", example(authorisation=PERMISSION))), "--out", str(tmp_path / "out"), "--to", "pdf"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "index.pdf")
    page, tree = (Path(tmp_path, "out", name).read_text() for name in ("index.html", "dossier.json"))
    (run,) = json.loads(tree)["runs"]
    assert run["cautions"] == ["Rule of 30: 15 false matches are few."] and len(run["beside"]) == 1
    assert run["cautions"][0] in page and "Whether a photograph was trained on: evidence of leakage." in page


@pytest.mark.parametrize(
    ("second", "system", "message"),
    [
        (ladder(authorisation=PERMISSION | {"system": "Door 4"}), None, "a is of Door 3, and .*b of Door 4"),
        (ladder(authorisation=None), None, r"b does not say which system it is of \(authorisation\): use --system"),
        (ladder(), "Door 5", "is of Door 3, and not of Door 5"),
    ],
)
def test_runs_of_different_systems_are_no_dossier(tmp_path, second, system, message):
    runs = [put(tmp_path / "a", example()), put(tmp_path / "b", second)]
    with pytest.raises(GmiError, match=message):
        Dossier.of(runs, system)


def test_runs_without_permission_need_the_systems_name(tmp_path):
    runs = [put(tmp_path / "a", example(authorisation=None)), put(tmp_path / "b", ladder(authorisation=None))]
    assert Dossier.of(runs, "Door 3").system == "Door 3"


def test_a_run_whose_forms_say_something_else_is_refused(runs):
    report = json.loads((runs[0] / "report.json").read_text())
    for name, text in forms(report):
        (runs[0] / name).write_text(text)
    assert Dossier.of(runs).parts[0].finding == report["verdict"]["finding"]
    (runs[0] / "report.json").write_text(
        json.dumps(report | {"verdict": report["verdict"] | {"finding": "no evidence"}})
    )
    with pytest.raises(GmiError, match=r"summary\.md does not say what report\.json says.*gmi verify .*a tells"):
        Dossier.of(runs)


def test_a_dossier_is_not_written_into_a_run(runs):
    with pytest.raises(GmiError, match="holds a run, and a dossier needs a folder of its own"):
        main([*map(str, runs), "--out", str(runs[0])])


def test_a_folder_without_a_finished_run_and_a_run_named_twice(runs, tmp_path):
    with pytest.raises(GmiError, match="holds no finished run"):
        Dossier.of([*runs, tmp_path / "none"])
    with pytest.raises(GmiError, match="named twice"):
        Dossier.of([*runs, runs[0]])
