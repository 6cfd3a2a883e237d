"""Every script in pipelines/ hands over to its command."""

import runpy
import sys
from pathlib import Path

import pytest

from gmi.cli import COMMANDS

PIPELINES = Path(__file__).parents[1] / "pipelines"
SCRIPTS = sorted(path.name for path in PIPELINES.glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_pipeline_prints_the_usage_of_its_command(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(PIPELINES / script), run_name="__main__")
    command = script.removesuffix(".py").replace("_", "-")
    assert stop.value.code == 0 and command in COMMANDS
    assert capsys.readouterr().out.startswith(f"usage: gmi {command} ")


def test_importing_a_pipeline_does_nothing():
    """As a process that is spawned does."""
    assert SCRIPTS
    for script in SCRIPTS:
        runpy.run_path(str(PIPELINES / script), run_name="imported")
