"""The client of a model behind an API: what is asked arrives, what is answered is read, no fault is kept or lost."""

import base64
import io
import json
import ssl
import time
from threading import Event
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image
from reference.servers import NAMES, SIDES, Handler, answering, client

from gmi.errors import GmiError
from gmi.inversion.strength import withheld
from gmi.oracles import interface
from gmi.oracles.access import LabelsOnly, ScoresOnly, VerificationOnly
from gmi.oracles.ledger import Account
from gmi.protocols import ComparingOracle
from gmi.rng import Rng
from gmi.search.answers import meanings
from gmi.search.selection import opinion, pool_scores, robust_scores
from gmi.targets.json_endpoint import JsonTarget
from gmi.targets.module import Input
from gmi.targets.open_inference import OpenInferenceTarget
from gmi.targets.outputs import Labels, outputs
from gmi.targets.remote import Connection
from gmi.targets.served import Requests, Served, verifier


@pytest.fixture
def images(world):
    return world.prior.decode(Rng(range(9)).normal(8))


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
        plan = OpenInferenceTarget(url=url, model="m", input=input, tensor="x", layout=layout, gives="logits")
        scores = ScoresOnly().open(plan.load(("a", "b", "c")), None).scores(images)
    torch.testing.assert_close(scores, torch.tensor([[0.0, 1.0, 2.0]] * 2).log_softmax(1))
    ((described, sent),) = arrived
    wanted = input(bits) if layout == "NCHW" else input(bits).permute(0, 2, 3, 1)
    assert described["shape"] == list(wanted.shape) and described["datatype"] == "FP32"
    torch.testing.assert_close(torch.tensor(sent).reshape(wanted.shape), wanted)


def good(images: int) -> dict[str, Any]:
    """An answer of the protocol for the six people of the world, always the same."""
    row = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    return {"outputs": [{"name": "scores", "datatype": "FP64", "shape": [images, 6], "data": row * images}]}


def in_text(url: str, **connection: Any) -> OpenInferenceTarget:
    return client(url, binary=False, connection=Connection(concurrency=1, **connection))


PASSING = {
    "429": lambda handler: handler.say(429, {}, Retry_After="7"),
    "503 until a date": lambda handler: handler.say(503, {}, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "500": lambda handler: handler.say(500, b"oh"),
    "half a body": lambda handler: handler.say(200, b'{"outp', Content_Length="1000") or handler.connection.close(),
    "no JSON": lambda handler: handler.say(200, b"<html>we will be back</html>"),
    "silence": lambda handler: Event().wait(0.5),
    "damaged compression": lambda handler: handler.say(200, b"oh", Content_Encoding="gzip"),
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
    "another class count": (lambda handler: handler.say(200, shaped(9, 5)), "5 numbers, and 6 classes are expected"),
    "an answer too few": (lambda handler: handler.say(200, shaped(8, 6)), r"where \(9, 6\) is expected"),
    "a wrong shape": (lambda handler: handler.say(200, shaped(9, 6, 7)), "not one of the Open Inference"),
    "NaN": (lambda handler: handler.say(200, shaped(9, 6, value=float("nan"))), "numbers that are not finite"),
    "one NaN": (lambda handler: handler.say(200, shaped(9, 6) | spoilt(float("nan"))), "numbers that are not finite"),
    "null": (lambda handler: handler.say(200, shaped(9, 6) | spoilt(None)), "numbers that are not finite"),
    "infinity": (lambda handler: handler.say(200, shaped(9, 6, value=float("inf"))), "numbers that are not finite"),
    "no shape": (lambda handler: handler.say(200, {"outputs": [{"name": "s", "data": [], "shape": []}]}), "not one of"),
    "a day of patience": (lambda handler: handler.say(429, {}, Retry_After="86400"), "asks us to wait 86,400 seconds"),
    "logits": (lambda handler: handler.say(200, shaped(9, 6, value=-3.0)), "say target.gives: logits"),
    "percentages": (lambda handler: handler.say(200, shaped(9, 6, value=100 / 6)), "say target.gives: percentages"),
    "moved": (
        lambda handler: handler.say(307, {}, Location="https://else.example/v2"),
        "moved to 'https://else.example",
    ),
    "another type": (
        lambda handler: handler.say(200, {"outputs": [shaped(9, 6)["outputs"][0] | {"datatype": "FP8"}]}),
        "output scores is of type FP8, which gmi does not read",
    ),
}


def shaped(rows: int, columns: int, told: int | None = None, value: float = 0.1) -> dict[str, Any]:
    shape, data = [rows, told or columns], [value] * (rows * columns)
    return {"outputs": [{"name": "scores", "datatype": "FP32", "shape": shape, "data": data}]}


def spoilt(value: float | None) -> dict[str, Any]:
    output = shaped(9, 6)["outputs"][0]
    return {"outputs": [output | {"data": [value, *output["data"][1:]], "parameters": None}]}


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


KINDS = {f"INT{size}": f"<i{size // 8}" for size in (8, 16, 32, 64)}
KINDS |= {f"UINT{size}": f"<u{size // 8}" for size in (8, 16, 32, 64)}
KINDS |= {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BF16": "<f4"}


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_number_of_the_protocol_is_read(kind, binary):
    """Numbers that each type holds exactly; BF16 is the upper half of FP32."""
    wanted = np.array([[0, 1, 1, 0], [1, 0, 0, 0]]) if kind == "BOOL" else np.array([[0, 3, 96, 2], [112, 1, 7, 5]])

    def answer(handler: Handler, body: bytes) -> None:
        output = {"name": "o", "datatype": kind, "shape": [2, 4]}
        raw = wanted.astype(KINDS[kind]).tobytes()
        if kind == "BF16":
            raw = np.frombuffer(raw, "<u2")[1::2].tobytes()
        if not binary:
            return handler.say(200, {"outputs": [output | {"data": wanted.tolist()}]})
        head = json.dumps({"outputs": [output | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
        return handler.say(200, head + raw, Inference_Header_Content_Length=str(len(head)))

    with answering(answer) as url:
        found = client(url, output="o").load(tuple("abcd")).service(torch.zeros(2, 1, 16, 16, dtype=torch.uint8))
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("classes", [None, ("who-0", "who-1", "who-2", "who-3", "who-4", "who-5")])
def test_labels_that_are_texts_are_names_of_classes(images, binary, classes):
    told = [(classes or NAMES)[place] for place in (4, 0, 5)]

    def answer(handler: Handler, body: bytes) -> None:
        output = {"name": "o", "datatype": "BYTES", "shape": [3, 1]}
        if not binary:
            return handler.say(200, {"outputs": [output | {"data": told}]})
        raw = b"".join(len(text).to_bytes(4, "little") + text.encode() for text in told)
        head = json.dumps({"outputs": [output | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
        return handler.say(200, head + raw, Inference_Header_Content_Length=str(len(head)))

    with answering(answer) as url:
        plan = client(url, output="o", gives="labels", classes=classes)
        assert LabelsOnly().open(plan.load(NAMES), None).labels(images[:3]).tolist() == [4, 0, 5]


@pytest.mark.parametrize(
    ("names", "stated", "means"),
    [
        (("a", "b", "c"), False, {"b": 1, 2: 2, "2": 2, 0.0: 0}),
        (("0", "1", "2"), False, {"1": 1, 2: 2}),  # a name and a place alike
        (("9", "7", "8"), True, {"7": 1, 9: 0, 8.0: 2}),
        (("01", "02", "10"), True, {1: 0, "10": 2, "02": 1}),
    ],
)
def test_a_number_has_one_meaning(names, stated, means):
    labels = Labels(names, stated)
    assert {label: labels.number(label) for label in means} == means


@pytest.mark.parametrize(
    ("names", "stated", "label", "words"),
    [
        (("1", "10", "2"), False, 1, "may be a name or a place: list"),
        (("1", "10", "2"), False, "0", "may be a name or a place: list"),
        (("1", "2"), True, 0, "a class 0 that the data lacks"),
        (("a", "b"), False, 2, "a class 2 that the data lacks"),
        (("a", "b"), False, "c", "a class 'c' that the data lacks"),
        (("a", "b"), False, -1, "-1 where a class should be"),
        (("a", "b"), False, True, "True where a class should be"),
        (("a", "b"), False, 0.5, "0.5 where a class should be"),
    ],
)
def test_a_number_of_two_meanings_is_refused(names, stated, label, words):
    with pytest.raises(GmiError, match=words):
        Labels(names, stated).number(label)


def test_several_outputs_of_nobody_may_have_one_name():
    order = outputs(("a", "nobody", "b", "nobody"), ("a", "b"))
    labels = Labels.of(order, None)
    assert [labels.number(name) for name in ("a", "b", 3)] == [0, 2, 3]
    with pytest.raises(GmiError, match="names x twice"):
        Labels.of(order, ("x", "y", "x", "z"))
    assert Labels.of(outputs(None, ("Jos\u00e9",)), None).number("Jose\u0301") == 0


@pytest.mark.parametrize(
    ("gives", "rows", "right"),
    [
        ("probabilities", [[93.0, 7.0]], "percentages"),
        ("probabilities", [[3.0, 2.0]], "logits"),
        ("probabilities", [[-1.0, 0.5]], "logits"),
        ("probabilities", [[90.0, float("nan")]], "percentages, or logits"),
        ("percentages", [[0.9, 0.1]], "probabilities"),
        ("percentages", [[120.0, -3.0]], "logits"),
        ("logits", [[0.9, 0.1]] * 8, "probabilities"),
        ("logits", [[93.0, 7.0]] * 8, "percentages"),
        ("logits", [[0.6, 0.4]], None),  # one row of logits may add up to anything
        ("percentages", [[93.0, 7.0]], None),
        ("percentages", [[0.4, float("nan")]], None),
        ("probabilities", [[0.4, float("nan")]], None),
    ],
)
def test_numbers_that_mean_something_else_are_told(gives, rows, right):
    served = Served(lambda images: torch.tensor(rows, dtype=torch.float64), gives, ("a", "b"), "")
    images = torch.zeros(len(rows), 1, 2, 2, dtype=torch.uint8)
    if right is None:
        assert served.scores()(images).shape == (len(rows), 2)
    else:
        with pytest.raises(GmiError, match=rf"say target\.gives: {right}\.$"):
            served.scores()(images)


def test_percentages_are_hundredths(images):
    with answering(lambda handler, body: handler.say(200, shaped(9, 6, value=100 / 6))) as url:
        scores = ScoresOnly().open(client(url, gives="percentages").load(NAMES), None).scores(images)
    torch.testing.assert_close(scores.exp(), torch.full((9, 6), 1 / 6))


def test_probabilities_in_place_of_logits_are_refused(images):
    """Their softmax would hide what they tell."""
    with (
        answering(lambda handler, body: handler.say(200, good(9))) as url,
        pytest.raises(GmiError, match=r"with probabilities already: say target\.gives: probabilities"),
    ):
        ScoresOnly().open(client(url, gives="logits").load(NAMES), None).scores(images)


def test_a_certificate_that_is_not_trusted_is_no_passing_fault(images, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        try:
            raise ssl.SSLCertVerificationError("self-signed certificate")
        except ssl.SSLError as error:
            raise httpx2.ConnectError("no connection") from error

    monkeypatch.setattr(httpx2.Client, "stream", refuse)
    oracle = ScoresOnly().open(client("https://else.example", connection=Connection(retries=9)).load(NAMES), None)
    with pytest.raises(GmiError, match=r"name a file with that of its authority in target\.connection\.ca"):
        oracle.scores(images)
    assert oracle.ledger.total.sent == 0


def test_a_server_that_is_not_there_costs_nothing(images, monkeypatch):
    monkeypatch.setattr(interface.time, "sleep", lambda _: None)
    oracle = ScoresOnly().open(client("http://127.0.0.1:9", connection=Connection(retries=2)).load(NAMES), None)
    with pytest.raises(GmiError, match=r"did not answer in 3 tries \('ConnectError"):
        oracle.scores(images)
    assert oracle.ledger.total.sent == 0


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
    "numbers as keys": ([{str(place): value for place, value in enumerate(row)} for row in SIX], {"answers": "@"}),
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
        plan = JsonTarget(url=url, body={"images": "$images", "n": 1}, input=SIDES, encoding="pixels", **settings)
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
        plan = JsonTarget(
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


@pytest.mark.parametrize("gives", ["probabilities", "similarities", "decisions"])
def test_an_endpoint_that_sees_nobody_in_an_image_is_no_failure(images, gives):
    """It answers with nobody, with null, or with a status, as where it finds no face; a decision is then no."""
    said = iter([{"top": [["p1", 0.9]], "yes": True}, {"top": [], "yes": None}, {"top": None, "yes": None}, None])
    asked = []

    def answer(handler: Handler, body: bytes) -> None:
        asked.append(json.loads(body)["photo"])
        told = next(said)
        handler.say(422, {"error": "no face"}) if told is None else handler.say(200, told)

    body = {"photo": "data:image/png;base64,$image"} | ({"who": "$claim"} if gives == "decisions" else {})
    settings = {"answers": "yes" if gives == "decisions" else "top", "gives": gives, "input": SIDES}
    one = Connection(batch=1, concurrency=1)
    with answering(answer) as url:
        plan = JsonTarget(url=url, body=body, nobody=("empty", 422), connection=one, **settings)
        if gives == "decisions":
            oracle = VerificationOnly().open(plan.load(NAMES), None)
            assert oracle.accepts(images[:4], torch.ones(4, dtype=torch.long)).tolist() == [True, False, False, False]
        else:
            oracle = ScoresOnly().open(plan.load(NAMES), None)
            shown = oracle.similarities(images[:4]) if gives == "similarities" else oracle.scores(images[:4])
            assert shown[0].nan_to_num(-1).argmax() == 1
            told = shown[1:].isnan().all() if gives == "similarities" else shown[1:].exp().allclose(torch.tensor(1 / 6))
            assert told
        assert oracle.ledger.total.sent == 4
    assert len({*asked}) == 4 and all(each.startswith("data:image/png;base64,iVBOR") for each in asked)


def test_an_answer_that_was_created_is_an_answer(images):
    with answering(lambda handler, body: handler.say(201, good(9))) as url:
        oracle = ScoresOnly().open(in_text(url).load(NAMES), None)
        assert oracle.scores(images).argmax(1).tolist() == [0] * 9


@pytest.mark.parametrize("single", [True, False])
def test_an_endpoint_says_how_alike_an_image_and_a_claimed_person_are(images, single):
    """A claim is a query. The system decides at its threshold, whether it shows the number or not; none is a no."""
    similar = {name: None if name == "p5" else 0.2 * number for number, name in enumerate(NAMES)}

    def answer(handler: Handler, body: bytes) -> None:
        who = json.loads(body)["who"]
        handler.say(200, {"alike": similar[who] if single else [similar[name] for name in who]})

    body = {"image": "$image", "who": "$claim"} if single else {"images": "$images", "who": "$claims"}
    connection = Connection(batch=1 if single else 4, concurrency=1)
    settings = {"body": body, "answers": "alike", "gives": "similarities", "input": SIDES, "nobody": ("empty",)}
    with answering(answer) as url:
        target = JsonTarget(url=url, threshold=0.6, connection=connection, **settings).load(NAMES)
        deciding, showing = (VerificationOnly(numbers=numbers).open(target, None) for numbers in (False, True))
        for oracle in (deciding, showing):
            assert oracle.accepts(images[:3], torch.tensor([2, 3, 5])).tolist() == [False, True, False]
            assert oracle.everybody(images[:2]).tolist() == [[False, False, False, True, True, False]] * 2
        told = torch.tensor([[0, 0.2, 0.4, 0.6, 0.8, torch.nan]] * 2)
        assert isinstance(showing, ComparingOracle) and not isinstance(deciding, ComparingOracle)
        torch.testing.assert_close(showing.similarities(images[:2]), told, equal_nan=True)
        assert deciding.ledger.total.images == showing.ledger.total.images == 2 * 6 + 3 - 2  # two claims came again
        low, high = next(iter(meanings(showing, [images[:2]], torch.linspace(0, 1, 9).double())))
        assert high[:, :5].equal(told[:, :5].double()) and low[:, 5].isinf().all()
        sent = showing.ledger.total.images
        of_one = robust_scores(showing, images[2:5], torch.tensor([0, 2, 4]), Rng(range(3)), views=1)
        torch.testing.assert_close(of_one, torch.tensor([0, 0.4, 0.8]))  # by the number, for one claim an image
        assert showing.ledger.total.images == sent + 3
        torch.testing.assert_close(opinion(showing, images[:2])[:, :5], told[:, :5])
        assert pool_scores(showing, images[:2]).argmax(1).tolist() == [4, 4]  # whatever the threshold is
        with pytest.raises(GmiError, match="choose access"):
            ScoresOnly().open(target, None)


@pytest.mark.parametrize("row", [torch.ones(4), torch.tensor([torch.nan]), torch.tensor([torch.inf])])
def test_what_is_no_similarity_to_a_claimed_person_is_no_answer(images, row):
    """Neither a template, of which the first number would decide, nor a number that overflowed: it is no rejection."""
    service: Any = SimpleNamespace(
        decide=lambda images, claims: row.double().repeat(len(images), 1), requests=Requests()
    )
    target = Served(service, "similarities", NAMES, "0", verifier=verifier(service, "similarities", 0.5, silent=False))
    for numbers in (False, True):
        with pytest.raises(GmiError, match=r"the output that is the similarity|say in target\.nobody"):
            VerificationOnly(numbers=numbers).open(target, None).accepts(images[:3], torch.arange(3))


def test_an_audit_by_yes_and_no_of_an_interface_that_shows_numbers_acquits_nobody():
    service: Any = SimpleNamespace(decide=None, requests=Requests())
    shows, decides = (
        Served(service, gives, NAMES, "0", verifier=verifier(service, gives, threshold, silent=False))
        for gives, threshold in (("similarities", 0.5), ("decisions", None))
    )
    blind, seeing = (VerificationOnly(numbers=numbers).open(shows, None) for numbers in (False, True))
    (flag,) = withheld(blind, shows)
    assert flag.severity == "warning" and "numbers: true" in flag.message
    assert withheld(seeing, shows) == withheld(VerificationOnly().open(decides, None), decides) == []


def test_an_endpoint_that_decides_shows_no_number(images):
    body, one = {"image": "$image", "who": "$claim"}, Connection(batch=1)
    plan = JsonTarget(url="http://a", body=body, answers="same", gives="decisions", input=SIDES, connection=one)
    with pytest.raises(GmiError, match=r"access\.numbers: the target decides and shows no number"):
        VerificationOnly(numbers=True).open(plan.load(NAMES), None)


def test_the_label_of_an_image_that_shows_nobody_favours_nobody(images):
    body = {"images": "$images"}
    with answering(lambda handler, sent: handler.say(200, [[]] * len(json.loads(sent)["images"]))) as url:
        plan = JsonTarget(url=url, body=body, answers="@", nobody=("empty",), input=SIDES)
        labels = LabelsOnly().open(plan.load(NAMES), None).labels(images)
    assert len(labels.unique()) > 1


@pytest.mark.parametrize("single", [True, False])
def test_a_json_endpoint_that_verifies_is_told_whose_image_it_is(images, single):
    asked = []

    def answer(handler: Handler, body: bytes) -> None:
        asked.append(json.loads(body)["who"])
        handler.say(200, {"same": asked[-1] == "p2" if single else [name == "p2" for name in asked[-1]]})

    body = {"image": "$image", "who": "$claim"} if single else {"images": "$images", "who": "$claims"}
    connection = Connection(batch=1 if single else 32, concurrency=1)
    with answering(answer) as url:
        plan = JsonTarget(url=url, body=body, answers="same", gives="decisions", input=SIDES, connection=connection)
        oracle = VerificationOnly().open(plan.load(NAMES), None)
        claims = torch.tensor([2, 0, 2, 5])
        assert oracle.accepts(images[:4], claims).tolist() == [True, False, True, False]
        assert oracle.ledger.total.sent == 4
        with pytest.raises(GmiError, match="choose access"):
            ScoresOnly().open(plan.load(NAMES), None)
    assert asked == (["p2", "p0", "p2", "p5"] if single else [["p2", "p0", "p2", "p5"]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gives": "decisions"}, "name where the claim goes"),
        ({"body": ["$images", "$claims"]}, "name where the claim goes"),
        ({"body": ["$images", "$claims"], "gives": "similarities"}, "threshold is the least similarity"),
        ({"gives": "similarities", "threshold": 0.5}, "threshold is the least similarity"),
        ({"body": ["$images", "$claims"], "gives": "decisions", "threshold": 0.5}, "threshold is the least similarity"),
        ({"body": {"images": "none"}}, "body must hold"),
        ({"body": {"image": "$image"}}, "set connection.batch to 1"),
        ({"answers": "a["}, "no JMESPath"),
        ({"gives": "labels", "nobody": ("empty",)}, "a label is always somebody's"),
        ({"nobody": (422,)}, "a status is about one image"),
        ({"body": "data:$image", "connection": Connection(batch=1), "encoding": "pixels"}, "no rows of pixels"),
        ({"input": Input(size=(16, 16), mean=(0.5,))}, "leave them out"),
    ],
)
def test_a_json_endpoint_that_cannot_be_is_refused(settings, message):
    given = {"url": "http://localhost", "body": ["$images"], "answers": "a", "input": SIDES} | settings
    with pytest.raises(ValueError, match=message):
        JsonTarget(**given)


@pytest.mark.parametrize(
    "told",
    [
        {"other": 1},
        {"a": [1]},
        {"a": [[1, 2], [["x", 0.5]]]},
        {"a": ["p0", "p9"]},
        {"a": [[0.1] * 6, [0.1] * 5]},
        {"a": [{"0": 0.5}, {"7": 0.5}]},
    ],
)
def test_a_json_answer_that_does_not_fit_says_what_to_do(images, told):
    with answering(lambda handler, body: handler.say(200, told)) as url:
        plan = JsonTarget(url=url, body=["$images"], input=SIDES, answers="a")
        with pytest.raises(GmiError, match=r"target\.(answers|classes|gives)"):
            ScoresOnly().open(plan.load(NAMES), None).scores(images[:2])


@pytest.mark.parametrize("told", [[[0.1] * 5 + [float("nan")]], [[["p0", float("inf")]]], [{"p0": float("nan")}]])
def test_json_numbers_that_are_not_finite_are_the_models_fault(images, told):
    with answering(lambda handler, body: handler.say(200, {"a": told})) as url:
        plan = JsonTarget(url=url, body=["$images"], input=SIDES, answers="a")
        with pytest.raises(GmiError, match="answered with numbers that are not finite"):
            ScoresOnly().open(plan.load(NAMES), None).scores(images[:1])


def test_a_token_is_sent_and_written_nowhere(images, tmp_path, monkeypatch):
    seen = []

    def answer(handler: Handler, body: bytes) -> None:
        seen.append((handler.headers["Authorization"], handler.headers["X-Key"]))
        handler.say(200, good(9))

    expected = r"^target\.connection\.token names the environment variable TOY_TOKEN, which is not set: export it\.$"
    with answering(answer) as url, pytest.raises(GmiError, match=expected):
        in_text(url, token="TOY_TOKEN").load(NAMES)
    with answering(answer) as url, pytest.raises(GmiError, match="none of that name is set") as caught:
        in_text(url, token="a_pasted_s3cret").load(NAMES)
    assert "s3cret" not in str(caught.value)
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
    with (
        answering(lambda handler, body: handler.say(403, b"no such key: s3cret")) as url,
        pytest.raises(GmiError, match=r"no such key: \*\*\*"),
    ):
        ScoresOnly().open(in_text(url, token="TOY_TOKEN").load(NAMES), None).scores(images)
    monkeypatch.setenv("TOY_TOKEN", "s3cret\n")
    with pytest.raises(GmiError, match="holds a line end") as caught:
        in_text("http://localhost", token="TOY_TOKEN").load(NAMES)
    assert "s3cret" not in str(caught.value)


def test_outputs_are_named_in_the_endpoints_order(images, tmp_path):
    (tmp_path / "names.txt").write_text("b\nnobody\na\n")
    shares = {"b": 0.2, "nobody": 0.7, "a": 0.1}
    forms = {
        "row": [0.2, 0.7, 0.1],
        "names": [*shares.items()],
        "own": [[f"class {name}", shares[name]] for name in shares],
    }
    names = {"outputs": str(tmp_path / "names.txt"), "input": SIDES}
    for form, answers in forms.items():
        with answering(lambda handler, body, answers=answers: handler.say(200, {"out": [answers] * 9})) as url:
            own = {"classes": tuple(f"class {name}" for name in shares)} if form == "own" else {}
            plan = JsonTarget(url=url, body={"in": "$images"}, answers="out", **own, **names)
            scores = ScoresOnly().open(plan.load(("a", "b")), None).scores(images)
        torch.testing.assert_close(scores, torch.tensor([[1 / 3, 2 / 3]] * 9).log())
    with pytest.raises(GmiError, match=r"target\.classes names 2 classes, and there are 3 outputs"):
        JsonTarget(url=url, body={"in": "$images"}, answers="out", classes=("a", "b"), **names).load(("a", "b"))
    shown = {"outputs": [{"name": "s", "datatype": "FP32", "shape": [9, 3], "data": forms["row"] * 9}]}
    with answering(lambda handler, body: handler.say(200, shown)) as url:
        plan = OpenInferenceTarget(url=url, model="m", tensor="x", **names)
        scores = ScoresOnly().open(plan.load(("a", "b")), None).scores(images)
    torch.testing.assert_close(scores, torch.tensor([[1 / 3, 2 / 3]] * 9).log())


@pytest.mark.parametrize(
    "url", ["models.example.org", "ftp://models.example.org", "http://", "http://host:abc", "https://me:pass@host"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(GmiError, match=r"target\.url"):
        client(url).load(NAMES)


def test_no_more_images_a_second_than_allowed(images):
    arrived = []

    def answer(handler: Handler, body: bytes) -> None:
        arrived.append(time.monotonic())
        handler.say(200, good(3))

    with answering(answer) as url:
        start = time.monotonic()
        ScoresOnly().open(in_text(url, batch=3, rate=30.0).load(NAMES), None).scores(images)
    _, second, third = arrived
    assert second - start > 0.1 and third - start > 0.2  # 3 images at 30 a second; a busy machine is later
