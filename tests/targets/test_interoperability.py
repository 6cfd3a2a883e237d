"""With a server and a client that others wrote: `bash scripts/interoperability.sh`, which installs both."""

import json
import os
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch
from reference.servers import NAMES, SIDES, serving

from gmi.errors import GmiError
from gmi.oracles.access import LabelsOnly, ScoresOnly
from gmi.oracles.shape import Shape
from gmi.rng import Rng
from gmi.serving.app import ShowScores
from gmi.serving.gate import Key
from gmi.targets.open_inference import OpenInferenceTarget
from gmi.targets.remote import Connection

PYTHON = os.environ.get("GMI_INTEROPERABILITY", "")
HERE = Path(__file__).parents[1] / "interoperability"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="scripts/interoperability.sh installs what this needs"),
]


@pytest.fixture
def mlserver(tmp_path):
    """The address of an MLServer process with a linear model, and its weights."""
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    generator = np.random.default_rng(0)
    weight, bias = generator.normal(0, 0.3, (6, 256)), generator.normal(0, 1, 6)
    np.savez(tmp_path / "weights.npz", weight=weight, bias=bias)
    settings = {"debug": False, "host": "127.0.0.1", "parallel_workers": 0}
    settings |= dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    model = {"name": "toy", "implementation": "faces.Faces", "parameters": {"uri": str(tmp_path / "weights.npz")}}
    (tmp_path / "model-settings.json").write_text(json.dumps(model))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(HERE)}
    command = [str(Path(PYTHON).with_name("mlserver")), "start", str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        url = f"http://127.0.0.1:{ports[0]}"
        try:
            for _ in range(600):
                try:
                    if httpx2.get(f"{url}/v2/models/toy/ready").status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
                assert server.poll() is None
                time.sleep(0.1)
            yield url, torch.from_numpy(weight), torch.from_numpy(bias)
        finally:
            server.terminate()


def test_mlserver_is_asked_and_understood(world, mlserver):
    """It has not the binary extension, and says so by status 500."""
    url, weight, bias = mlserver
    images = world.prior.decode(Rng(range(9)).normal(8))
    bits = (images * 255).round().double() / 255
    wanted = (bits.flatten(1) @ weight.T + bias).log_softmax(1)
    plan = OpenInferenceTarget(
        url=url, model="toy", input=SIDES, tensor="images", binary=False, connection=Connection(batch=4, retries=0)
    )
    oracle = ScoresOnly().open(plan.load(NAMES), None)
    torch.testing.assert_close(oracle.scores(images).double(), wanted, rtol=1e-5, atol=1e-5)
    assert LabelsOnly().open(plan.load(NAMES), None).labels(images).equal(wanted.argmax(1))
    with pytest.raises(GmiError, match="status 500"):
        ScoresOnly().open(replace(plan, binary=True).load(NAMES), None).scores(images)


@pytest.mark.parametrize("top", [None, 3])
def test_tritonclient_asks_our_server(world, tmp_path, monkeypatch, top):
    monkeypatch.setenv("TOY_KEY", "s3cret")
    shape = Shape(top=top)
    images = (world.prior.decode(Rng(range(5)).normal(8)) * 255).round().byte()
    np.save(tmp_path / "images.npy", images.numpy())
    keys = (Key(name="a", token="TOY_KEY"),)
    with serving(world.target, tmp_path, shows=ShowScores(shape=shape), keys=keys) as url:
        address = url.removeprefix("http://")
        places = [str(tmp_path / name) for name in ("images.npy", "answers.npz")]
        subprocess.run([PYTHON, str(HERE / "ask.py"), address, *places, "s3cret"], check=True)
    answers = np.load(tmp_path / "answers.npz")
    shown = shape(world.target(images.float() / 255)).nan_to_num(-1.0).topk(top or 6, dim=1)
    for binary in (True, False):
        scores = torch.from_numpy(answers[f"scores_{binary}"]).double()
        if top is None:
            scores = scores.gather(1, shown.indices)
        else:
            assert torch.from_numpy(answers[f"classes_{binary}"]).equal(shown.indices)
        torch.testing.assert_close(scores, shown.values, rtol=1e-5, atol=1e-6)
