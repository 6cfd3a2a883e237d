"""Several machines, as agents of torchrun on this one: they find what one process finds, and outlive each other."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from gmi.audits import Hardware, conduct
from gmi.inversion.audit import INVERSION
from gmi.inversion.plan import Audit
from gmi.settings import read
from gmi.targets.module import ModuleTarget
from gmi.training.targets import Scratch
from gmi.training.weights import train
from scripts.survive import ROOT, timeless, world

CPU = torch.device("cpu")
# what a cluster gives: the names of a job's machines, and one task on each of them
CLUSTER = {
    "scontrol": "echo 127.0.0.1; echo 127.0.0.2",
    "srun": 'shift; "$@" & first=$!; "$@" & second=$!; wait $first || exit; wait $second',
}
STEPS = 10
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def audit(tmp_path_factory) -> Path:
    """The configuration of an audit of weights."""
    folder = tmp_path_factory.mktemp("world")
    world(folder)
    tree = yaml.safe_load((folder / "audit.yaml").read_text())
    tree |= {"access": {"type": "white-box"}, "search": {"type": "gradient", "steps": STEPS}}
    path = folder / "weights.yaml"
    path.write_text(yaml.safe_dump(tree))
    plan = read(path, Audit)
    assert isinstance(plan.target, ModuleTarget) and isinstance(plan.training, Scratch)
    train(plan.target, plan.training, plan.data.load(), CPU, overwrite=True)
    return path


@pytest.fixture(scope="module")
def alone(audit, tmp_path_factory) -> dict:
    """What one process finds."""
    page = conduct(INVERSION, read(audit, Audit), tmp_path_factory.mktemp("alone") / "run", Hardware(CPU))
    return found(page.parent)


def found(folder: Path) -> dict:
    report = timeless(json.loads((folder / "report.json").read_text()))
    del report["provenance"]["processes"]
    return report


def environment(**more: str) -> dict[str, str]:
    """Of a task of a cluster, with this environment's python first."""
    bin = os.pathsep.join([*([more.pop("first")] if "first" in more else []), str(Path(sys.executable).parent)])
    return dict(os.environ) | {"PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"} | more


def free_port() -> int:
    with socket.socket() as any_:
        any_.bind(("127.0.0.1", 0))
        return any_.getsockname()[1]


def slurm(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    script = ["bash", str(ROOT / "scripts/slurm.sh"), *words]
    return subprocess.run(script, env=environment(**more), cwd=ROOT, text=True, capture_output=True, check=False)


def test_two_machines_of_a_cluster_find_what_one_process_finds(audit, alone, tmp_path):
    (tmp_path / "bin").mkdir()
    for name, does in CLUSTER.items():
        (tmp_path / "bin" / name).write_text(f"#!/usr/bin/env bash\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "two", "PORT": str(free_port())}
    done = slurm("audit", str(audit), "--out", str(tmp_path / "run"), first=str(tmp_path / "bin"), **job)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "report.json").read_text())["provenance"]["processes"] == 2
    assert found(tmp_path / "run") == alone


def test_a_task_of_an_array_takes_the_configuration_of_its_number(tmp_path):
    (tmp_path / "python").write_text('#!/usr/bin/env bash\necho "$@"\n')
    (tmp_path / "python").chmod(0o755)
    task = {"first": str(tmp_path), "SLURM_JOB_ID": "7"}
    words = ("audit", "a.yaml", "b.yaml", "--seeds", "0", "1")
    assert slurm(*words, SLURM_ARRAY_TASK_ID="1", **task).stdout == "-m gmi audit b.yaml --seeds 0 1\n"
    for words, more in ((("audit", "a.yaml"), {"SLURM_ARRAY_TASK_ID": "1", **task}), (("audit",), task)):
        refused = slurm(*words, **more)
        assert refused.returncode == 2 and re.fullmatch(r"error: .*\n", refused.stderr)
    refused = slurm("audit", "a.yaml", SLURM_JOB_ID="")
    assert refused.returncode == 2 and "sbatch" in refused.stderr


@pytest.mark.slow
def test_what_a_dead_machine_leaves_is_done_by_a_rerun(audit, alone, tmp_path):
    run = tmp_path / "run"
    shared = {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "gmi", "audit", str(audit), "--out", str(run)],
            env=environment(RANK=str(rank), **shared),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    while not list(run.glob("shards/search/*")):
        assert workers[0].poll() is None
        time.sleep(0.01)
    workers[1].kill()
    complaints = workers[0].communicate()[1]
    workers[1].communicate()
    assert workers[0].returncode == 2 and not (run / "report.json").exists()
    (said,) = re.findall(r"error: [^\r\n]*", complaints)
    assert said.startswith("error: Another process of this run has ended") and said.endswith(
        "run the same command again."
    )
    conduct(INVERSION, read(audit, Audit), run, Hardware(CPU))
    assert found(run) == alone
