"""Our server: it answers as the target does, to whom it may, and makes nothing of nonsense."""

from dataclasses import replace

import httpx2
import pytest
import torch
from conftest import repeats
from reference.servers import NAMES, client, serving

from gmi.assets.catalogue import resolve
from gmi.data.images import read
from gmi.errors import GmiError
from gmi.judges.face import FaceNet
from gmi.oracles.access import LabelsOnly, ScoresOnly, VerificationOnly
from gmi.oracles.guards import Noise
from gmi.oracles.ledger import Account
from gmi.oracles.shape import Shape
from gmi.rng import Rng
from gmi.serving.app import ShowDecisions, ShowLabels, Shown, ShowScores
from gmi.serving.gate import Key
from gmi.targets.module import Input, Target
from gmi.targets.remote import Connection
from gmi.targets.templates import TemplateTarget


@pytest.fixture
def images(world):
    return world.prior.decode(Rng(range(9)).normal(8))


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


@pytest.mark.parametrize("binary", repeats(True, slow=(False,)))
def test_a_served_recogniser_verifies_claims(tmp_path, binary):
    """As in this process, and each claim is a query; scores are similarities."""
    folder = resolve("asset:orl/images")
    people = ("s01", "s02", "s03")
    photographs = read([folder / name / f"{one:02}.pgm" for name in people for one in (1, 2)], [0, 0, 1, 1, 2, 2], None)
    config = TemplateTarget(recogniser=FaceNet(), threshold=0.4)
    target = config.load(people, photographs)
    assert isinstance(target, Target)
    settings = {"output": "decisions", "gives": "decisions", "claims": "claims", "binary": binary}
    input = Input(size=(112, 92), colour="grey")
    with serving(target, tmp_path, config=config, shows=ShowDecisions()) as url:
        plan = replace(client(url, **settings), input=input)
        remote = VerificationOnly().open(plan.load(people), None)
        claims = torch.tensor([0, 1, 1, 2, 2, 0])
        local = VerificationOnly().open(target, None).accepts(photographs.pixels, claims)
        assert remote.accepts(photographs.pixels, claims).equal(local) and local.tolist() == [True, False] * 3
        assert remote.ledger.total == Account(6, 6)
        pixels = {"name": "images", "shape": [1, 1, 112, 92], "datatype": "UINT8", "data": [0] * (112 * 92)}
        for claims in ([], [{"name": "claims", "shape": [1], "datatype": "INT64", "data": [3]}]):
            answer = httpx2.post(f"{url}/v2/models/toy/infer", json={"inputs": [pixels, *claims]})
            assert answer.status_code == 400 and "an enrolled person, 0 to 2" in answer.json()["error"]
        for other in (ScoresOnly(), LabelsOnly()):
            with pytest.raises(GmiError, match="claimed person only: choose access"):
                other.open(plan.load(people), None)
    with serving(target, tmp_path, config=config) as url:
        plan = replace(client(url, gives="similarities"), input=input)
        scores = ScoresOnly().open(plan.load(people), None).scores(photographs.pixels)
        torch.testing.assert_close(scores, ScoresOnly().open(target, None).scores(photographs.pixels))


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
        assert fast.status_code == 429 and 3 <= int(fast.headers["Retry-After"]) <= 4  # 9 images at 2 a second, less 1
    with serving(world.target, tmp_path, keys=keys) as url:  # the log remembers
        assert ask(url, "aaa").status_code == 403
    monkeypatch.delenv("KEY_A")
    with (
        pytest.raises(GmiError, match=r"keys\.\w+\.token names the environment variable KEY_A, which is not set"),
        serving(world.target, tmp_path, keys=keys),
    ):
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"name": "pixels"},
        {"datatype": "FP16"},
        {"shape": [9, 1, 16, 15]},
        {"shape": [9, 2, 16, 8]},
        {"shape": "many"},
        {"data": None},
        {"datatype": "FP32", "data": [2.0] * (9 * 256)},
        {"data": [300] * (9 * 256)},
        {"data": [10**400] * (9 * 256)},
    ],
)
def test_requests_that_make_no_sense_are_answered_so(world, tmp_path, change):
    pixels = {"name": "images", "shape": [9, 1, 16, 16], "datatype": "UINT8", "data": [0] * (9 * 256)} | change
    with serving(world.target, tmp_path) as url:
        answer = httpx2.post(f"{url}/v2/models/toy/infer", json={"inputs": [pixels]})
        assert answer.status_code == 400 and answer.json()["error"]
        assert httpx2.post(f"{url}/v2/models/toy/infer", content=b"\x00").status_code == 400
        assert httpx2.post(f"{url}/v2/models/other/infer", json={}).status_code == 404
        fine = pixels | {
            "name": "images",
            "shape": [9, 1, 16, 16],
            "datatype": "UINT8",
            "data": [0] * (9 * 256),
            "parameters": None,
        }
        wrong = httpx2.post(f"{url}/v2/models/toy/infer", json={"inputs": [fine], "outputs": [{"name": "logits"}]})
        assert wrong.status_code == 400 and wrong.json()["error"] == "no output logits: there are scores"
        assert httpx2.post(f"{url}/v2/models/toy/infer", json={"inputs": [fine]}).status_code == 200
        for place in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/toy", "/v2/models/toy/ready"):
            assert httpx2.get(url + place).status_code == 200


def test_noise_is_a_function_of_the_image_and_of_a_secret(world, images):
    bits = (images * 255).round().byte()
    quiet, noisy, other = (
        Shown(world.target, ShowScores(defences=defences), secret)
        for defences, secret in (((), b"s"), ((Noise(scale=0.5),), b"s"), ((Noise(scale=0.5),), b"t"))
    )
    first = noisy(bits)[0]["scores"]
    torch.testing.assert_close(noisy(bits.flip(0))[0]["scores"].flip(0), first)
    assert not first.equal(other(bits)[0]["scores"])
    many = (Rng(range(500)).uniform(1, 16, 16) * 255).byte()
    moved = [shown(many)[0]["scores"].double().log() for shown in (quiet, noisy)]
    apart = moved[1] - moved[0]
    spread = (apart - apart.mean(1, keepdim=True)).square().sum(1).mean() / 5  # K - 1 are free
    assert spread.sqrt().item() == pytest.approx(0.5, rel=0.05)  # 2,500 draws: 1.4 %, three and a half times
