"""The command `gmi` and the names that `import gmi` offers: cheap to import, and every mistake is one sentence."""

import os
import subprocess
import sys
from argparse import Namespace
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from conftest import repeats

import gmi
from gmi import cli, toy
from gmi.cli import audits
from gmi.cli.commands import imported, meant, trainer
from gmi.errors import GmiError, Overspent, Untrained
from gmi.forecast import Forecast
from gmi.inversion.plan import Audit
from gmi.ladder.plan import Ladder
from gmi.serving.app import Serving
from gmi.settings import document, override, read, shipped

ROOT = Path(__file__).parents[1]
SHIPPED = {
    "Audit": "quickstart",
    "Ladder": "ladder_orl",
    "Watching": "ladder_orl",
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


def test_what_is_missing_is_named_with_the_command_that_brings_it():
    code = "import sys; sys.modules['sklearn'] = None; from gmi import AttributeAudit"
    assert "GmiError: This needs scikit-learn: pip install scikit-learn" in python(code).stderr
    code = "import sys; sys.modules['sklearn'] = None; from gmi.cli import command; command(['attributes', 'x'])"
    ended = python(code)
    assert ended.returncode == 2 and ended.stderr == "error: This needs scikit-learn: pip install scikit-learn.\n"


def test_an_interrupted_import_ends_in_one_sentence(tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")
    code = "from gmi.cli import command; command(['audit', 'quickstart'])"
    ended = python(code, PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert ended.returncode == 130 and ended.stderr == "stopped: run the same command again to go on\n"


MISTAKES = {
    "audti": "There is no command audti (did you mean audit?)",
    "audit": "CONFIG is missing (gmi audit --help says what it takes)",
    "audit quickstat": "(did you mean quickstart?); shipped are attributes_adult,",
    "audit no.yaml": "There is no file no.yaml: gmi init writes",
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
    "ladder quickstart": "quickstart is for gmi audit and gmi train-target, and not for gmi ladder.",
    "watch quickstart": "quickstart is for gmi audit and gmi train-target, and not for gmi watch.",
    "audit attributes_fair": "attributes_fair is for gmi attributes, and not for gmi audit.",
    "train-target ladder_orl": "ladder_orl is for gmi ladder and gmi watch, and not for gmi train-target.",
    "attributes priors/flow64": "priors/flow64 is for gmi train-prior, and not for gmi attributes.",
    "extract defences_orl": "defences_orl is for gmi compare, and not for gmi extract.",
    "train-prior extract_orl": "extract_orl is for gmi extract, and not for gmi train-prior.",
    "compare serve_orl": "serve_orl is for gmi serve, and not for gmi compare.",
    "--verson": "There is no option --verson (did you mean --version?); gmi --help lists all commands.",
    "help audti": "There is no command audti (did you mean audit?)",
    "train-target templates_orl": "there is nothing to train",
    "serve serve_orl --port http": "--port: invalid int value: 'http'",
    "serve serve_orl --private-key a.pem": "--certificate is missing: a --private-key alone makes no https.",
    "serve serve_orl --certificate a.pem": "a.pem and the key in it cannot be used (there is no such file): name two",
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
    cli.command(["help"])
    assert capsys.readouterr().out.splitlines() == lines
    cli.command(["--version"])
    assert capsys.readouterr().out == f"gmi {gmi.__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_says_what_it_takes(name, capsys):
    printed = []
    for words in ([name, "--help"], ["help", name]):
        with pytest.raises(SystemExit) as stop:
            cli.command(words)
        printed.append(capsys.readouterr().out)
        assert stop.value.code == 0 and printed[-1].startswith(f"usage: gmi {name} ")
    assert printed[0] == printed[1]


def test_the_help_of_a_command_imports_nothing_that_takes_a_while():
    code = ["import sys", "from gmi import cli", "for name in cli.COMMANDS:", " try: cli.command([name, '--help'])"]
    code.append(" except SystemExit: print('imported:', {'torch', 'numpy', 'pydantic'} & sys.modules.keys())")
    helped = python("\n".join(code))
    assert "--defence YAML" in helped.stdout and helped.stdout.count("imported: set()") == len(cli.COMMANDS)


@pytest.mark.parametrize("name", [name for name, command in cli.COMMANDS.items() if command.folder])
def test_an_option_for_the_defence_is_where_a_target_is_trained(name):
    command = cli.COMMANDS[name]
    assert command.hardens == ({"target", "training"} <= {field.name for field in fields(imported(command.plan))})


@pytest.mark.parametrize("name", [name for name, command in cli.COMMANDS.items() if command.plan])
def test_the_overrides_that_a_help_shows_change_a_shipped_configuration(name):
    config = {"train-target": "quickstart", "train-prior": "priors/flow64", "serve": "serve_orl"}.get(name)
    kind = imported(cli.COMMANDS[name].plan)
    plan = read(config or SHIPPED[kind.__name__], kind)
    for words in cli.COMMANDS[name].overrides.split(", "):
        assert override(plan, words.split()) != plan, words


@pytest.mark.parametrize("path", [name for name in shipped() if not name.startswith("bench_")])
def test_a_shipped_configuration_is_for_its_kind_alone(path):
    tree = document(path)[1]
    kinds = {imported(command.plan) for command in cli.COMMANDS.values() if command.plan}
    own = [kind for kind in kinds if not meant(tree, kind)]
    first = min(own, key=lambda kind: len(kind.__mro__))
    assert all(issubclass(kind, first) and read(path, kind) for kind in own)  # a watch's is a ladder's
    assert len({tuple(meant(tree, kind)) for kind in kinds - {*own}}) == 1


def test_a_slip_in_a_configuration_does_not_make_it_one_of_another_kind():
    tree = document("quickstart")[1]
    for wrong in ({**tree, "serach": {}}, {key: tree[key] for key in ("name", "data", "target", "training")}):
        assert not meant({key: value for key, value in wrong.items() if key != "prior"}, Audit)


@pytest.mark.parametrize("words", repeats(["--help"], slow=(["train-target", "quickstart", "--help-config"],)))
def test_a_command_whose_output_nobody_reads_ends_quietly(words):
    code = f"from gmi.cli import command; command({words})"
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert ended.returncode == 141 and ended.stderr == ""


def test_every_key_of_a_hardened_target_is_listed(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.command(["train-target", "quickstart", "--defence", "bottleneck", "--help-config"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0 and "--target.defence.beta FLOAT" in printed and "--search.steps INT" in printed


@pytest.mark.parametrize("flag", ["--dry-run", "--batch=1"])
def test_what_is_still_to_be_trained_is_named_with_the_command_that_does_it(flag):
    def load(plan, hardware):
        raise Untrained("There are no weights at model.safetensors yet")

    kind: object = SimpleNamespace(plan=Audit, load=load)
    words = ["quickstart", "--out", "mine", "--search.steps", "3", flag, "--defence", "{type: erasing}"]
    expected = (
        r"yet: gmi train-target quickstart --defence '\{type: erasing\}' --search.steps 3( --batch=1)? makes them\.$"
    )
    with pytest.raises(GmiError, match=expected):
        audits.main(kind, "audit", words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("quickstart", "2 people of data/people are too few: add a photograph of each person."),
        ("digits", "2 classes of data/people are too few: add an image of each class."),
    ],
)
def test_an_error_speaks_of_what_the_audit_is_of(config, said):
    def load(plan, hardware):
        raise GmiError("2 people of data/people are too few: add a photograph of each person.")

    kind: object = SimpleNamespace(plan=Audit, load=load)
    with pytest.raises(GmiError) as error:
        audits.main(kind, "audit", [config, "--dry-run"])  # type: ignore[arg-type]
    assert str(error.value) == said


@pytest.mark.parametrize("name", ["serve_orl", "ladder_orl"])
def test_the_configuration_that_makes_the_weights_of_another_is_named(name):
    kind = Serving if name == "serve_orl" else Ladder
    plan = read(name, kind)
    assert trainer(plan) == "quickstart"
    with (
        pytest.raises(GmiError, match=r"^None yet: gmi train-target quickstart makes them\.$"),
        cli.naming_trainer(Namespace(), plan),
    ):
        raise Untrained("None yet")
    other = override(plan, ["--data.seed" if kind is Serving else "--audit.data.seed", "5"])
    with (
        pytest.raises(GmiError, match="yet: gmi train-target makes them, from the"),
        cli.naming_trainer(Namespace(), other),
    ):
        raise Untrained("None yet")


@pytest.mark.parametrize("words", [["audit", "nowhere.yaml"], ["audit", "quickstart", "--search.steps", "-1"]])
def test_where_an_error_came_from_is_told_to_those_who_ask(words, capsys):
    texts = []
    for more in ([], ["--traceback"]):
        with pytest.raises(SystemExit) as stop:
            cli.command([*words, *more])
        assert stop.value.code == 2
        texts.append(capsys.readouterr().err)
    assert texts[0].count("\n") == 1 and texts[1].endswith(texts[0]) and texts[1].startswith("Traceback (most recent")


@pytest.mark.parametrize("error", [None, Untrained("None yet"), Overspent("Too many queries.")])
def test_a_dry_run_refuses_once_and_then_measures(error, capsys):
    done = []

    def refuse(plan, inputs):
        done.append("refuse")
        if error is not None:
            raise error

    def forecast(plan, inputs, hardware):
        done.append("forecast")
        return Forecast({}, {})

    kind: object = SimpleNamespace(plan=Audit, load=lambda plan, hardware: None, refuse=refuse, forecast=forecast)
    with pytest.raises(Overspent) if isinstance(error, Overspent) else nullcontext():
        audits.main(kind, "audit", ["quickstart", "--dry-run"])  # type: ignore[arg-type]
    printed = capsys.readouterr()
    assert done == ["refuse", "forecast"] and printed.err.startswith("Measuring how fast this machine is")
    assert "as busy as it is now, within a factor of two\n" in printed.out
    assert str(Forecast({}, {}, read="a table")).startswith("a table\n")
    assert printed.out.endswith("None yet: gmi train-target quickstart makes them.\n") == isinstance(error, Untrained)


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


def test_waiting_threads_sleep_unless_the_environment_says_otherwise():
    """Before torch is imported, which reads it."""
    code = "import sys; from gmi import cli; cli.command(['--version']); assert 'torch' not in sys.modules; import os; "
    code += "print(os.environ['OMP_WAIT_POLICY'])"
    for given, wanted in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=clean | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.split()[-1] == wanted


def test_gradients_that_vanish_in_fp16_are_refused():
    """A gradient of 1e-8 is 0 in half precision, and 1e-8 in bfloat16."""
    slope = torch.tensor(1e-8)
    assert slope.half() == 0 and float(slope.bfloat16()) == pytest.approx(1e-8, rel=0.01)
    with pytest.raises(GmiError, match="set mixed_precision to bf16 or no"):
        cli.hardware(cast("Any", SimpleNamespace(mixed_precision="fp16")))


def test_a_command_that_is_terminated_says_how_to_go_on():
    work = (
        "import os, signal, time, gmi.cli as cli; cli._dispatch = lambda _: (os.kill(os.getpid(), 15), time.sleep(9)); "
    )
    done = subprocess.run([sys.executable, "-c", f"{work}cli.command([])"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (143, "stopped: run the same command again to go on")
