"""Clients that ask to do harm: bounded memory, exact budgets, no traceback, and nothing told without a key."""

import asyncio
import json
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx2
import numpy as np
import pytest
import torch
from reference.servers import serving

from gmi.errors import GmiError
from gmi.serving import app as server
from gmi.serving.gate import Gate, Key, Log, Refused
from gmi.serving.watch import Watch, Watcher
from gmi.serving.wire import HEADER, parse

PIXELS = {"name": "images", "shape": [1, 1, 16, 16], "datatype": "UINT8", "data": [0] * 256}
PLACES = (("GET", ""), ("GET", "/ready"), ("POST", "/infer"), ("POST", "/versions/1/infer"))


def binary(*shape: int) -> tuple[bytes, str]:
    """A body of one request with black images of this shape, and its header."""
    size = int(np.prod(shape))
    described = {"name": "images", "shape": shape, "datatype": "UINT8", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [described]}).encode()
    return head + bytes(size), str(len(head))


@pytest.mark.parametrize("shape", [(1, 1, 64_000_000, 1), (1, 1, 1, 4097), (1, 1, 4096, 4097), (1, 3, 4096, 4096)])
def test_an_image_that_would_hold_the_model_up_is_refused(shape):
    with pytest.raises(Refused, match="at most 4096 pixels a side") as caught:
        parse(*binary(*shape))
    assert caught.value.status == 413


def test_text_that_takes_many_times_its_size_is_refused_unread():
    with pytest.raises(Refused, match="bytes of JSON: send images in binary") as caught:
        parse(b"[" * (16 * 2**20 + 1), None)
    assert caught.value.status == 413


@pytest.mark.parametrize("header", ["", "-5", "x", "1e9", "\u0663", "9" * 5000, "999999999", " 7", "+7", "0_1"])
def test_an_odd_length_of_the_text_is_refused(header):
    with pytest.raises(Refused, match=HEADER):
        parse(*binary(1, 1, 16, 16)[:1], header)


BODIES = {
    "nothing": b"",
    "deep": b'{"inputs":' + b"[" * 100_000,
    "no images": json.dumps({"inputs": [PIXELS | {"shape": [0, 1, 16, 16], "data": []}]}).encode(),
    "negative": json.dumps({"inputs": [PIXELS | {"shape": [-1, 1, 16, 16]}]}).encode(),
    "two guesses": json.dumps({"inputs": [PIXELS | {"shape": [-1, 1, -1, 16]}]}).encode(),
    "huge": json.dumps({"inputs": [PIXELS | {"shape": [2**62, 4, 2**62, 1]}]}).encode(),
    "digits": b'{"inputs": [{"shape": [' + b"9" * 5000 + b"]}]}",
    "no number": b'{"inputs": [{"name": "images", "shape": [1, 1, 1, 1], "datatype": "FP32", "data": [NaN]}]}',
    "infinite": b'{"inputs": [{"name": "images", "shape": [1, 1, 1, 1], "datatype": "FP32", "data": [Infinity]}]}',
    "unknown type": json.dumps({"inputs": [PIXELS | {"datatype": "BYTES"}]}).encode(),
    "unknown input": json.dumps({"inputs": [PIXELS, PIXELS | {"name": "\ud800\x1b[31m"}]}).encode(),
    "unknown output": json.dumps({"inputs": [PIXELS], "outputs": [{"name": "\ud800" * 9000}]}).encode(),
    "a list": b"[]",
    "a parameter": json.dumps({"inputs": [PIXELS], "parameters": [1]}).encode(),
    "no text": b"\xff\xfe\x00",
}


def test_what_makes_no_sense_is_answered_by_one_sentence(world, tmp_path):
    with serving(world.target, tmp_path) as url:
        for name, body in BODIES.items():
            answer = httpx2.post(f"{url}/v2/models/toy/infer", content=body)
            assert answer.status_code == 400, name
            words = answer.json()["error"]
            assert len(words) <= 500 and "Traceback" not in words and str(tmp_path) not in words, name
            assert words.isprintable() and words.isascii(), name
        squeezed = httpx2.post(f"{url}/v2/models/toy/infer", content=b"", headers={"Content-Encoding": "gzip"})
        assert squeezed.status_code == 400


def test_without_a_key_nothing_is_told_of_the_model(world, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_A", "aaa")
    odd = ("", "Bearer", "Bearer aa", "Bearer aaaa", "bearer aaa", "Basic aaa", "Bearer AAA", "a" * 5000)
    with serving(world.target, tmp_path, keys=(Key(name="a", token="KEY_A"),)) as url:
        told = {
            (answer.status_code, answer.text)
            for header in odd
            for model in ("toy", "other")
            for verb, rest in PLACES
            for answer in [httpx2.request(verb, f"{url}/v2/models/{model}{rest}", headers={"Authorization": header})]
        }
        assert told == {(401, '{"error":"no valid key: send it as Authorization: Bearer"}')}
        for verb, rest in PLACES:
            answer = httpx2.request(verb, f"{url}/v2/models/other{rest}", headers={"Authorization": "Bearer aaa"})
            assert answer.status_code == 404


def test_what_makes_no_sense_counts_for_the_rate(world, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_A", "aaa")
    with serving(world.target, tmp_path, keys=(Key(name="a", token="KEY_A", rate=0.5),)) as url:
        headers = {"Authorization": "Bearer aaa"}
        answers = [httpx2.post(f"{url}/v2/models/toy/infer", content=b"x", headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [400, 429, 429]


def test_what_is_refused_for_the_budget_counts_for_the_rate(world, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_A", "aaa")
    with serving(world.target, tmp_path, keys=(Key(name="a", token="KEY_A", rate=0.5, budget=1),)) as url:
        body = json.dumps({"inputs": [PIXELS | {"shape": [2, 1, 16, 16], "data": [0] * 512}]}).encode()
        headers = {"Authorization": "Bearer aaa"}
        answers = [httpx2.post(f"{url}/v2/models/toy/infer", content=body, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [403, 429, 429]


def test_a_budget_holds_under_many_threads(world, tmp_path, monkeypatch):
    monkeypatch.setenv("KEY_A", "aaa")
    with serving(world.target, tmp_path, keys=(Key(name="a", token="KEY_A", budget=50),)) as url:
        body = json.dumps({"inputs": [PIXELS | {"shape": [3, 1, 16, 16], "data": [0] * 768}]}).encode()
        with ThreadPoolExecutor(8) as pool, httpx2.Client(headers={"Authorization": "Bearer aaa"}) as client:
            asked = [pool.submit(client.post, f"{url}/v2/models/toy/infer", content=body) for _ in range(40)]
            answers = Counter(each.result().status_code for each in asked)
    assert answers == {200: 16, 403: 24}  # 48 images, and 3 more would be too many


class Alarmed(Watcher):
    """A watcher to whom every window is a search."""

    def flags(self, unit, labels):
        return ("all",)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_no_more_images_are_answered_than_the_watch_allows(world, tmp_path, size):
    """Eight threads at once: windows of 16 overlap by half, so the second alarm comes with the 24th image."""
    watch = Watch(window=16, refuse=2)
    watcher = Alarmed(watch, torch.empty(0), torch.empty(0))
    start = Barrier(8)
    with serving(world.target, tmp_path, watcher, watch=watch) as url:
        body, header = binary(size, 1, 16, 16)

        def ask(client: httpx2.Client) -> int:
            start.wait()
            codes = [
                client.post(f"{url}/v2/models/toy/infer", content=body, headers={HEADER: header}).status_code
                for _ in range(4)
            ]
            return codes.count(200)

        with ThreadPoolExecutor(8) as pool, httpx2.Client() as client:
            answered = sum(pool.map(ask, [client] * 8))
    assert answered * size < 24 <= answered * size + size


def test_a_request_that_drips_is_given_up(world, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_PATIENCE", 0.2)

    async def drip(url: str) -> int:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v2/models/toy/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
        line = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
        return int(line.split()[1])

    with serving(world.target, tmp_path) as url:
        assert asyncio.run(drip(url)) == 408


def test_two_keys_have_two_secrets(monkeypatch):
    monkeypatch.setenv("KEY_A", "aaa")
    monkeypatch.setenv("KEY_B", "aaa")
    with pytest.raises(GmiError, match="keys: b and a have one secret"):
        Gate((Key(name="a", token="KEY_A"), Key(name="b", token="KEY_B")))


def test_two_servers_do_not_share_a_log(tmp_path):
    log = Log(tmp_path / "log.sqlite")
    with pytest.raises(GmiError, match="belongs to a server that runs"):
        Log(tmp_path / "log.sqlite")
    log.close()
    Log(tmp_path / "log.sqlite").close()
    (tmp_path / "log.sqlite").write_bytes(struct.pack("8d", *range(8)) * 100)
    with pytest.raises(GmiError, match=r"cannot be used .*restore it, or name another"):
        Log(tmp_path / "log.sqlite")
