"""The report: a schema that lets no bare number pass, and a page that hides nothing and loads nothing."""

import json
import math
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from reference.planted import est, example, write

from gmi.errors import GmiError
from gmi.inversion import page as module
from gmi.inversion.page import render
from gmi.report.terms import effect, estimate, label, number, span

pytestmark = pytest.mark.filterwarnings("error")

SCHEMA = json.loads(Path(module.__file__).with_name("page.schema.json").read_text("utf-8"))
HOSTILE = '<script>alert("$x^2$")</script>{{ 1 }}'


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
    assert page.count("data:image/png;base64,") == 5 + 3 + 1


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
    assert "This page shows no images" in reader.text and "img" not in reader.tags
    assert "No face judge took part." in reader.text


def test_same_folder_same_bytes_and_no_global_state(tmp_path: Path, page: str) -> None:
    before = dict(matplotlib.rcParams)
    folder = write(tmp_path, example())
    assert render(folder).read_bytes() == page.encode() == render(folder).read_bytes()
    assert dict(matplotlib.rcParams) == before
    assert sorted(path.name for path in folder.glob("*report*")) == ["report.html", "report.json"]


def test_page_says_what_the_json_says_and_nothing_else(page: str) -> None:
    """Every figure on the page is one of the JSON, and every figure of the JSON's results is on the page."""

    def figures(tree: Any) -> Iterator[dict[str, Any]]:
        if isinstance(tree, dict) and {"value", "low", "high"} <= tree.keys():
            yield tree
        elif isinstance(tree, dict | list):
            for branch in tree.values() if isinstance(tree, dict) else tree:
                yield from figures(branch)

    report = example()
    shown = set(re.findall(r'<span class="estimate">.*?</span>', page))
    spoken = {
        str(estimate(figure, metric, difference))
        for figure in figures(report)
        for metric in ("match", "auc")
        for difference in (True, False)
    }
    assert len(shown) > 20 and shown <= spoken
    for row in report["results"]:
        if "failed" not in row["estimate"]:
            assert str(estimate(row["estimate"], row["metric"])) in shown, row


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
    Path(tmp_path, "images", "enrolment", "0007.png").write_bytes(b"no image")
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
