"""README, CONTRIBUTING and docs/: what they name exists, their examples work, and their tables are up to date."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from reference import networks
from safetensors.torch import save_file
from sklearn.tree import DecisionTreeClassifier

from gmi import toy
from gmi.assets.weights import digest
from gmi.attributes.plan import AttributeAudit
from gmi.comparison.plan import Comparison
from gmi.extraction.plan import ExtractionAudit
from gmi.gate.policy import Policy
from gmi.inversion.plan import Audit
from gmi.ladder.plan import Ladder
from gmi.rng import Rng
from gmi.search.objectives import max_margin
from gmi.settings import validate
from scripts import record_result, tables

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "gmi|configs|scripts|pipelines|tests|docs|results|priors|examples"
NAMED = re.compile(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./*-]*)")
KINDS = "audit|ladder|compare|attributes|extract|train-target|train-prior|serve|watch"
COMMAND = re.compile(rf"(?:^    (?:\S+=\S+ )?|`)gmi (?:{KINDS}) ([\w./-]+)", re.MULTILINE)
EXAMPLES = {
    "mine": Audit,
    "api": Audit,
    "door": Audit,
    "gate_defences": Comparison,
    "gate_ladder": Ladder,
    "own": AttributeAudit,
    "scans": Audit,
    "models": ExtractionAudit,
    "before every release": Policy,
}
KEYS = {"config", "about", "verdict", "command", "date", "commit", "processor", "seeds", "source", "rows"}


def blocks(language: str) -> list[tuple[Path, str]]:
    found = [(path, re.findall(rf"```{language}\n(.*?)```", path.read_text("utf-8"), re.DOTALL)) for path in PAGES]
    return [(path, text) for path, texts in found for text in texts]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_a_page_names_exists(page):
    text = page.read_text("utf-8")
    places = {name.rstrip(".") for name in NAMED.findall(text)} - {"gmi/search/climb.py", "pipelines/NAME.py"}
    missing = [name for name in places if not (any(ROOT.glob(name)) or (ROOT / "configs" / f"{name}.yaml").exists())]
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    missing += [link for link in links if link and not (page.parent / link).exists()]
    assert not missing


def test_every_command_names_a_shipped_configuration():
    pages = [page.read_text("utf-8") for page in PAGES]
    own = {f"{name}.yaml" for name in EXAMPLES} | {"audit.yaml", "plan.yaml", "CONFIG", "NAME"}
    named = {config for text in pages for config in COMMAND.findall(text)} - own
    assert named
    assert not [name for name in named if not ((ROOT / name).exists() or (ROOT / "configs" / f"{name}.yaml").exists())]


@pytest.mark.parametrize(("page", "text"), blocks("python"), ids=lambda value: getattr(value, "name", ""))
def test_python_examples_parse_and_their_imports_resolve(page, text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Photographs, a prior and a configuration in the working folder, as `docs/own-model.md` has them."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    for place in (f"{role}/{name}/1.png" for role in ("train", "held_out") for name in "abc"):
        Path(place).parent.mkdir(parents=True)
        Image.fromarray(noise.integers(0, 256, (toy.SIDE, toy.SIDE), np.uint8)).save(place)
    Path("prior").mkdir()
    shape = {"type": "dcgan", "latent": toy.LATENT, "channels": [16, 8], "size": toy.SIDE, "colours": 1}
    Path("prior", "config.json").write_text(json.dumps(shape))
    save_file(toy.prior().state_dict(), "prior/model.safetensors")
    save_file(networks.fixed(3).state_dict(), "model.safetensors")
    plan = {
        "name": "mine",
        "data": {"name": "mine", "folder": "train", "enrolment": "held_out", "size": [toy.SIDE] * 2},
        "target": {
            "factory": "reference.networks:mlp",
            "arguments": {"people": 3},
            "weights": "model.safetensors",
            "input": {"size": [toy.SIDE] * 2, "colour": "grey", "mean": [0.4]},
        },
        "prior": {"type": "gan", "folder": "prior"},
        "search": {"type": "gradient", "steps": 1},
        "selection": {"pool": 4, "candidates": 1},
        "perceptual": None,
        "classifier": None,
    }
    Path("audit.yaml").write_text(yaml.safe_dump(plan))


def _examples() -> list[object]:
    """The first example of an audit; further ones run with `-m slow` only."""
    cases: list[object] = []
    for page, text in blocks("python"):
        if "audit.yaml" in text:
            cases.append(pytest.param(page, text, marks=[pytest.mark.slow] if cases else []))
    return cases


@pytest.mark.parametrize(
    ("page", "text"),
    _examples(),
    ids=lambda value: getattr(value, "name", ""),
)
def test_python_examples_of_an_audit_run(page, text, own, monkeypatch):
    network, prior = networks.mlp(3, width=8), toy.prior()
    script = ModuleType("__main__")
    vars(script).update(network=network, prior=prior)
    monkeypatch.setitem(sys.modules, "__main__", script)
    exec(compile(text, page.name, "exec"), vars(script))
    digests = json.loads(script.page.with_suffix(".json").read_text("utf-8"))["provenance"]["digests"]
    in_memory = "return network" in text
    assert (digests["target"] == digest(network.state_dict().items())) == in_memory


def test_the_table_model_of_attributes_answers_a_list_of_dictionaries(tmp_path, monkeypatch):
    (text,) = (text for path, text in blocks("python") if path.name == "attributes.md")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(text, names)
    names["joblib"].dump(DecisionTreeClassifier().fit([[20, 0], [60, 1]], ["low", "high"]), "model.joblib")
    answer = names["load"]()([{"age": 20.0, "ill": "no"}, {"age": 60.0, "ill": "yes"}])
    assert answer["low"].tolist() == [1, 0] and answer["high"].tolist() == [0, 1]


def test_whole_configurations_in_the_docs_are_valid():
    trees = [yaml.safe_load(text) for _, text in blocks("yaml")]
    whole = {tree["name"]: tree for tree in trees if "name" in tree}
    assert whole.keys() == EXAMPLES.keys()
    for name, kind in EXAMPLES.items():
        validate(whole[name], name, kind)


class Shown:
    """An oracle that gives scores of a fixed linear model."""

    queries, people = 0, 6

    def scores(self, images, classes=None):
        self.queries += len(images)
        return (images.flatten(1) @ torch.linspace(-1, 1, images[0].numel() * 6).sin().reshape(-1, 6)).log_softmax(1)


def test_the_search_of_contributing_runs_and_counts_its_queries():
    (text,) = (text for path, text in blocks("python") if path.name == "CONTRIBUTING.md" and "class Climb" in text)
    names = {"__name__": "gmi.search.climb"}
    exec(compile(text, "climb.py", "exec"), names)
    search, oracle, prior, classes = names["Climb"](steps=20), Shown(), toy.prior(8), torch.arange(6)
    latents = Rng(range(6)).normal(8)
    images = search(oracle, prior, latents, classes, Rng(range(6))).images
    assert oracle.queries == 6 * search.queries(prior)
    before, after = (max_margin(oracle.scores(some), classes) for some in (prior.decode(latents), images))
    assert (after < before).all()


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) < 1300


def test_tables_are_those_of_the_results(capsys):
    assert tables.main(["--check"]) == 0, capsys.readouterr().err


def test_every_table_is_shown():
    shown = {name for page in PAGES for _, name, _ in tables.MARK.findall(page.read_text("utf-8"))}
    assert shown == {*tables.specs(ROOT), "glossary"}


def test_a_page_that_differs_from_its_results_is_told_in_one_sentence(tmp_path, monkeypatch, capsys):
    for folder in ("results", "docs"):
        (tmp_path / folder).mkdir()
    row = {"part": "results", "method": "search", "metric": "rank1", "value": 0.48, "low": 0.3, "high": 0.62}
    write(tmp_path / "results" / "toy.json", [row | {"unit": "share"}])
    spec = {"header": ["Figure"], "lines": [["{{toy | metric=rank1}}"]], "sources": False}
    (tmp_path / "results" / "tables.yaml").write_text(yaml.safe_dump({"names": {}, "toy": spec}))
    (tmp_path / "README.md").write_text("<!-- generated: toy -->\n<!-- end -->\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.main(["--check"]) == 1
    assert capsys.readouterr().err == "README.md differs from its results: run python scripts/tables.py.\n"
    assert tables.main([]) == 0 == tables.main(["--check"])
    assert "| 48 % [30, 62] |" in (tmp_path / "README.md").read_text().replace("\u00a0", " ")
    (tmp_path / "README.md").write_text("<!-- generated: other -->\n<!-- end -->\n")
    assert tables.main(["--check"]) == 1
    assert "README.md has the table other" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*.json")), ids=lambda path: path.stem)
def test_results_have_what_they_need(path):
    result = json.loads(path.read_text("utf-8"))
    assert result.keys() == KEYS and result["rows"]
    assert result["config"] is None or (ROOT / result["config"]).exists()
    for row in result["rows"]:
        assert {"part", "metric", "value", "low", "high", "unit"} <= row.keys()
        low, value, high = (row[key] for key in ("low", "value", "high"))
        assert (low is None) == (high is None) and (value is not None or low is not None or row["failed"])
        assert low is None or value is None or low <= value <= high


def test_a_run_is_recorded_without_its_people(tmp_path):
    figure = {"value": 0.48, "low": 0.3, "high": 0.62, "n": 40, "people": 40}
    report = {
        "name": "toy",
        "authorisation": {"allowed_by": "Jane Roe"},
        "verdict": {"finding": "evidence of leakage", "because": ["Jane Roe"], "advantage": figure},
        "judges": [
            {"name": "dlib", "thresholds": [{"fmr": 0.01, "comparisons": 15600}], "undetected": {"search": 0.5}}
        ],
        "results": [{"method": "search", "judge": "dlib", "metric": "rank1", "estimate": figure, "chance": 0.025}],
        "people": [{"person": "P30", "auc": figure}],
        "related": {"membership": {"methods": [{"method": "threshold", "auc": figure, "hits": {"0.1": figure}}]}},
        "cost": {"queries": {"search": 1160}, "reconstructions": 40, "seconds": {"search": 80.0}},
        "provenance": {
            "device": "cpu",
            "started": "2026-11-26T10:00:00+00:00",
            "finished": "2026-11-26T10:04:00+00:00",
        },
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"config": {"report": {"seed": 3}}}))
    result = record_result.record(tmp_path, "quickstart")
    facts = {(row["part"], row["metric"]): (row["value"], row["unit"]) for row in result["rows"][::-1]}
    assert facts == {
        ("judges.thresholds", "comparisons"): (15600, "count"),
        ("judges", "undetected.search"): (0.5, "share"),
        ("results", "rank1"): (0.48, "share"),
        ("related.membership.methods", "auc"): (0.48, "area"),
        ("related.membership.methods", "hits@0.1"): (0.48, "share"),
        ("cost.queries", "search"): (1160, "count"),
        ("cost", "reconstructions"): (40, "count"),
        ("cost", "seconds"): (240.0, "s"),
        ("cost", "seconds.image"): (2.0, "s"),
    }
    assert [row["value"] for row in result["rows"] if row.get("method") == "chance"] == [0.025]
    assert result["seeds"] == [3] and result["command"] == "gmi audit quickstart" and result.keys() == KEYS
    assert "Jane Roe" not in json.dumps(result) and "P30" not in json.dumps(result)


def test_a_folder_without_a_report_is_told_in_one_sentence(tmp_path, capsys):
    assert record_result.main([str(tmp_path), "--config", "quickstart"]) == 1
    assert "finish the run first" in capsys.readouterr().err
    assert record_result.main([str(tmp_path), "--config", "nothing"]) == 1
    assert "There is no configs/nothing.yaml" in capsys.readouterr().err


def write(path, rows):
    record_result.write(path, {"about": "toy", "command": "toy", "date": "2026-11-26", "seeds": [0], "rows": rows})
