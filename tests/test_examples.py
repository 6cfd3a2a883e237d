"""The examples: a model of one's own in a few lines of Python, and a notebook that runs from beginning to end."""

import ast
import json
import os
import runpy
import subprocess
from dataclasses import replace
from pathlib import Path

import httpx2
import nbformat
import numpy as np
import pytest
import torch
import yaml
from nbclient import NotebookClient
from PIL import Image
from reference.servers import Handler, answering
from safetensors.torch import save_file
from torchvision.models import resnet18

from gmi import toy
from gmi.oracles.access import ScoresOnly
from gmi.priors.gan import Gan
from gmi.search.gradient import Gradient
from gmi.targets.json_endpoint import JsonTarget
from gmi.views import Input

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


@pytest.mark.parametrize("refused", [401, 429])
def test_an_api_of_forms_is_asked_with_a_token_that_is_fetched_anew(tmp_path, monkeypatch, refused):
    """The first request is refused: the token has expired, or the API is busy."""
    count = "sh -c 'echo >> tokens; echo token-$(wc -l < tokens)'"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN_COMMAND", count)
    kind, arrived = runpy.run_path(str(EXAMPLES / "audit_your_api.py"))["Forms"], []

    def answer(handler: Handler, body: bytes) -> None:
        arrived.append((handler.headers["Authorization"], b'name="photo"' in body and b"PNG" in body))
        handler.say(refused if len(arrived) == 1 else 200, {"scores": [0.7, 0.2, 0.1]})

    with answering(answer) as url, httpx2.Client() as client:
        plan = JsonTarget(url=url, body={"photo": "$images"}, answers="scores", input=Input(size=(8, 8)))
        target = replace(plan.load(("a", "b", "c")), service=kind(plan, client))
        oracle = ScoresOnly().open(target, None)
        assert oracle.scores(torch.rand(1, 1, 16, 16)).exp()[0].tolist() == pytest.approx([0.7, 0.2, 0.1])
    assert arrived == [("Bearer token-1", True), (f"Bearer token-{2 if refused == 401 else 1}", True)]


def test_a_pod_takes_the_configuration_of_its_number(tmp_path):
    job = yaml.safe_load((EXAMPLES / "kubernetes/job.yaml").read_text("utf-8"))["spec"]
    container, volumes = job["template"]["spec"]["containers"][0], job["template"]["spec"]["volumes"]
    command = container["command"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in volumes}
    (tmp_path / "python").write_text('#!/usr/bin/env bash\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    runs = set()
    for number in range(job["completions"]):
        said = subprocess.check_output(command, env={"PATH": path, "JOB_COMPLETION_INDEX": str(number)}, text=True)
        audit, decided = (line.split() for line in said.splitlines())
        assert audit[:3] == ["-m", "gmi", "audit"] and audit[4:] == ["--out", decided[3]]
        assert decided == ["-m", "gmi", "report", f"/runs/{Path(audit[3]).stem}", "--policy", "policy.yaml"]
        runs.add(decided[3])
    assert len(runs) == job["completions"] == job["parallelism"]


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
