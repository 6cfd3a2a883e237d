"""Spoilt configurations at random: whatever stands in a file, reading it ends in a plan or in one sentence."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_bad_input import Case

from gmi import cli
from gmi.attributes.plan import AttributeAudit
from gmi.comparison.plan import Comparison
from gmi.errors import GmiError
from gmi.extraction.plan import ExtractionAudit
from gmi.inversion.plan import Audit
from gmi.ladder.plan import Ladder
from gmi.serving.app import Serving
from gmi.settings import override, plain, read, shipped
from gmi.training.priors import PriorTraining

KINDS = {
    "defences": Comparison,
    "attributes": AttributeAudit,
    "extract": ExtractionAudit,
    "ladder": Ladder,
    "serve": Serving,
    "priors/": PriorTraining,
}
FILES = {name: path for name, path in shipped().items() if not name.startswith("bench")}
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**70,
        -0.5,
        1e400,
        float("nan"),
        3.5,
        "",
        "x",
        "\x00",
        "é" * 300,
        "asset:",
        "asset:x/y",
    ),
    *([], [1], [[1, 2]], ["a", None], {}, {"type": "x"}, {"type": None}, {1: 2}, {"type": ["gan"]}, {"a": {"b": []}}),
    *(
        "module:name",
        "torch:",
        ":",
        "os:system",
        "${HOME}",
        "../..",
        "~nobody/x",
        "1e3",
        "2020-01-01",
        "no",
        "0x1F",
        "1_000",
    ),
]
TEXTS = [
    "\t",
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a ",
    "!!python/object:os.system ",
    "|",
    ">",
    "%",
    "\ufeff",
    "\x85",
    "'",
    '"',
    "#",
]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in a tree, as its container and its key."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(pairs):
        yield tree, key
        yield from places(value)


def spoilt(text: str, rng: random.Random) -> str:
    """A configuration with a few values, keys or letters of another kind."""
    tree = copy.deepcopy(yaml.safe_load(text))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        container, key = rng.choice(list(places(tree)) or [({}, "x")])
        kind = rng.random()
        if kind < 0.6:
            container[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind < 0.75:
            del container[key]
        elif isinstance(container, dict):
            container[rng.choice(["x", "type", 3, key + "s" if isinstance(key, str) else "y"])] = container.pop(key)
        else:
            container.append(copy.deepcopy(rng.choice(VALUES)))
    written = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    if rng.random() < 0.3:
        for _ in range(rng.choice([1, 2, 5])):
            place = rng.randrange(len(written) + 1)
            written = written[:place] + rng.choice([*TEXTS, ""]) + written[place + rng.randrange(3) :]
    return written


def check(number: int, file: Path) -> bool:
    """Whether a spoilt configuration is a plan all the same; any error but a sentence is raised."""
    rng = random.Random(number)
    name = rng.choice(sorted(FILES))
    file.write_text(spoilt(FILES[name].read_text("utf-8"), rng), "utf-8", errors="surrogatepass")
    kind = next((kind for word, kind in KINDS.items() if name.startswith(word)), Audit)
    try:
        plan = read(file, kind)
        assert override(plan, []) == plan or "nan" in str(plain(plan))
    except GmiError as error:
        assert len(str(error)) < 4000 and "\n" not in str(error).strip(), (number, str(error))
        return False
    return True


@pytest.mark.parametrize("start", [0, pytest.param(150, marks=pytest.mark.slow)])
def test_whatever_stands_in_a_configuration_no_traceback_comes(start, tmp_path):
    """150 of them, and 10,000 with `-m slow`; some are plans all the same, or nothing would have been read."""
    numbers = range(start, 10_000 if start else 150)
    read_all = sum(check(number, tmp_path / "spoilt.yaml") for number in numbers)
    assert 0.02 * len(numbers) < read_all < 0.6 * len(numbers)


@pytest.mark.slow
def test_whatever_an_audit_names_no_traceback_comes(tmp_path, monkeypatch, capfd):
    """Spoilt audits whose parts are loaded, where they read: files, networks and weights of the wrong kinds."""
    monkeypatch.chdir(tmp_path)
    case = Case(tmp_path).build()
    text, outcomes = (tmp_path / "audit.yaml").read_text(), []
    for number in range(400):
        (tmp_path / "spoilt.yaml").write_text(spoilt(text, random.Random(number)), "utf-8", errors="surrogatepass")
        try:
            cli.command(["audit", "spoilt.yaml", "--dry-run"])
        except SystemExit as stop:
            outcomes.append(stop.code)
            said = capfd.readouterr().err.splitlines()
            assert stop.code == 2 and said and said[-1].startswith("error: "), (number, said)
        else:
            outcomes.append(0)
    assert case.folder == tmp_path and 0 < outcomes.count(0) < 0.6 * len(outcomes)
