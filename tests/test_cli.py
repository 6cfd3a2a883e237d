"""The command `gmi` and the names that `import gmi` offers: cheap to import, and every mistake is one sentence."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import gmi
from gmi import cli, toy
from gmi.errors import GmiError, Untrained
from gmi.inversion.plan import Audit
from gmi.settings import override, read

ROOT = Path(__file__).parents[1]
SHIPPED = {
    "Audit": "quickstart",
    "Ladder": "ladder_orl",
    "Comparison": "defences_orl",
    "AttributeAudit": "attributes_fair",
    "ExtractionAudit": "extract_orl",
}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_importing_gmi_and_its_console_imports_nothing_heavy():
    code = "import sys, gmi, gmi.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    imported = python(code).stdout.split()
    assert "gmi" in imported and not {"torch", "numpy", "pydantic", "yaml", "accelerate"} & set(imported)


def test_every_public_name_is_there():
    assert {"Audit", "Ladder", "Comparison", "AttributeAudit", "ExtractionAudit", "Hardware", "GmiError"} <= {
        *gmi.__all__
    }
    assert {*gmi.__all__} <= {*dir(gmi)}
    for name in gmi.__all__:
        assert getattr(gmi, name).__name__ == name
    assert gmi.Audit is Audit and gmi.__version__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gmi.nothing
    assert (Path(gmi.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_plan_names_its_kind_of_audit(name):
    plan = gmi.read(SHIPPED[name], getattr(gmi, name))
    assert gmi._kind(plan).plan is type(plan)


def test_an_audit_of_ones_own_objects(tmp_path):
    page = gmi.audit(toy.plan(), tmp_path / "run", toy.inputs(3, 1.0, 0))
    assert page == tmp_path / "run" / "report.html" and page.is_file()
    with pytest.raises(GmiError, match="no folder toy"):
        gmi.load(toy.plan())
    with pytest.raises(GmiError, match="A Gradient is no plan of an audit"):
        gmi.load(toy.plan().search)  # type: ignore[arg-type]


def test_what_is_missing_is_named_with_the_extra_that_brings_it():
    code = "import sys; sys.modules['sklearn'] = None; from gmi import AttributeAudit"
    assert "GmiError: This needs scikit-learn: pip install 'gmi[tabular]'" in python(code).stderr
    code = "import sys; sys.modules['sklearn'] = None; from gmi.cli import command; command(['attributes', 'x'])"
    ended = python(code)
    assert ended.returncode == 2 and ended.stderr == "error: This needs scikit-learn: pip install 'gmi[tabular]'.\n"


def test_an_interrupted_import_ends_in_one_sentence(tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")
    code = "from gmi.cli import command; command(['audit', 'quickstart'])"
    ended = python(code, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert ended.returncode == 130 and ended.stderr == "stopped: run the same command again to go on\n"


MISTAKES = {
    "audti": "There is no command audti (did you mean audit?)",
    "audit": "CONFIG is missing (gmi audit --help says what it takes)",
    "audit quickstat": "(did you mean quickstart?); shipped are attributes_adult,",
    "audit no.yaml": "There is no file no.yaml.",
    "audit --seed 1 quickstart": "CONFIG comes first: gmi audit CONFIG --seed ...",
    "audit quickstart --search.steps many": "command line: search.steps: input should be a valid integer",
    "audit quickstart --serch.steps 5": "no option nor a key --serch.steps (did you mean --search.steps?)",
    "audit quickstart --search.stpes 5": "command line: there is no key search.stpes (did you mean steps?)",
    "audit quickstart --dry-rn": "(did you mean --dry-run?)",
    "audit quickstart --out": "--out: expected one argument",
    "audit quickstart -v": "-v belongs to no key",
    "audit quickstart --defence armour": "target.defence: there is no type armour; there are ",
    "audit quickstart --defence erasin": "target.defence: there is no type erasin (did you mean erasing?)",
    "audit templates_orl --defence erasing": "--defence: only a target of type module can be hardened",
    "ladder quickstart": "quickstart.yaml: audit: field required",
    "train-target templates_orl": "there is nothing to train",
    "serve serve_orl --port http": "--port: invalid int value: 'http'",
    "assets nobody": "There is no asset 'nobody'",
    "assets --lst": "unrecognized arguments: --lst",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_on_the_command_line_is_one_sentence(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.command(line.split())
    printed = capsys.readouterr()
    assert stop.value.code == 2 and printed.out == "" and not [*tmp_path.iterdir()]
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert MISTAKES[line].removeprefix("no ") in printed.err


def test_the_help_has_a_line_for_every_command(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["gmi"])
    cli.command()
    lines = capsys.readouterr().out.splitlines()
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in cli.COMMANDS)
    assert all(len(line) <= 120 for line in lines)
    cli.command(["--version"])
    assert capsys.readouterr().out == f"gmi {gmi.__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_says_what_it_takes(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.command([name, "--help"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0 and printed.startswith(f"usage: gmi {name} ")


def test_every_key_of_a_hardened_target_is_listed(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.command(["train-target", "quickstart", "--defence", "bottleneck", "--help-config"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0 and "--target.defence.beta FLOAT" in printed and "--search.steps INT" in printed


@pytest.mark.parametrize("flag", ["--dry-run", "--seed=1"])
def test_what_is_still_to_be_trained_is_named_with_the_command_that_does_it(flag):
    def load(plan, hardware):
        raise Untrained("There are no weights at model.safetensors yet")

    kind: object = SimpleNamespace(plan=Audit, load=load)
    words = ["quickstart", "--out", "mine", "--search.steps", "3", flag, "--defence", "{type: erasing}"]
    expected = (
        r"yet: gmi train-target quickstart --defence '\{type: erasing\}' --search.steps 3( --seed=1)? makes them\.$"
    )
    with pytest.raises(GmiError, match=expected):
        cli.main(kind, "", words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--search.steps", "5", "--search", "boundary"], "there is no key search.steps"),
        (["--authorisation.until", "2025-02-30"], "cannot be read as YAML: day is out of range"),
        (["--name.first", "x"], "name holds no keys"),
    ],
)
def test_overrides_that_cannot_be(words, says):
    with pytest.raises(GmiError, match=says):
        override(read("quickstart", Audit), words)


def test_a_block_named_by_its_type_takes_keys_in_any_order():
    for words in (["--search", "boundary", "--search.points", "3"], ["--search.points", "3", "--search", "boundary"]):
        search = override(read("quickstart", Audit), words).search
        assert (search.type, getattr(search, "points", None)) == ("boundary", 3)
