"""The examples: a model of one's own in a few lines of Python, and a notebook that runs from beginning to end."""

import ast
import json
import os
import runpy
import subprocess
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml
from nbclient import NotebookClient
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet18

from gmi import toy
from gmi.priors.gan import Gan
from gmi.search.gradient import Gradient

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.slow
def test_ones_own_model_is_audited_in_a_few_lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    for place in (f"{role}/{name}/1.png" for role in ("train", "held_out") for name in "abc"):
        Path(place).parent.mkdir(parents=True)
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), np.uint8)).save(place)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(resnet18(num_classes=3).state_dict(), "model.safetensors")
    Path("prior").mkdir()
    shape = {"type": "dcgan", "latent": toy.LATENT, "channels": [16, 8], "size": toy.SIDE, "colours": 1}
    Path("prior", "config.json").write_text(json.dumps(shape))
    save_file(toy.prior().state_dict(), "prior/model.safetensors")
    example = EXAMPLES / "audit_your_model.py"
    small = {"prior": Gan(folder="prior"), "search": Gradient(steps=1), "pool": 2}
    page = runpy.run_path(str(example))["main"]("train", "held_out", "model.safetensors", "run", **small)
    assert page.name == "report.html" and "nconclusive" in page.read_text("utf-8")
    (main,) = [part for part in ast.parse(example.read_text("utf-8")).body if isinstance(part, ast.FunctionDef)]
    assert (main.end_lineno or 0) - main.body[0].lineno < 15


def test_a_pod_takes_the_configuration_of_its_number(tmp_path):
    job = yaml.safe_load((EXAMPLES / "kubernetes/job.yaml").read_text("utf-8"))["spec"]
    command = job["template"]["spec"]["containers"][0]["command"]
    (tmp_path / "python").write_text('#!/usr/bin/env bash\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    said = [
        subprocess.check_output(command, env={"PATH": path, "JOB_COMPLETION_INDEX": str(number)}, text=True).split()
        for number in range(job["completions"])
    ]
    assert all((EXAMPLES.parent / words[3]).is_file() for words in said)
    assert len({words[5] for words in said}) == job["completions"] == job["parallelism"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and not any(cell.outputs or cell.execution_count for cell in cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of Jupyter's own packages
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()) if "text" in output
    )
    assert "Evidence of " in printed and "auc         search" in printed
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
