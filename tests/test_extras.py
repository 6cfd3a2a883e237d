"""Without the extras every kind of audit starts but that of tables, which names the package that it lacks."""

import subprocess
import sys

import pytest

from gmi import toy
from gmi.errors import GmiError
from gmi.search.evolution import Evolution
from gmi.search.signature import refuse_misfit

EXTRAS = ("sklearn", "cryptography", "opacus", "cma", "onnxruntime", "fastapi", "uvicorn")
WITHOUT = f"import sys\nsys.modules |= dict.fromkeys({EXTRAS})\n"
"""Code after which none of them can be imported."""
NEEDING_NONE = "audit ladder compare extract watch train-target train-prior report verify purge"


def test_a_command_needs_no_extra_to_start():
    code = f"{WITHOUT}from gmi.cli.commands import COMMANDS, imported\n"
    code += f"for name in {NEEDING_NONE.split()}: imported(COMMANDS[name].work)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_table_lacks_is_named():
    code = f"{WITHOUT}from gmi.cli import command\ncommand(['attributes', 'attributes_fair'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "scikit-learn: pip install scikit-learn" in done.stderr


def test_a_search_without_its_package_is_refused_before_anything_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(GmiError, match=r"Evolution needs pycma: pip install cma"):
        refuse_misfit(Evolution(), None, toy.prior())
