"""A small slice of the quickstart with its real parts: ORL faces, FaceNet, the flow prior, dlib, LPIPS, the probe."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from gmi import cli
from gmi.assets.catalogue import resolve
from gmi.inversion import page as render

SCHEMA = json.loads(Path(render.__file__).with_name("page.schema.json").read_text("utf-8"))
PEOPLE = 3


@pytest.fixture
def slice_of_quickstart(tmp_path) -> Path:
    """The shipped configuration with three people, four photographs of each, and hardly any steps."""
    for person in sorted(resolve("asset:orl/images").iterdir())[:PEOPLE]:
        (tmp_path / "faces" / person.name).mkdir(parents=True)
        for photograph in sorted(person.iterdir())[:4]:
            shutil.copy(photograph, tmp_path / "faces" / person.name)
    tree = yaml.safe_load(Path("configs/quickstart.yaml").read_text())
    tree["data"] |= {"folder": str(tmp_path / "faces"), "enrolment": 2}
    tree["target"]["arguments"]["people"] = PEOPLE
    tree["target"]["weights"] = str(tmp_path / "target" / "model.safetensors")
    tree["prior"]["steps"] = 2
    tree["search"]["steps"], tree["selection"]["pool"], tree["selection"]["views"] = 2, 6, 1
    config = tmp_path / "slice.yaml"
    config.write_text(yaml.safe_dump(tree))
    return config


def call(*words: object) -> None:
    cli.command(list(map(str, words)))


@pytest.mark.slow
def test_a_forecast_needs_no_target(slice_of_quickstart, tmp_path, capsys):
    call("audit", slice_of_quickstart, "--dry-run", "--out", tmp_path / "run")
    forecast = capsys.readouterr().out
    for words in ("pool: 6", "within a factor of two", "yet: gmi train-target "):
        assert words in forecast
    assert not (tmp_path / "run").exists()


def test_train_audit_and_report(slice_of_quickstart, tmp_path, capsys):
    out = tmp_path / "run"
    call("train-target", slice_of_quickstart)
    assert "enrolment images" in capsys.readouterr().out
    call("audit", slice_of_quickstart, "--out", out)
    verdict, place = capsys.readouterr().out.strip().splitlines()
    assert verdict.split(".")[0] in ("Inconclusive", "Evidence of leakage", "No evidence")
    assert place == str(out / "report.html")

    report = json.loads((out / "report.json").read_text())
    Draft202012Validator(SCHEMA).validate(report)
    facts = {(row["method"], row["judge"], row["metric"]): row["estimate"] for row in report["results"]}
    assert facts["genuine", "dlib", "rank1"]["value"] > 0.9  # dlib tells these people apart
    assert ("random", "dlib", "auc") not in facts  # 0.5 by arithmetic
    assert facts["search", "lpips-alex", "lpips_min"]["value"] < facts["search", "lpips-alex", "lpips_mean"]["value"]
    assert {"probe", "target", "dlib", "lpips-alex"} <= {judge for _, judge, _ in facts}
    assert (
        report["cost"]["queries"]["search"] == PEOPLE * 1
    )  # the last step asks nothing; choosing asks nothing where all candidates are kept
    used = {"facenet-casia", "lpips", "dlib", "mobilefacenet"}
    assert {asset["name"] for asset in report["assets"]} == used
    assert facts["genuine", "mobilefacenet", "rank1"]["value"] > 0.9
    assert len(list((out / "images" / "search").glob("*.png"))) == PEOPLE
