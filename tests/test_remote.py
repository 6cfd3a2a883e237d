"""A model behind an API: what is asked arrives, what is answered is read, and no fault loses or doubles anything."""

import base64
import contextlib
import io
import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

from gmi import toy
from gmi.access import LabelsOnly, ScoresOnly
from gmi.audit import audit
from gmi.authorisation import Authorisation
from gmi.errors import GmiError
from gmi.inputs import Inputs
from gmi.oracles import interface
from gmi.oracles.json_endpoint import Json
from gmi.oracles.ledger import Account
from gmi.oracles.open_inference import OpenInference
from gmi.oracles.remote import Connection
from gmi.oracles.shape import Shape
from gmi.rng import Rng
from gmi.search.evolution import Evolution
from gmi.serving.app import Serving, ShowLabels, Shown, ShowScores, app
from gmi.serving.gate import Key
from gmi.target import Input, Target, TargetConfig

SIDES = Input(size=(16, 16), colour="grey")
ALLOWED = Authorisation(system="toy", allowed_by="A. Owner", until=date(2999, 1, 1))
NOWHERE = TargetConfig(factory="gmi.toy:target", input=SIDES)


@contextmanager
def serving(target: Target, folder: Path, **settings: Any) -> Iterator[str]:
    """Our server in a thread, at a port of its own: its address."""
    plan = Serving(name="toy", data=toy.plan().data, target=NOWHERE, log=str(folder / "log.sqlite"), **settings)
    server = uvicorn.Server(uvicorn.Config(app(plan, target), port=0, log_level="error"))
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def client(url: str, **settings: Any) -> OpenInference:
    given = {"output": "scores", "datatype": "UINT8"} | settings
    return OpenInference(url=url, model="toy", input=SIDES, tensor="images", **given)


@pytest.fixture
def images(world):
    return world.prior.decode(Rng(range(9)).normal(8))


NAMES = tuple(f"p{one}" for one in range(6))
SHOWS = {
    "all": (ShowScores(), ScoresOnly(), {}),
    "top 3": (
        ShowScores(shape=Shape(top=3, decimals=3)),
        ScoresOnly(shape=Shape(top=3, decimals=3)),
        {"places": "classes"},
    ),
    "labels": (ShowLabels(), LabelsOnly(), {"output": "labels", "gives": "labels"}),
    "labels of scores": (ShowScores(), LabelsOnly(), {}),
}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("name", SHOWS)
def test_a_served_target_answers_as_the_one_that_is_served(world, images, tmp_path, name, datatype, binary):
    shows, access, settings = SHOWS[name]
    local = access.open(world.target, None)
    with serving(world.target, tmp_path, shows=shows) as url:
        plan = client(url, datatype=datatype, binary=binary, connection=Connection(batch=4), **settings)
        remote = access.open(plan.load(NAMES), None)
        assert remote.labels(images).equal(local.labels(images))
        if isinstance(access, ScoresOnly):
            torch.testing.assert_close(remote.scores(images), local.scores(images), rtol=1e-4, atol=1e-4)
    assert remote.ledger.total == Account(9, 9)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_what_arrives_is_the_models_input(layout):
    arrived = []

    def answer(handler: Handler, body: bytes) -> None:
        size = int(handler.headers["Inference-Header-Content-Length"])
        arrived.append((json.loads(body[:size])["inputs"][0], np.frombuffer(body[size:], "<f4")))
        handler.say(200, {"outputs": [{"name": "o", "datatype": "FP32", "shape": [2, 3], "data": [[0, 1, 2]] * 2}]})

    images = Rng(range(2)).uniform(3, 5, 4)
    bits = (images * 255).round() / 255
    with answering(answer) as url:
        input = Input(size=(5, 4), mean=(0.5, 0.4, 0.3), std=(0.25,))
        plan = OpenInference(url=url, model="m", input=input, tensor="x", layout=layout, gives="logits")
        scores = ScoresOnly().open(plan.load(("a", "b", "c")), None).scores(images)
    torch.testing.assert_close(scores, torch.tensor([[0.0, 1.0, 2.0]] * 2).log_softmax(1))
    ((described, sent),) = arrived
    wanted = input(bits) if layout == "NCHW" else input(bits).permute(0, 2, 3, 1)
    assert described["shape"] == list(wanted.shape) and described["datatype"] == "FP32"
    torch.testing.assert_close(torch.tensor(sent).reshape(wanted.shape), wanted)


class Handler(BaseHTTPRequestHandler):
    """Answers each POST as the test says."""

    protocol_version = "HTTP/1.1"
    answer: Callable[["Handler", bytes], None]

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def say(self, status: int, content: Any, **headers: str) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(raw))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(answer: Callable[[Handler, bytes], None]) -> Iterator[str]:
    """A server of the test's own: its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"answer": answer}))
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def good(images: int) -> dict[str, Any]:
    """An answer of the protocol for the six people of the world, always the same."""
    row = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    return {"outputs": [{"name": "scores", "datatype": "FP64", "shape": [images, 6], "data": row * images}]}


def in_text(url: str, **connection: Any) -> OpenInference:
    return client(url, binary=False, connection=Connection(concurrency=1, **connection))


PASSING = {
    "429": lambda handler: handler.say(429, {}, Retry_After="7"),
    "503 until a date": lambda handler: handler.say(503, {}, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "500": lambda handler: handler.say(500, b"oh"),
    "half a body": lambda handler: handler.say(200, b'{"outp', Content_Length="1000") or handler.connection.close(),
    "no JSON": lambda handler: handler.say(200, b"<html>we will be back</html>"),
    "silence": lambda handler: Event().wait(0.5),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_asked_again_and_charged(images, tmp_path, monkeypatch, name):
    waits, failures = [], [True, True]
    monkeypatch.setattr(interface.time, "sleep", waits.append)

    def answer(handler: Handler, body: bytes) -> None:
        if failures:
            failures.pop()
            handler.close_connection = True
            PASSING[name](handler)
        else:
            handler.say(200, good(9))

    with answering(answer) as url:
        oracle = ScoresOnly().open(in_text(url, retries=2, timeout=0.3).load(NAMES), tmp_path)
        scores = oracle.scores(images)
    assert scores.argmax(1).tolist() == [0] * 9
    assert oracle.ledger.total == Account(9, 27)
    assert waits == {"429": [7.0, 7.0], "503 until a date": [0.0, 0.0]}.get(name, [0.5, 1.0])


LASTING = {
    "403": (lambda handler: handler.say(403, {"error": "no"}), "with status 403"),
    "no output of that name": (
        lambda handler: handler.say(200, {"outputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}),
        "no output 'scores'; it has x",
    ),
    "another protocol": (lambda handler: handler.say(200, {"predictions": []}), "not one of the Open Inference"),
    "another class count": (lambda handler: handler.say(200, shaped(9, 5)), "it has not the data's 6 classes"),
    "an answer too few": (lambda handler: handler.say(200, shaped(8, 6)), r"where \(9, 6\) is expected"),
    "a wrong shape": (lambda handler: handler.say(200, shaped(9, 6, 7)), "not one of the Open Inference"),
    "NaN": (lambda handler: handler.say(200, shaped(9, 6, value=float("nan"))), "with none that is finite"),
    "infinity": (lambda handler: handler.say(200, shaped(9, 6, value=float("inf"))), "with none that is finite"),
    "logits": (lambda handler: handler.say(200, shaped(9, 6, value=-3.0)), "say target.gives: logits"),
}


def shaped(rows: int, columns: int, told: int | None = None, value: float = 0.1) -> dict[str, Any]:
    shape, data = [rows, told or columns], [value] * (rows * columns)
    return {"outputs": [{"name": "scores", "datatype": "FP32", "shape": shape, "data": data}]}


@pytest.mark.parametrize("name", LASTING)
def test_an_answer_that_is_none_stops_the_run_and_is_not_kept(images, tmp_path, name):
    fault, message = LASTING[name]
    wrong = [True]

    def answer(handler: Handler, body: bytes) -> None:
        fault(handler) if wrong else handler.say(200, good(9))

    with answering(answer) as url:
        oracle = ScoresOnly().open(in_text(url).load(NAMES), tmp_path)
        with pytest.raises(GmiError, match=message):
            oracle.scores(images)
        assert oracle.ledger.total == Account(9, 9)
        wrong.clear()
        oracle = ScoresOnly().open(in_text(url).load(NAMES), tmp_path)
        assert oracle.scores(images).argmax(1).tolist() == [0] * 9
    assert oracle.ledger.total == Account(9, 18)


SIX = [[0.7, 0.1, 0.1, 0.1, 0.0, 0.0], [0.0, 0.2, 0.8, 0.0, 0.0, 0.0]]
ANSWERS = {
    "lists": ({"scores": SIX}, {"answers": "scores"}),
    "objects": (
        {"predictions": [{"scores": dict(zip(NAMES, row, strict=True))} for row in SIX]},
        {"answers": "predictions[*].scores"},
    ),
    "pairs of the best": (
        [{"top": [{"label": NAMES[place], "score": row[place]} for place in (2, 0)]} for row in SIX],
        {"answers": "[*].top[*].[label, score]"},
    ),
    "numbers of classes": (
        [[{"id": place, "p": value} for place, value in enumerate(row)] for row in SIX],
        {"answers": "[*][*].[id, p]"},
    ),
    "names of its own": (
        {"out": [{f"who-{place}": value for place, value in enumerate(row)} for row in SIX]},
        {"answers": "out", "classes": tuple(f"who-{place}" for place in range(6))},
    ),
    "labels": ({"out": ["p0", "p2"]}, {"answers": "out", "gives": "labels"}),
    "numbers of labels": ({"out": [0, 2]}, {"answers": "out", "gives": "labels"}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_json_endpoint_is_read_as_it_is_described(images, name):
    told, settings = ANSWERS[name]
    asked = []

    def answer(handler: Handler, body: bytes) -> None:
        asked.append(json.loads(body))
        handler.say(200, told)

    with answering(answer) as url:
        plan = Json(url=url, body={"images": "$images", "n": 1}, input=SIDES, encoding="pixels", **settings)
        access = LabelsOnly() if plan.gives == "labels" else ScoresOnly()
        oracle = access.open(plan.load(NAMES), None)
        assert oracle.labels(images[:2]).tolist() == [0, 2]
        if isinstance(access, ScoresOnly) and name != "pairs of the best":
            torch.testing.assert_close(oracle.scores(images[:2]).exp(), torch.tensor(SIX), atol=1e-4, rtol=1e-4)
    (body,) = asked
    assert body["n"] == 1
    assert body["images"] == (images[:2, 0] * 255).round().int().tolist()


def test_a_json_endpoint_that_takes_one_picture(images):
    arrived = []

    def answer(handler: Handler, body: bytes) -> None:
        arrived.append(Image.open(io.BytesIO(base64.b64decode(json.loads(body)["image"]["content"]))))
        handler.say(200, {"label": "p3"})

    with answering(answer) as url:
        plan = Json(
            url=url,
            body={"image": {"content": "$image"}},
            answers="label",
            gives="labels",
            input=SIDES,
            connection=Connection(batch=1, concurrency=1),
        )
        assert LabelsOnly().open(plan.load(NAMES), None).labels(images).tolist() == [3] * 9
    assert [one.size for one in arrived] == [(16, 16)] * 9
    assert np.array_equal(np.array(arrived[0]), (images[0, 0] * 255).round().byte().numpy())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"body": {"images": "none"}}, "body must hold"),
        ({"body": {"image": "$image"}}, "set connection.batch to 1"),
        ({"answers": "a["}, "no JMESPath"),
        ({"input": Input(size=(16, 16), mean=(0.5,))}, "leave them out"),
    ],
)
def test_a_json_endpoint_that_cannot_be_is_refused(settings, message):
    given = {"url": "http://localhost", "body": ["$images"], "answers": "a", "input": SIDES} | settings
    with pytest.raises(ValueError, match=message):
        Json(**given)


@pytest.mark.parametrize("told", [{"other": 1}, {"a": [1]}, {"a": [[1, 2], [["x", 0.5]]]}, {"a": ["p0", "p9"]}])
def test_a_json_answer_that_does_not_fit_says_what_to_do(images, told):
    with answering(lambda handler, body: handler.say(200, told)) as url:
        plan = Json(url=url, body=["$images"], input=SIDES, answers="a")
        with pytest.raises(GmiError, match=r"target\.(answers|classes|gives)"):
            ScoresOnly().open(plan.load(NAMES), None).scores(images[:2])


def test_a_token_is_sent_and_written_nowhere(images, tmp_path, monkeypatch):
    seen = []

    def answer(handler: Handler, body: bytes) -> None:
        seen.append((handler.headers["Authorization"], handler.headers["X-Key"]))
        handler.say(200, good(9))

    with answering(answer) as url, pytest.raises(GmiError, match="no TOY_TOKEN"):
        in_text(url, token="TOY_TOKEN").load(NAMES)
    monkeypatch.setenv("TOY_TOKEN", "s3cret")
    with answering(answer) as url:
        for header, place in ((None, tmp_path / "a"), ("X-Key", tmp_path / "b")):
            settings = {} if header is None else {"header": header}
            ScoresOnly().open(in_text(url, token="TOY_TOKEN", **settings).load(NAMES), place).scores(images)
    assert seen == [("Bearer s3cret", None), (None, "s3cret")]
    assert not any(b"s3cret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(GmiError, match="only sent over https"):
        client("http://models.example.org", connection=Connection(token="TOY_TOKEN")).load(NAMES)
    assert client("https://models.example.org", connection=Connection(token="TOY_TOKEN")).load(NAMES).gives


@pytest.mark.parametrize("url", ["models.example.org", "ftp://models.example.org", "http://"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(GmiError, match=r"target\.url"):
        client(url).load(NAMES)


def test_no_more_images_a_second_than_allowed(images):
    arrived = []

    def answer(handler: Handler, body: bytes) -> None:
        arrived.append(time.monotonic())
        handler.say(200, good(3))

    with answering(answer) as url:
        ScoresOnly().open(in_text(url, batch=3, rate=30.0).load(NAMES), None).scores(images)
    first, second, third = arrived
    assert second - first > 0.09 and third - second > 0.09  # 3 images at 30 a second


def test_who_may_ask_how_often_and_how_much(world, images, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_A", "aaa")
    monkeypatch.setenv("KEY_B", "bbb")
    keys = (Key(name="a", token="KEY_A", budget=12), Key(name="b", token="KEY_B", rate=2.0))
    pixels = {"name": "images", "shape": [9, 1, 16, 16], "datatype": "UINT8", "data": [0] * (9 * 256)}

    def ask(url: str, token: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.post(f"{url}/v2/models/toy/infer", json={"inputs": [pixels]}, headers=headers)

    with serving(world.target, tmp_path, keys=keys) as url:
        assert ask(url, "ccc").status_code == 401
        assert ask(url, "aaa").status_code == 200
        spent = ask(url, "aaa")
        assert spent.status_code == 403 and "budget of 12 images" in spent.json()["error"]
        assert ask(url, "bbb").status_code == 200
        fast = ask(url, "bbb")
        assert fast.status_code == 429 and 4 <= int(fast.headers["Retry-After"]) <= 5  # 9 images at 2 a second
    with serving(world.target, tmp_path, keys=keys) as url:  # the log remembers
        assert ask(url, "aaa").status_code == 403
    monkeypatch.delenv("KEY_A")
    with pytest.raises(GmiError, match="no KEY_A"), serving(world.target, tmp_path, keys=keys):
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"datatype": "FP16"},
        {"shape": [9, 1, 16, 15]},
        {"shape": [9, 2, 16, 8]},
        {"shape": "many"},
        {"data": None},
        {"datatype": "FP32", "data": [2.0] * (9 * 256)},
    ],
)
def test_requests_that_make_no_sense_are_answered_so(world, tmp_path, change):
    pixels = {"name": "images", "shape": [9, 1, 16, 16], "datatype": "UINT8", "data": [0] * (9 * 256)} | change
    with serving(world.target, tmp_path) as url:
        answer = httpx2.post(f"{url}/v2/models/toy/infer", json={"inputs": [pixels]})
        assert answer.status_code == 400 and answer.json()["error"]
        assert httpx2.post(f"{url}/v2/models/toy/infer", content=b"\x00").status_code == 400
        assert httpx2.post(f"{url}/v2/models/other/infer", json={}).status_code == 404
        for place in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/toy", "/v2/models/toy/ready"):
            assert httpx2.get(url + place).status_code == 200


def test_noise_is_a_function_of_the_image_and_of_a_secret(world, images):
    bits = (images * 255).round().byte()
    quiet, noisy, other = (
        Shown(world.target, ShowScores(noise=noise), secret)
        for noise, secret in ((0.0, b"s"), (0.5, b"s"), (0.5, b"t"))
    )
    first = noisy(bits)[0]["scores"]
    torch.testing.assert_close(noisy(bits.flip(0))[0]["scores"].flip(0), first)
    assert not first.equal(other(bits)[0]["scores"])
    many = (Rng(range(500)).uniform(1, 16, 16) * 255).byte()
    moved = [shown(many)[0]["scores"].double().log() for shown in (quiet, noisy)]
    apart = moved[1] - moved[0]
    spread = (apart - apart.mean(1, keepdim=True)).square().sum(1).mean() / 5  # K - 1 are free
    assert spread.sqrt().item() == pytest.approx(0.5, rel=0.05)  # 2,500 draws: 1.4 %, three and a half times


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


def figures(folder: Path) -> tuple[Any, Any, dict[str, int]]:
    """What must not depend on where the target is."""
    found = report(folder)
    return found["verdict"], found["results"], found["cost"]["queries"]


@pytest.fixture(scope="module")
def here() -> Inputs:
    return toy.inputs(12, 1.0, 0)


@pytest.fixture(scope="module")
def local(here, tmp_path_factory) -> Path:
    """The audit with the target in this process."""
    folder = tmp_path_factory.mktemp("local") / "run"
    search = Evolution(generations=4, population=5, radius=32**0.5)
    audit(replace(toy.plan(), access=ScoresOnly(), search=search), here, folder, torch.device("cpu"))
    return folder


def test_a_remote_audit_finds_what_a_local_one_finds(here, local, tmp_path):
    with serving(here.target, tmp_path) as url:
        plan = plan_of(url)
        audit(plan, inputs_of(plan, here), tmp_path / "run", torch.device("cpu"))
    remote, there = report(tmp_path / "run"), report(local)
    assert remote["verdict"]["finding"] == there["verdict"]["finding"]
    for ours, theirs in zip(remote["results"], there["results"], strict=True):
        assert ours["estimate"] == pytest.approx(theirs["estimate"], abs=1e-6), ours
    assert remote["authorisation"] == {"system": "toy", "allowed_by": "A. Owner", "until": "2999-01-01"}
    assert "judges and target" in {one["name"] for one in remote["checks"]}
    opinions = 12 * 3 + 4 * 12  # of the enrolment photographs and of four methods' images: the auditor's own questions
    assert remote["cost"]["ledger"]["sent"] - there["cost"]["ledger"]["sent"] == opinions


def test_without_authorisation_nothing_starts(here, tmp_path):
    with pytest.raises(ValueError, match="authorisation: a model behind an API"):
        replace(plan_of("http://localhost"), authorisation=None)
    plan = replace(plan_of("http://localhost"), authorisation=replace(ALLOWED, until=date(2020, 1, 1)))
    with pytest.raises(GmiError, match=r"ended on 2020-01-01: ask A\. Owner"):
        audit(plan, inputs_of(plan, here), tmp_path / "run", torch.device("cpu"))
    assert not (tmp_path / "run").exists()


def test_a_served_target_has_no_weights_to_take(here, tmp_path):
    plan = replace(plan_of("http://localhost"), access=toy.plan().access, search=toy.plan().search)
    with pytest.raises(GmiError, match="no weights to take"):
        audit(plan, inputs_of(plan, here), tmp_path / "run", torch.device("cpu"))
    plan = plan_of("http://localhost")
    with pytest.raises(GmiError, match=r"name one in controls\.guide"):
        _ = replace(inputs_of(plan, here), guide=None).projector


SERVER = """
import sys
from gmi import toy
from gmi.serving.app import Serving, app
import torch, uvicorn
torch.set_num_threads(1)
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
            audit(plan, inputs, tmp_path / "run", cpu)
        killer.join()
    before = asked()
    assert before > 300
    with process(port, log):
        audit(plan, inputs, tmp_path / "run", cpu)
    ledger = report(tmp_path / "run")["cost"]["ledger"]
    assert ledger["images"] == report(local)["cost"]["ledger"]["images"] + 12 * 3 + 4 * 12
    assert ledger["sent"] - ledger["images"] <= 4 * 16  # what was on its way when the server died: four requests
    assert asked() <= ledger["sent"]
    for ours, theirs in zip(report(tmp_path / "run")["results"], report(local)["results"], strict=True):
        assert ours["estimate"] == pytest.approx(theirs["estimate"], abs=1e-6), ours
