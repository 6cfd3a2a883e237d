"""A run in brief: figures as in the JSON, the user's words as text, and the same bytes from the same folder."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from reference.planted import est, example

from gmi.report.brief import HEADLINES, brief
from gmi.report.parts import PARTS
from gmi.report.summary import card, plain, summary


def test_summary_says_who_allowed_what_was_found_and_what_was_not_tested():
    text = summary(brief(example()))
    assert text.startswith("# Model inversion: quickstart\n")
    assert "Allowed by A. Owner, security, until 2027-01-31. System: Door 3. Data: orl. Model, or" in text
    assert "by SHA-256: 0f0f0f0f0f0f0f0f. Access: white-box. Finished 2026-01-10" in text
    assert "- **AUC**: chance that an image is more like its person than like another; 0.5 is guessing." in text
    assert "- **Advantage**: an attack's AUC less that of samples of the prior" in text
    assert "**Evidence of identity leakage.** The attack beats the control. Of 100 such people" in text
    assert "| Search | +0.32 [0.26, 0.38] | +0.37 | +12 points | +0.21 [0.13, 0.29] |" in text
    assert "| Best of N | not known (no face in 9 samples) | not known (not measured) | not known" in text
    assert "- Inference of a person's attribute (`gmi attributes`)" in text
    assert "- Copying the model" not in text  # it was made
    assert "gmi audit RUN/plan.yaml --out again" in text
    assert len(text.splitlines()) < 95  # one page, and what its words mean


def test_summary_says_what_else_was_found_and_what_to_beware_of():
    barred = {"name": "colour", "severity": "warning", "message": "The attack beats the control."}  # a reason already
    text = summary(brief(example(checks=[*example()["checks"], barred])))
    assert "Whether a photograph was trained on: evidence of leakage. The AUC of LiRA is high." in text
    assert "Read with caution:\n\n- Rule of 30: 15 false matches are few.\n\n## Figures" in text
    assert "Read with caution" not in summary(brief(example(checks=[])))
    arm = {"name": "bido", "leaks": [], "masking": ["It hides gradients."], "cost": None, "accuracy": est(0.9, 0.8, 1)}
    others = ("verdict", "related", "results", "people")
    compared = {key: value for key, value in example().items() if key not in others}
    said = brief(compared | {"kind": "comparison", "arms": [arm]})
    assert said.cautions == ("Rule of 30: 15 false matches are few.", "bido: It hides gradients.")


def test_summary_without_permission_says_so():
    assert "No authorisation is on record. Data" in summary(brief(example(authorisation=None)))


def test_card_holds_the_figures_with_their_intervals():
    text = card(brief(example()))
    found = ModelCard(text).data.eval_results
    (leak,) = [each for each in found if each.metric_type == "leak"]
    assert (leak.metric_value, leak.metric_args) == (0.32, {"low": 0.26, "high": 0.38})
    front = yaml.safe_load(text.split("---")[1])
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == "orl"
    assert front["tags"] == ["privacy-audit"] and front["model-index"][0]["name"] == "Door 3"
    assert "## Privacy audit: Model inversion: quickstart" in text and "\n### Finding" in text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<script>", r"\<script>"),
        ("[a](javascript:b)", r"[a\](javascript:b)"),
        ("a | b\n# c", r"a \| b # c"),
        ("*b* `c` \\", r"\*b\* \`c\` \\"),
        ("0.5 [0.4, 0.6]", "0.5 [0.4, 0.6]"),
        ("https://evil.example @you www.x.y", "https&#58;//evil.example &#64;you ww&#119;.x.y"),
        ("a_b _c_ ~~d~~ &lt;", r"a_b \_c\_ \~\~d\~\~ &amp;lt;"),
        ("a\x1b[31m\u202eb", r"a\\x1b[31m\\u202eb"),
    ],
)
def test_what_a_user_wrote_stays_text(text, safe):
    assert plain(text) == safe
    allowed = {"system": text, "allowed_by": text, "until": "2027-01-31"}
    page = summary(brief(example(name=text, authorisation=allowed)))
    assert page.splitlines()[0] == f"# Model inversion: {safe}" and f"System: {safe}." in page


def test_every_part_of_a_headline_has_a_title():
    assert {part for parts in HEADLINES.values() for part in parts} <= PARTS.keys()


@pytest.mark.parametrize(
    "name", ["ladder_orl", "defences_orl", "attributes_adult", "extract_orl", "watch_templates_lfw"]
)
def test_headlines_are_figures_that_runs_have(name):
    recorded = json.loads((Path(__file__).parents[2] / "results" / f"{name}.json").read_text())["rows"]
    kinds = {"ladder_orl": "ladder", "defences_orl": "comparison", "attributes_adult": "attributes"}
    kinds |= {"watch_templates_lfw": "watch"}
    for part, metrics in HEADLINES[kinds.get(name, "extraction")].items():
        for metric in metrics if part != "values" else ():  # an attribute of two values has no others
            assert any(row["part"] == part and row["metric"].split("@")[0] == metric for row in recorded), part
