"""The report: a schema that lets no bare number pass, and a page that hides nothing and loads nothing."""

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from safetensors.numpy import save_file

from gmi.errors import GmiError
from gmi.inversion import page as module
from gmi.inversion.page import render
from gmi.report.terms import effect, estimate, label, number, span

pytestmark = pytest.mark.filterwarnings("error")

SCHEMA = json.loads(Path(module.__file__).with_name("page.schema.json").read_text("utf-8"))
HOSTILE = '<script>alert("$x^2$")</script>{{ 1 }}'


EXAMPLE = """{
"schema_version": 5, "kind": "report", "name": "quickstart", "gmi": "0.1.0",
"subject": "faces",
"attacks": {"representatives": ["weights"], "membership": ["api"], "copying": ["api"]},
"authorisation": {"system": "Door 3", "allowed_by": "A. Owner, security", "until": "2027-01-31"},
"defence": {"settings": {"type": "dp-sgd", "epsilon": 8.0}, "promise": "epsilon 8.00 for one image"},
"verdict": {"access": "white-box", "finding": "evidence of identity leakage",
    "because": ["The attack beats the control."],
    "effect": "Of 100 such people the images would lead to 50.", "judge": "dlib", "judges": {"dlib":
    "evidence of identity leakage", "facenet": "inconclusive"}, "metric": "auc", "notable": 0.1, "seeds": 1,
    "smallest_effect": 0.05, "people_needed": 42,
    "advantages": [{"attack": "search", "bound": 0.37, "matches": 0.12,
        "leak": {"value": 0.32, "low": 0.26, "high": 0.38, "n": 60, "people": 20},
        "identity": {"value": 0.21, "low": 0.13, "high": 0.29, "n": 60, "people": 20}},
        {"attack": "best_of_n", "bound": null, "matches": null, "leak": {"failed": "no face in 9 samples"},
        "identity": {"failed": "no face in 9 samples"}}],
    "optimising": {"value": 0.12, "low": 0.05, "high": 0.19, "n": 60, "people": 20},
    "worst_tenth": {"value": 0.97, "low": 0.91, "high": 1, "n": 60, "people": 20},
    "naive": {"value": 0.983, "low": 0.95, "high": 1, "n": 60, "people": 20}},
"judges": [{"name": "dlib", "undetected": {"enrolment": 0.02, "search": 0.1}, "thresholds": [
        {"fmr": 0.01, "value": -0.57, "comparisons": 15600, "false_matches": 156,
            "effective": 31.5, "rates": [0.0068, 0.0141], "trusted": true},
        {"fmr": 0.001, "value": -0.51, "comparisons": 15600, "false_matches": 15,
            "effective": 3.1, "rates": [0.0002, 0.0029], "trusted": false}]},
    {"name": "facenet", "undetected": {}, "thresholds": []}],
"results": [],
"gap": [{"judge": "dlib", "metric": "match@0.01", "headroom": {"failed": "no face in 3 projections"},
    "recovered": {"value": 0.74, "low": 0.62, "high": 0.86, "n": 60, "people": 20},
    "gap": {"value": 0.21, "low": 0.11, "high": 0.31, "n": 60, "people": 20}}],
"prior": [{"judge": "dlib", "samples": 60, "images": 200, "frechet": {"failed": "60 dimensions are too many"},
    "nearest": {"value": -0.61, "low": -0.63, "high": -0.59, "n": 20, "people": 20},
    "others": {"value": -0.57, "low": -0.59, "high": -0.55, "n": 20, "people": 20},
    "own": {"value": -0.17, "low": -0.19, "high": -0.15, "n": 20, "people": 20},
    "covered": {"value": 0.175, "low": 0.07, "high": 0.33, "n": 20, "people": 20},
    "frechet_own": {"value": 0.056, "low": 0.036, "high": 0.075, "n": 60, "people": 20}}],
"people": [{"person": "P07", "index": 7, "rank": 1, "auc": 1, "similarity": -0.4, "by_chance": 0.4,
        "matched": {"0.01": 1, "0.001": 0}},
    {"person": "P03", "index": 3, "rank": 2.5, "auc": 0.9, "similarity": null, "matched": {}, "by_chance": 0.72}],
"related": {"membership": {"notable": 0.1,
    "verdict": {"finding": "evidence of leakage", "because": ["The AUC of LiRA is high."]},
    "methods": [{"method": "LiRA",
        "auc": {"value": 0.71, "low": 0.66, "high": 0.76, "n": 400, "people": 20},
        "hits": {"0.1": {"value": 0.3, "low": 0.2, "high": 0.4, "n": 200, "people": 20},
            "0.01": {"failed": "too few"}}}]},
    "copying": {"agreement": {"value": 0.9, "low": 0.85, "high": 0.95, "n": 200, "people": 20},
        "accuracy": {"value": 0.88, "low": 0.8, "high": 0.94, "n": 200, "people": 20}, "questions": 2500,
        "target_accuracy": {"value": 0.97, "low": 0.92, "high": 0.99, "n": 200, "people": 20}},
    "templates": null},
"checks": [{"name": "rule of 30", "severity": "warning", "message": "15 false matches are few."},
    {"name": "overlap", "severity": "passed", "message": "No public image is near a private one."}],
"cost": {"queries": {"total": 4240, "search": 4000, "selection": 240}, "reconstructions": 60,
"evaluations": {"prior": 51, "prior_with_gradient": 50, "target": 50},
    "ledger": {"budget": 5000,
    "images": 4200, "sent": 4240, "shared": 240, "own_opinion": 0, "person_most": 71},
    "seconds": {"search": 120.0, "total": 200.0}},
"data": {"name": "orl", "people": 40, "attacked": 20, "training_images": 200, "enrolment_images": 200,
    "distractors": 0, "strangers": 0, "public_images": 0, "left_out": [],
    "split_seed": 0, "digest": "0123456789abcdef"},
"assets": [{"name": "orl", "licence": "BSD", "terms": "research", "credit": "AT&T", "sha256": "DIGEST"}],
"provenance": {"config_digest": "DIGEST", "digests": {"target": "DIGEST", "prior": "DIGEST", "guide": null},
    "device": "cpu", "processes": 1,
    "environment": {"python": "3.11.7", "torch": "2.14.1"},
    "started": "2026-01-10T09:12:00Z", "finished": "2026-01-10T09:15:20Z"},
"limits": ["Only one prior was tried."]
}""".replace("DIGEST", "0f" * 32)
RESULTS: list[tuple[str, str, str, tuple[float, ...] | str, float | None]] = [
    ("search", "dlib", "match@0.01", (0.67, 0.55, 0.78), 0.01),
    ("search", "dlib", "match@0.001", (0.2712, 0.1134, 0.4391), 0.001),
    ("best_of_n", "dlib", "match@0.01", (0, 0, 0.0295), 0.01),
    ("search", "dlib", "anymatch@0.01", (0.85, 0.71, 0.96), 0.0297),
    ("search", "dlib", "auc", (0.931, 0.902, 0.957), 0.5),
    ("lookalikes", "dlib", "auc_lookalikes", (0.52, 0.41, 0.63), 0.5),
    ("search", "dlib", "similarity", (-0.462, -0.4931, -0.4312), None),
    ("oracle", "facenet", "match@0.01", "no face in 3 projections", 0.01),
    ("search", "facenet", "rank1", (0.73, 0.6, 0.84), 0.025),
    ("mirror", "facenet", "sharpness", (12.5, 11.2, 13.9), None),
    ("search", "lpips-alex", "lpips_min", (0.41, 0.393, 0.428), None),
    ("search", "probe", "nearest", (1423.2, 1309.4, 1537.1), None),
    ("search", "target", "top1", (0.983, 0.95, 1), 0.025),
    ("search", "facenet", "frechet", "60 images are too few", None),
]


def est(*bounds: float) -> dict[str, Any]:
    return dict(zip(("value", "low", "high"), bounds, strict=True)) | {"n": 60, "people": 20}


def example(**changes: Any) -> dict[str, Any]:
    """A complete report.json."""
    report = json.loads(EXAMPLE) | changes
    for method, judge, metric, found, chance in RESULTS if "results" not in changes else ():
        row = {"method": method, "judge": judge, "metric": metric, "chance": chance}
        report["results"].append(row | {"estimate": {"failed": found} if isinstance(found, str) else est(*found)})
    return report


def write(folder: Path, report: dict[str, Any], images: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    Path(folder, "report.json").write_text(json.dumps(report), "utf-8")
    rng = np.random.default_rng(0)
    means = {"impostor": -0.8, "genuine": -0.4, "search": -0.5, "random": -0.75}
    samples = {f"dlib/{name}": rng.normal(mean, 0.1, 200).astype(np.float32) for name, mean in means.items()}
    samples["dlib/search"][:7] = np.nan
    save_file(samples, Path(folder, "distributions.safetensors"))
    for kind, count in (("enrolment", 7), ("shards/search", 3)) if images else ():
        Path(folder, kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16 * count), np.uint8)).save(Path(folder, kind, "0007.png"))
    return folder


class Reader(HTMLParser):
    """What a reader of the page sees, and every tag and attribute in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())  # also turns narrow spaces into plain ones

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1] != "style":
            self.words.append(data)


def show(folder: Path, report: dict[str, Any], images: bool = True) -> Reader:
    return Reader(render(write(folder, report, images)).read_text("utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render(write(tmp_path_factory.mktemp("run"), example())).read_text("utf-8")


def test_schema_accepts_the_example_and_knows_every_key() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(example())
    for name, part in SCHEMA["$defs"].items():
        if part.get("type") == "object":
            assert part["additionalProperties"] is False, name
            assert sorted(part["required"]) == sorted(part["properties"]), name


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r["results"][0]["estimate"].pop("low"),
        lambda r: r["results"][0]["estimate"].pop("people"),
        lambda r: r["results"][0]["estimate"].update(failed="and yet a number"),
        lambda r: r["results"][0].update(estimate=0.67),
        lambda r: r["results"][0].update(estimate={}),
        lambda r: r["results"][0].pop("chance"),
        lambda r: r["verdict"].update(naive=0.98),
        lambda r: r["verdict"].update(finding="safe"),
        lambda r: r["verdict"].update(because=[]),
        lambda r: r["gap"][0].update(gap={"failed": ""}),
        lambda r: r["checks"][0].update(severity="fine"),
        lambda r: r["cost"]["queries"].pop("total"),
        lambda r: r["people"][0].update(name="Alice"),
        lambda r: r.update(schema_version=1),
        lambda r: r.update(extra=1),
    ],
)
def test_schema_rejects(spoil: Callable[[dict[str, Any]], Any]) -> None:
    report = example()
    spoil(report)
    assert not Draft202012Validator(SCHEMA).is_valid(report)


def test_page_is_self_contained(page: str) -> None:
    reader = Reader(page)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(reader.tags)
    for name, value in reader.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert value and value.startswith(("#", "data:image/png;base64,"))
    assert "http://" not in page and "https://" not in page and "@import" not in page
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:href=\"|url\()#([\w-]+)", page)) <= set(ids)


def test_every_result_appears_with_its_interval(page: str) -> None:
    """Each estimate is found in the page, to within a tenth of its interval's width."""
    plain = page.replace("\u202f", "").replace("−", "-")
    cells = re.findall(r"<b>([-+]?[\d.]+)(%|points)?</b> <i>\[([-\d.]+), ([-\d.]+)\]</i>", plain)
    shown = [(value, low, high, unit) for value, unit, low, high in cells]
    report = example()
    rows = [(row["estimate"], row["metric"]) for row in report["results"] if "value" in row["estimate"]]
    rows += [(report["verdict"][name], "auc") for name in ("optimising", "worst_tenth")]
    rows += [(report["verdict"]["naive"], "top1")]
    rows += [(report["verdict"]["advantages"][0][name], "auc") for name in ("leak", "identity")]
    rows += [(report["gap"][0]["recovered"], "match"), (report["gap"][0]["gap"], "match")]
    fit = report["prior"][0]
    rows += [(fit["covered"], "match"), *((fit[name], "auc") for name in ("nearest", "others", "own", "frechet_own"))]
    related = report["related"]
    rows += [
        (related["membership"]["methods"][0]["auc"], "auc"),
        (related["membership"]["methods"][0]["hits"]["0.1"], "match"),
    ]
    rows += [(related["copying"][name], "match") for name in ("agreement", "accuracy", "target_accuracy")]
    assert (
        len(shown) == page.count('class="estimate"') == len(rows) + 3
    )  # the match rate, and what the search has, come twice
    for found, metric in rows:
        scale = 100 if re.match("match|anymatch|rank|top", metric) else 1
        wanted = [scale * found[key] for key in ("value", "low", "high")]
        near = (wanted[2] - wanted[1]) / 9
        hits = [unit for *cell, unit in shown if np.allclose(np.array(cell, float), wanted, 0, near)]
        assert any(bool(unit) == (scale == 100) for unit in hits), (found, metric)


def test_page_shows_failures_marks_and_chances(page: str) -> None:
    text = Reader(page).text
    assert text.count("failed: no face in 3 projections") == 2
    assert text.count("failed: 60 images are too few") == 1
    assert "Match rate at FMR 0.1 % †" in text and "rule of 30" in text and "Match rate at FMR 1 % †" not in text
    assert "2.97 %" in text  # the chance of any of the reconstructions
    assert "n = 193 + 7 faceless" in text
    assert "Read with it: 1 of the checks of this audit gave a reason for caution (rule of 30)" in text
    assert "mirror" in text and "sharpness" in text  # names that the glossary does not know
    assert "no face" in text and "not in the run folder" in text
    for identifier in ("NISTAML.032", "AML.T0024.001", "ML03:2023"):
        assert identifier in text
    assert page.count("data:image/png;base64,") == 5 + 3


@pytest.mark.parametrize(
    "finding", ["evidence of identity leakage", "evidence of trait leakage", "no evidence", "inconclusive"]
)
def test_verdict_never_reassures(tmp_path: Path, finding: str) -> None:
    report = example()
    report["verdict"] |= {"finding": finding, "judge": "absent", "effect": None, "optimising": None}
    report["verdict"]["advantages"][0] |= {"leak": {"failed": "one"}}
    report["verdict"] |= {"naive": {"failed": "two"}, "smallest_effect": {"failed": "three"}}
    Draft202012Validator(SCHEMA).validate(report)
    text = show(tmp_path, report, images=False).text
    assert finding.capitalize() in text and "What it does not mean" in text
    assert all(f"failed: {reason}" in text for reason in ("one", "two", "three"))
    assert not re.search(r"\b(safe|secure|anonymised|compliant)\b", text)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    report = example()
    report["name"] = report["verdict"]["effect"] = report["checks"][0]["message"] = report["limits"][0] = HOSTILE
    report["people"][0]["person"] = report["judges"][1]["name"] = report["assets"][0]["terms"] = HOSTILE
    for row in report["results"]:
        row["judge"] = HOSTILE if row["judge"] == "facenet" else row["judge"]
        row["method"] = HOSTILE if row["method"] == "mirror" else row["method"]
    report["results"][0]["method"] = "顔"
    report["results"].append(report["results"][-1] | {"judge": HOSTILE, "estimate": {"failed": HOSTILE}})
    reader = show(tmp_path, report)
    assert "script" not in reader.tags
    assert reader.text.count(HOSTILE) >= 12 and "顔" in reader.text


def test_images_off_and_little_data(tmp_path: Path) -> None:
    report = example(judges=[], results=[], gap=[], people=[], checks=[], assets=[], limits=[])
    Draft202012Validator(SCHEMA).validate(report)
    reader = show(tmp_path, report, images=False)
    assert "Images were switched off for this audit" in reader.text and "img" not in reader.tags
    assert "No face judge took part." in reader.text


def test_same_folder_same_bytes_and_no_global_state(tmp_path: Path, page: str) -> None:
    before = dict(matplotlib.rcParams)
    folder = write(tmp_path, example())
    assert render(folder).read_bytes() == page.encode() == render(folder).read_bytes()
    assert dict(matplotlib.rcParams) == before
    assert sorted(path.name for path in folder.glob("*report*")) == ["report.html", "report.json"]


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(GmiError, match=r"has no report\.json yet"):
        render(tmp_path)
    folder = write(tmp_path, example(schema_version=1))
    with pytest.raises(GmiError, match="schema version 1"):
        render(folder)
    report = example()
    report["results"][0]["estimate"]["value"] = math.nan
    with pytest.raises(GmiError, match="NaN is not a number"):
        render(write(tmp_path, report))
    write(tmp_path, example())
    Path(tmp_path, "enrolment", "0007.png").write_bytes(b"no image")
    with pytest.raises(GmiError, match=r"0007\.png is not an image"):
        render(tmp_path)
    Path(tmp_path, "distributions.safetensors").write_bytes(b"nothing")
    with pytest.raises(GmiError, match="damaged"):
        render(tmp_path)


def test_words_and_numbers() -> None:
    def plain(*args: Any, **options: Any) -> str:
        return Reader(estimate(*args, **options)).text

    assert plain(est(0.67, 0.55, 0.78), "match@0.01") == "67 % [55, 78]"
    assert plain(est(0, 0, 0.0296), "match@0.01") == "0.0 % [0.0, 3.0]"
    assert plain(est(1, 1, 1), "rank1") == "100 % [100, 100]"
    assert plain(est(0.58, 0.43, 0.72), "match@0.01", difference=True) == "+58 points [43, 72]"
    assert plain(est(-0.02, -0.09, 0.05), "auc", difference=True) == "−0.02 [−0.09, 0.05]"
    assert plain({"failed": "a < b"}) == "failed: a < b"
    assert label("match@0.001") == "Match rate at FMR 0.1\u202f%" and label("rank10") == "Rank-10"
    assert [label(name) for name in ("match", "rank", "match@x", "{k}")] == ["match", "rank", "match@x", "{k}"]
    assert label("unknown", meaning=True) == "" and "at most 10" in label("rank10", meaning=True)
    assert (span([]), span([60, 60]), span([0.01, 0.03], "match@0.01")) == ("", "60", "1\u202f% to 3\u202f%")
    assert (number(-0.001), number(-1234.5, 1)) == ("0.00", "−1\u202f234.5")
    assert (effect(0.05, "auc"), effect(0.05, "rank1")) == ("0.05", "5 points")
