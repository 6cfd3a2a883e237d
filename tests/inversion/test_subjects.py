"""The words for what an audit is about: people's for faces, classes' for objects, and the user's own words never."""

import re
from pathlib import Path

import pytest
import torch
from test_report import Reader, example, show

from gmi import checks
from gmi.inversion import page as inversion_page
from gmi.inversion.findings import LIMITS
from gmi.metrics.statistics import Estimate
from gmi.report.page import worded_label
from gmi.report.subjects import OBJECTS, reworded, sentences
from gmi.report.terms import AUDIT, KINDS, LADDER

OF_PEOPLE = re.compile(
    r"\b(people|persons?|her|hers|she|who|whom|photo\w*|faces?|sex|skin|strangers?|everybody|everyone|somebody)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    ("said", "of_objects"),
    [
        ("Of 100 such people, 5 match.", "Of 100 such classes, 5 match."),
        ("more like its person's photographs", "more like its class's images"),
        ("the people's own photos; She is hers", "the classes' own images; It is its"),
        ("what look-alikes share (sex, age, skin) is", "what look-alikes share is"),
        ("These are\npersonal data.", "These are\nconfidential."),
        ('<a href="#people">Most exposed people</a>', '<a href="#people">Most exposed classes</a>'),
        ("personnel, otherwise, person_name, --people=3", "personnel, otherwise, person_name, --people=3"),
        ("a class's people", "a class"),
        ("like somebody else; Nobody is alike", "like another class; No class is alike"),
        ("data/people/her/x.png, people.csv, runs/person", "data/people/her/x.png, people.csv, runs/person"),
        ("Inference of a person's attribute", "Inference of a person's attribute"),
        ("a photograph's person, all photographs' people", "an image's class, all images' classes"),
    ],
)
def test_words(said: str, of_objects: str) -> None:
    assert reworded(said, "faces") == said
    assert reworded(said, "objects") == of_objects


def test_what_is_said_of_objects_says_nothing_of_people() -> None:
    terms = [word for kind in (*KINDS.values(), AUDIT, LADDER) for term in kind.values() for word in term]
    flags = [
        checks.copies(0, 0),
        checks.copies(3, 9),
        checks.softened(torch.zeros(2, 3)),
        checks.unseen_weights(),
        checks.group_sizes(("a", "a", "b")),
        checks.training_stated("own", ()),
        checks.knows_its_people(Estimate(0.5, 0.4, 0.6, 10, 10)),
        checks.self_deception(Estimate(0.9, 0.8, 1.0, 10, 10), Estimate(0.2, 0.1, 0.3, 10, 10)),
    ]
    for said in [*terms, *LIMITS, *(flag.message for flag in flags), *OBJECTS.values()]:
        # judges that objects cannot have, and an attack on people alone
        if "recogniser (" in said or "attribute" in said:
            continue
        assert not OF_PEOPLE.findall(reworded(said, "objects")), said


def test_only_sentences_are_reworded() -> None:
    tree = {"people": [{"person": "a person"}], "verdict": {"because": ("her people",), "judge": "person net"}}
    turned = sentences(tree, "objects")
    assert turned == {
        "people": [{"person": "a person"}],
        "verdict": {"because": ["its classes"], "judge": "person net"},
    }
    assert sentences(tree, "faces")["verdict"]["because"] == ["her people"]
    said = {"message": "It was trained on my photos (judge), of people; failed for person net and Scan people"}
    kept = ["my photos (judge)", "person net", "people", "Scan people", ""]
    assert sentences(said, "objects", kept) == {
        "message": "It was trained on my photos (judge), of classes; failed for person net and Scan people"
    }


def test_a_judges_own_name_stays_and_known_names_are_turned() -> None:
    assert worded_label("objects", "photo matcher") == "photo matcher"
    assert (
        worded_label("objects", "genuine") == "Genuine images" and worded_label("faces", "genuine") == "Genuine photos"
    )
    assert worded_label("objects", "search", True) == "the attack under audit: the prior steered by the target"


def test_templates_have_no_words_in_what_is_compared_or_styled() -> None:
    """What the extension turns must not be a key, nor the name of a style or an anchor."""
    folder = Path(inversion_page.__file__).parents[1]
    for template in folder.rglob("*.html"):
        text = template.read_text("utf-8")
        for name, value in re.findall(r'\b(class|id|href|for|data-\w+)="([^"{]*)"', text):
            assert reworded(value, "objects") == value or "#" in value, (template, name, value)
        for compared in re.findall(r'[=!]= "([^"]*)"', text):
            assert " " not in compared or reworded(compared, "objects") == compared, (template, compared)


def test_the_page_of_objects(tmp_path) -> None:
    report = example(subject="objects", name="person photo scanner")
    report["checks"], report["verdict"]["effect"] = [], None  # sentences are turned when they are found
    page = show(tmp_path / "objects", report)
    known = page.text.replace("person photo scanner", "")
    # figures that failed, and kinds of attack that are on people alone
    for other in ("no face in 3 projections", "no face in 9 samples", "no face", "Inference of a person's attribute"):
        known = known.replace(other, "")
    assert page.text.count("person photo scanner") == 2  # the user's own words stay
    assert not OF_PEOPLE.findall(known)
    assert "no face was found" not in page.text and "20 of 40 classes attacked" in page.text


def test_the_page_of_faces_is_as_it_is_written(tmp_path) -> None:
    page: Reader = show(tmp_path / "faces", example())
    assert "20 of 40 people attacked" in page.text and "no face was found" in page.text
    ids = {value for name, value in page.attributes if name == "id"}
    assert "people" in ids
