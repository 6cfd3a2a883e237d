"""Configurations: what is shipped reads and round-trips, overrides reach every depth, mistakes name their key."""

import json
import re
import shlex
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path

import pytest
import yaml

from gmi.attributes.plan import AttributeAudit
from gmi.comparison.plan import Comparison
from gmi.errors import GmiError
from gmi.extraction.plan import ExtractionAudit
from gmi.gate.policy import Policy
from gmi.inversion.plan import Audit
from gmi.ladder.plan import Ladder
from gmi.serving.app import Serving
from gmi.settings import list_keys, override, plain, read, shipped, validate
from gmi.settings.documents import parse_yaml
from scripts.bench_plan import Bench

SHIPPED = sorted(Path(__file__).parents[1].glob("configs/*.yaml"))
GRADIENT = next(path for path in SHIPPED if path.stem == "orl_cnn")  # an audit by gradients of a GAN


def changed(dotted: str, value: object) -> dict:
    """That audit's tree with one key set."""
    root = tree = yaml.safe_load(GRADIENT.read_text())
    *parents, last = (int(part) if part.isdigit() else part for part in dotted.split("."))
    for part in parents:
        tree = tree[part]
    tree[last] = value
    return root


KINDS = {
    "defences": Comparison,
    "attributes": AttributeAudit,
    "extract": ExtractionAudit,
    "ladder": Ladder,
    "serve": Serving,
    "bench": Bench,
}  # by the first word of the file's name; others are audits


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_round_trips(path):
    kind = KINDS.get(path.stem.partition("_")[0], Audit)
    plan = read(path, kind)
    recorded = json.loads(json.dumps(plain(plan), allow_nan=False))
    assert recorded == plain(plan)
    assert validate(recorded, path, kind) == plan
    assert validate(yaml.safe_load(yaml.safe_dump(recorded)), path, kind) == plan
    if kind is not Serving:
        assert plan.name == path.stem  # runs/NAME


def test_the_documented_configurations_read():
    """Blocks that are whole, or that change a part of one."""
    root = GRADIENT.parents[1]
    pages = "".join(page.read_text("utf-8") for page in (root / "README.md", *sorted(root.glob("docs/*.md"))))
    blocks = re.findall(r"```yaml\n(.*?)```", pages, re.DOTALL)
    allowed = {"system": "a", "allowed_by": "b", "until": "2030-01-01"}
    whole = yaml.safe_load(GRADIENT.read_text()) | {"training": None, "authorisation": allowed}
    assert len(blocks) >= 4
    for tree in map(yaml.safe_load, blocks):
        if "require" in tree:
            validate(tree, "policy.yaml", Policy)
            continue
        kinds = {"arms": Comparison, "rungs": Ladder, "attacks": AttributeAudit, "models": ExtractionAudit}
        kind = next((kind for key, kind in kinds.items() if key in tree), Audit)
        validate(tree if "name" in tree else whole | tree, GRADIENT, kind)


def test_a_target_that_does_not_say_its_type_is_a_module():
    assert read(GRADIENT, Audit).target.type == "module"
    with pytest.raises(
        GmiError, match=r"target: there is no type typo; there are module, open-inference, json, onnx, templates\."
    ):
        validate(changed("target.type", "typo"), GRADIENT, Audit)


def test_the_record_holds_defaults_too():
    recorded = plain(read(GRADIENT, Audit))
    assert recorded.keys() == {field.name for field in fields(Audit)}
    assert recorded["fmrs"] == [0.01, 0.001] and recorded["search"]["transforms"] == 1


@pytest.mark.parametrize(
    ("arguments", "dotted", "value"),
    [
        ("--name other", "name", "other"),
        ("--search.steps 50", "search.steps", 50),
        ("--search.views.scale 0.8 1.0", "search.views.scale", [0.8, 1.0]),
        ("--search.views.no_flip", "search.views.flip", False),
        ("--search.radius None", "search.radius", None),
        ("--search.radius 4", "search.radius", 4.0),
        ("--judges.0.workers 1", "judges.0.workers", 1),
        ("--data.attacked 3", "data.attacked", 3),
        ("--data.enrolment 3", "data.enrolment", 3),
        ("--data.enrolment others", "data.enrolment", "others"),
        ("--data.size 64 48", "data.size", [64, 48]),
        ("--target.arguments.people 7", "target.arguments.people", 7),
        ("--training.lr 0.5", "training.lr", 0.5),
        ("--fmrs 0.1", "fmrs", [0.1]),
        ("--fmrs 0.1 0.2", "fmrs", [0.1, 0.2]),
        ("--name 7", "name", "7"),
        ("--data.name=2026-01-31", "data.name", "2026-01-31"),
        ("--search.lr 1e-3", "search.lr", 1e-3),
        ("--perceptual null", "perceptual", None),
        ("--membership.shadows 8", "membership", {"shadows": 8}),
        ("--search boundary", "search", {"type": "boundary"}),
        ("--search.type boundary", "search", {"type": "boundary"}),
        ("--search.points 3 --search.type boundary", "search", {"type": "boundary", "points": 3}),
        ("--target.defence bottleneck", "target.defence", {"type": "bottleneck"}),
        ("--search '{type: boundary}'", "search", {"type": "boundary"}),
        ("--target.arguments.type x", "target.arguments.type", "x"),
    ],
)
def test_an_override_changes_its_key_and_no_other(arguments, dotted, value):
    before = read(GRADIENT, Audit)
    after = override(before, shlex.split(arguments))
    assert after != before and after == validate(changed(dotted, value), GRADIENT, Audit)


def test_no_override_changes_nothing():
    assert override(read(GRADIENT, Audit), []) == read(GRADIENT, Audit)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--search.step 50", r"there is no key search\.step \(did you mean steps\?\)"),
        ("--search.steps many", r"search\.steps: input should be a valid integer"),
        ("--search.lr -1", r"search\.lr: .* greater than"),
        ("--fmrs 2", r"fmrs\.0: .* less than 1"),
        ("--selection.keep 9", "selection: keep must not exceed candidates"),
        ("--serch.steps 5", r"there is no key serch \(did you mean search\?\)"),
        ("--search.steps", "--search.steps needs a value"),
        ("--search.no_steps", r"There is no key search\.no_steps"),
        ("--search.steps.more 1", r"search\.steps holds no keys"),
        ("--judges.2.type dlib", "2 is no place in a list of 2"),
        ("--judges.workers 1", "workers is no place in a list of 2"),
        ("--name [a", r"--name \[a cannot be read as YAML"),
        ('--data {"seed":1,"seed":2}', "--data .* line 1: the key seed is in line 1 already"),
        ("50", "50 belongs to no key"),
        ("--search unknown", "search: there is no type unknown; there are "),
        ("--search guidde", r"search: there is no type guidde \(did you mean guided\?\); there are .*gradient"),
        ("--perceptual 5", "perceptual: a block of keys is expected here"),
        ("--target.input.colour gray", r"target\.input\.colour: .*'grey as rgb' \(did you mean grey\?\)"),
    ],
)
def test_a_wrong_override_is_explained(arguments, words):
    with pytest.raises(GmiError, match=words):
        override(read(GRADIENT, Audit), arguments.split())


def test_every_key_is_listed_with_its_type_and_comment(capsys):
    list_keys(read(GRADIENT, Audit), "gmi audit quickstart")
    printed = capsys.readouterr().out
    for words in ("--search.steps INT", "gradient steps (default: 100)", "--target.input.size INT INT"):
        assert words in printed


def test_a_shipped_configuration_is_read_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped().keys() >= {"quickstart", "templates_orl", "priors/flow64"}
    assert read("orl_cnn", Audit) == read(GRADIENT, Audit)
    (tmp_path / "orl_cnn").mkdir()  # a folder is no configuration
    assert read("orl_cnn", Audit) == read(GRADIENT, Audit)
    with pytest.raises(GmiError, match=r"neither a file .* \(did you mean quickstart\?\); shipped are .*templates_orl"):
        read("quickstat", Audit)
    with pytest.raises(GmiError, match=r"^There is no file quickstart\.yaml: gmi init writes a configuration"):
        read("quickstart.yaml", Audit)


def objects(node: object) -> list:
    if isinstance(node, tuple):
        return [one for part in node for one in objects(part)]
    if not is_dataclass(node):
        return []
    return [node, *(one for field in fields(node) for one in objects(getattr(node, field.name)))]


def test_every_object_is_frozen():
    found = objects(read(GRADIENT, Audit))
    assert {type(one).__name__ for one in found} >= {
        "Audit",
        "Faces",
        "ModuleTarget",
        "Input",
        "Scratch",
        "Views",
        "Dlib",
    }
    for one in found:
        with pytest.raises(FrozenInstanceError):
            setattr(one, fields(one)[0].name, None)


@pytest.mark.parametrize(
    ("dotted", "value", "words"),
    [
        ("stpes", 1, "there is no key stpes"),
        ("search.stpes", 1, r"there is no key search\.stpes"),
        ("search.views.zoom", 1, r"there is no key search\.views\.zoom"),
        ("judges.0.worker", 1, r"there is no key judges\.0\.worker"),
        ("training.step", 1, r"there is no key training\.step"),
        ("search.steps", "many", r"search\.steps: input should be a valid integer"),
        ("search.steps", -1, r"search\.steps: .* greater than or equal to 0"),
        ("data.enrolment", 0, r"data\.enrolment: .* greater than or equal to 1"),
        ("data.size", [64], r"data\.size\.1: field required"),
        ("data.size", [0, 8], r"data\.size\.0: .* greater than or equal to 1"),
        ("judges.0.type", "oracle", r"judges\.0: there is no type oracle; there are dlib, facenet, mobilefacenet"),
        ("prior.type", "difusion", r"prior: there is no type difusion \(did you mean diffusion\?\)"),
        ("access", {"type": "score"}, r"access: there is no type score \(did you mean scores\?\)"),
        ("search", "guided", r"search: a block of keys is expected here, such as {type: guided}\."),
        ("classifier", True, r"classifier: a block of keys is expected here"),
        ("fmrs", 0.1, r"fmrs: a list is expected here"),
        ("training", {"steps": 3}, "training does not say its type"),
        ("selection.keep", 9, "selection: keep must not exceed candidates"),
        ("fmrs", [0.1, 1], r"fmrs\.1: .* less than 1"),
        ("judges", [], "judges, fmrs and seeds need one"),
        ("fmrs", [], "judges, fmrs and seeds need one"),
        ("name", None, "name: input should be a valid string"),
    ],
)
def test_a_mistake_names_its_key(dotted, value, words):
    with pytest.raises(GmiError, match=rf"^x\.yaml: {words}"):
        validate(changed(dotted, value), Path("x.yaml"), Audit)


def test_all_mistakes_are_named_at_once():
    tree = changed("search.steps", "many") | {"colour": 1}
    del tree["prior"]
    with pytest.raises(GmiError) as caught:
        validate(tree, Path("x.yaml"), Audit)
    for words in ("there is no key colour", "search.steps: ", "prior: field required"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no keys"),
        (b"- a\n- b\n", "holds no keys"),
        (b"quickstart", "holds no keys"),
        (b"name: [1, 2\ndata: 3", r"cannot be read as a configuration: line 2: expected ',' or '\]', but got ':'\.$"),
        (b"name: \xff\xfe", r"cannot be read as a configuration: it is no text in UTF-8\.$"),
        (b"name: a\ndata: {}\nname: b", r"line 3: the key name is in line 1 already: remove one of the two\.$"),
        (b"name: a\ndata:\n  seed: 1\n  seed: 1", "line 4: the key seed is in line 3 already"),
        (b"a: !!python/object/apply:os.getcwd []", "cannot be read as a configuration"),
    ],
    ids=["empty", "list", "word", "bracket", "bytes", "twice", "twice inside", "code"],
)
def test_no_configuration_at_all(tmp_path, content, words):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(GmiError, match=words):
        read(tmp_path / "x.yaml", Audit)


def test_a_key_may_be_written_anew_in_a_block_that_takes_over_another():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, x: 4}")["c"] == {"x": 4, "y": 2}


def test_two_audits_that_differ_have_different_records():
    audit = read(GRADIENT, Audit)
    assert plain(replace(audit, seeds=(1,))) != plain(audit)
