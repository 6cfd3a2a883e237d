"""Servers that answer to do harm: nothing of the token, no control character, no memory, no traceback."""

import gzip
import json
import math
from typing import Any

import pytest
import torch
from reference.servers import NAMES, SIDES, Handler, answering, client

from gmi.errors import GmiError, visible
from gmi.oracles.access import ScoresOnly
from gmi.targets import remote
from gmi.targets.json_endpoint import JsonTarget
from gmi.targets.remote import Connection, Session

SECRET = 'to"k\\en-0123456789'
ESCAPE = "\x1b[31mred\x07"


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("TOY_TOKEN", SECRET)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def protocol(url: str) -> Any:
    return client(url, connection=Connection(token="TOY_TOKEN", retries=0, timeout=2))


def endpoint(url: str, gives: str = "probabilities") -> JsonTarget:
    return JsonTarget(
        url=url,
        body={"images": "$images"},
        answers="answers",
        encoding="pixels",
        input=SIDES,
        gives=gives,
        connection=Connection(token="TOY_TOKEN", retries=0, timeout=2),
    )


def told(target: Any, images: torch.Tensor) -> str:
    with pytest.raises(GmiError) as caught:
        ScoresOnly().open(target.load(NAMES), None).scores(images)
    assert caught.value.__cause__ is None or SECRET not in repr(caught.value.__cause__)
    return str(caught.value)


def outputs(**changes: Any) -> dict[str, Any]:
    good = {"name": "scores", "datatype": "FP32", "shape": [2, 6], "data": [[0.1] * 6] * 2}
    return {"outputs": [good | changes]}


PROTOCOL = {
    "name of the output": outputs(name=f"{SECRET} {ESCAPE}"),
    "name that is a list": outputs(name=[SECRET]),
    "datatype": outputs(datatype=f"{SECRET}{ESCAPE}"),
    "text for a class": outputs(datatype="BYTES", shape=[2, 1], data=[f"{SECRET}{ESCAPE}", "p1"]),
    "shape": outputs(shape=[SECRET, ESCAPE]),
    "shape of nothing": outputs(shape=[]),
    "numbers": outputs(data=[SECRET] * 12),
    "key": {SECRET: ESCAPE},
    "no tree": [SECRET, ESCAPE],
    "deep": json.loads("[" * 60 + "]" * 60),
}


@pytest.mark.parametrize("name", PROTOCOL)
def test_nothing_that_a_protocols_server_says_shows_the_token_or_steers_a_terminal(images, name):
    with answering(lambda handler, body: handler.say(200, PROTOCOL[name])) as url:
        message = told(protocol(url), images)
    _refuse_harm(message)


ANSWERS = {
    "pairs": {"answers": [[[f"{SECRET}{ESCAPE}", 0.5]], [["p1", 0.5]]]},
    "no pair": {"answers": [[[SECRET, ESCAPE, 1]], [["p1", 0.5]]]},
    "classes": {"answers": [{SECRET: 0.5}, {ESCAPE: 1}]},
    "lists": {"answers": [[SECRET] * 6, [ESCAPE] * 6]},
    "huge": {"answers": [[10**400] * 6] * 2},
    "nothing": {SECRET: ESCAPE},
}


@pytest.mark.parametrize("gives", ["probabilities", "labels"])
@pytest.mark.parametrize("name", ANSWERS)
def test_nothing_that_an_endpoint_says_shows_the_token_or_steers_a_terminal(images, name, gives):
    with answering(lambda handler, body: handler.say(200, ANSWERS[name])) as url:
        target = endpoint(url, gives)
        with pytest.raises(GmiError) as caught:
            service = target.load(NAMES)
            (service.labels() if gives == "labels" else service.scores())((images * 255).byte())
    _refuse_harm(str(caught.value))


def _refuse_harm(message: str) -> None:
    forms = (SECRET, repr(SECRET)[1:-1], json.dumps(SECRET)[1:-1])
    assert not any(form in message for form in forms), message
    assert "\x1b" not in message and "\x07" not in message


def test_a_header_of_many_digits_is_no_traceback(images):
    def answer(handler: Handler, body: bytes) -> None:
        handler.say(200, outputs(), Inference_Header_Content_Length="9" * 5000)

    with answering(answer) as url:
        assert ScoresOnly().open(protocol(url).load(NAMES), None).scores(images).shape == (2, 6)


def test_a_compressed_answer_is_refused_before_it_is_inflated(images):
    bomb = gzip.compress(gzip.compress(b" " * 10**7))

    def answer(handler: Handler, body: bytes) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        handler.say(200, bomb, Content_Encoding="gzip, gzip")

    with answering(answer) as url:
        assert "a compressed answer, which was not asked for" in told(protocol(url), images)


def test_an_answer_without_an_end_is_refused(images, monkeypatch):
    monkeypatch.setattr(remote, "_MOST", 10**5)
    with answering(lambda handler, body: handler.say(200, b" " * 10**6)) as url:
        assert "sends an answer of more than" in told(protocol(url), images)


def test_an_answer_that_drips_is_given_up(images, monkeypatch):
    monkeypatch.setattr(remote, "_PATIENCE", 0.0)
    with answering(lambda handler, body: handler.say(200, outputs())) as url:
        assert "took more than 0 seconds" in told(protocol(url), images)


@pytest.mark.parametrize("header", ["nan", "inf", "1e400", "Mon, 01 Jan 99999 00:00:00 GMT", "9" * 400, "x"])
def test_a_server_cannot_make_a_client_wait_for_ever(header):
    seconds = remote._after(header)
    assert seconds is None or 0 <= seconds < math.inf


def test_quotations_have_no_token(monkeypatch):
    session = Session("https://else.example", Connection(token="TOY_TOKEN"))
    assert SECRET not in session.quoted(f"Bearer {SECRET}") and "k\\\\en" not in session.quoted(json.dumps(SECRET))
    assert "***" in session.clean(f"a {SECRET} b")


def test_control_characters_are_spelt_out():
    assert visible("a\x1b[0m\u202eb\nc") == "a\\x1b[0m\\u202eb\nc"
