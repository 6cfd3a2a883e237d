"""An audit of a model behind an API: what a local one finds, with authorisation only, and over a server's death."""

import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest
import torch
from reference.servers import client, serving

from gmi import toy
from gmi.audits import Hardware, carry_out, conduct
from gmi.errors import GmiError
from gmi.inversion.audit import INVERSION
from gmi.inversion.inputs import Inputs
from gmi.oracles.access import ScoresOnly
from gmi.oracles.ledger import Ledger
from gmi.search.evolution import Evolution
from gmi.targets.authorisation import Authorisation
from gmi.targets.remote import Connection

ALLOWED = Authorisation(system="toy", allowed_by="A. Owner", until=date(2999, 1, 1))


def plan_of(url: str, **settings: Any) -> Any:
    """An audit of the toy target behind an address, by its scores."""
    target = client(url, connection=Connection(batch=16, retries=0), **settings)
    search = Evolution(generations=4, population=5, radius=32**0.5)
    return replace(toy.plan(), target=target, authorisation=ALLOWED, access=ScoresOnly(), search=search)


def inputs_of(plan: Any, here: Inputs) -> Inputs:
    """The target is served; the oracle projection has a network of the auditor's."""
    return replace(here, target=plan.target.load(here.target.classes), guide=here.target)


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def here() -> Inputs:
    return toy.inputs(12, 1.0, 0)


@pytest.fixture(scope="module")
def local(here, tmp_path_factory) -> Path:
    """The audit with the target in this process."""
    folder = tmp_path_factory.mktemp("local") / "run"
    search = Evolution(generations=4, population=5, radius=32**0.5)
    conduct(
        INVERSION, replace(toy.plan(), access=ScoresOnly(), search=search), folder, Hardware(torch.device("cpu")), here
    )
    return folder


def test_a_remote_audit_finds_what_a_local_one_finds(here, local, tmp_path):
    with serving(here.target, tmp_path) as url:
        plan = plan_of(url)
        conduct(INVERSION, plan, tmp_path / "run", Hardware(torch.device("cpu")), inputs_of(plan, here))
    remote, there = report(tmp_path / "run"), report(local)
    assert remote["verdict"]["finding"] == there["verdict"]["finding"]
    for ours, theirs in zip(remote["results"], there["results"], strict=True):
        assert ours["estimate"] == pytest.approx(theirs["estimate"], abs=1e-6), ours
    assert remote["authorisation"] == {"system": "toy", "allowed_by": "A. Owner", "until": "2999-01-01"}
    assert "judges and target" in {one["name"] for one in remote["checks"]}
    opinions = 12 * 3 + 4 * 12  # of the enrolment photographs and of four methods' images: the auditor's own questions
    ledgers = [one["cost"]["ledger"] for one in (remote, there)]
    assert ledgers[0]["own_opinion"] == opinions and ledgers[0] == ledgers[1] | {
        "own_opinion": opinions,
        "images": ledgers[1]["images"] + opinions,
        "sent": ledgers[1]["sent"] + opinions,
    }


def test_an_audit_that_goes_on_is_of_the_model_with_which_it_was_begun(here, tmp_path, caplog):
    folder, cpu, data = tmp_path / "run", Hardware(torch.device("cpu")), tmp_path / "served"
    data.mkdir()
    served = deepcopy(here.target)
    with serving(served, data) as url:
        plan = replace(plan_of(url), access=ScoresOnly(repeats="asked"))
        inputs = inputs_of(plan, here)
        assert carry_out(INVERSION, plan, folder, cpu, inputs).current
        (folder / "shards" / "search" / "0003.safetensors").unlink()  # as if it had been stopped
        assert carry_out(INVERSION, plan, folder, cpu, inputs).current
        first = report(folder)["provenance"]["finished"]
        caplog.clear()
        assert carry_out(INVERSION, plan, folder, cpu, inputs).current  # though it was asked 8 images only
        assert "Nothing was computed" in caplog.text and "the model answers as it did then" in caplog.text
        steps = Ledger(folder / "ledger.sqlite").by("step")
        assert "" not in steps and steps["checks/again"].sent == 2 * steps["checks/again"].images == 16
        dates = [datetime.fromisoformat(each) for each in (first, report(folder)["provenance"]["finished"])]
        assert timedelta(0) <= dates[0] - dates[1] <= timedelta(seconds=30)
        for weights in served.module.parameters():
            weights.data += 0.1 * weights.data.std() * torch.randn_like(weights)
        with pytest.raises(GmiError, match=r"was begun: it has changed.*Choose another --out"):
            carry_out(INVERSION, plan, folder, cpu, inputs)
    caplog.clear()
    assert not carry_out(INVERSION, plan, folder, cpu, inputs).current
    assert "is not known: The model did not answer in 1 tries" in caplog.text


def test_without_authorisation_nothing_starts(here, tmp_path):
    with pytest.raises(ValueError, match="authorisation: a model behind an API"):
        replace(plan_of("http://localhost"), authorisation=None)
    plan = replace(plan_of("http://localhost"), authorisation=replace(ALLOWED, until=date(2020, 1, 1)))
    with pytest.raises(GmiError, match=r"ended on 2020-01-01: ask A\. Owner"):
        conduct(INVERSION, plan, tmp_path / "run", Hardware(torch.device("cpu")), inputs_of(plan, here))
    assert not (tmp_path / "run").exists()


def test_a_served_target_has_no_weights_to_take(here, tmp_path):
    plan = replace(plan_of("http://localhost"), access=toy.plan().access, search=toy.plan().search)
    with pytest.raises(GmiError, match="no weights to take"):
        conduct(INVERSION, plan, tmp_path / "run", Hardware(torch.device("cpu")), inputs_of(plan, here))
    plan = plan_of("http://localhost")
    with pytest.raises(GmiError, match=r"name one in controls\.guide"):
        _ = replace(inputs_of(plan, here), guide=None).projector


SERVER = """
import sys
from gmi import toy
from gmi.serving.app import Serving, app
import uvicorn
here = toy.inputs(12, 1.0, 0)
plan = Serving(name="toy", data=toy.plan().data, target=toy.plan().target, log=sys.argv[2])
uvicorn.run(app(plan, here.target), port=int(sys.argv[1]), log_level="error")
"""


@contextmanager
def process(port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Our server as a process of its own, which answers."""
    with subprocess.Popen([sys.executable, "-c", SERVER, str(port), str(log)]) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    httpx2.get(f"http://127.0.0.1:{port}/v2/health/ready")
                    break
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            yield server
        finally:
            server.kill()


@pytest.mark.slow
def test_a_server_that_dies_costs_nothing_that_was_answered(here, local, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plan = plan_of(f"http://127.0.0.1:{port}")
    inputs, log, cpu = inputs_of(plan, here), tmp_path / "log.sqlite", torch.device("cpu")

    def asked() -> int:
        with contextlib.closing(sqlite3.connect(log)) as file:
            return file.execute("SELECT count(*) FROM queries").fetchone()[0]

    with process(port, log) as server:
        killer = Thread(target=lambda: [time.sleep(0.01) for _ in iter(lambda: asked() > 300, True)] and server.kill())
        killer.start()
        with pytest.raises(GmiError, match="did not answer in 1 tries"):
            conduct(INVERSION, plan, tmp_path / "run", Hardware(cpu), inputs)
        killer.join()
    before = asked()
    assert before > 300
    with process(port, log):
        conduct(INVERSION, plan, tmp_path / "run", Hardware(cpu), inputs)
    ledger = report(tmp_path / "run")["cost"]["ledger"]
    assert ledger["images"] == report(local)["cost"]["ledger"]["images"] + 12 * 3 + 4 * 12
    assert ledger["sent"] - ledger["images"] <= 4 * 16  # what was on its way when the server died: four requests
    assert asked() <= ledger["sent"]
    for ours, theirs in zip(report(tmp_path / "run")["results"], report(local)["results"], strict=True):
        assert ours["estimate"] == pytest.approx(theirs["estimate"], abs=1e-6), ours
