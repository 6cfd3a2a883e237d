"""Query auditing: searches are flagged, people at a camera are not, and a server tells the two apart."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import httpx2
import pytest
import torch
import torch.nn.functional as F
import yaml
from reference.servers import serving
from torch import Tensor

from gmi import toy
from gmi.audits import Hardware
from gmi.errors import GmiError
from gmi.ladder import watching
from gmi.ladder.plan import Ladder, Rung
from gmi.ladder.watching import Sighting, watched
from gmi.oracles.access import LabelsOnly, ScoresOnly, WholeModel
from gmi.rng import Rng
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.serving.gate import Key
from gmi.serving.watch import STATISTICS, TRAFFIC, Stream, Watch, features, overheard, statistics
from gmi.settings import plain
from gmi.targets.served import Served

COUNT = 20
WATCH = Watch(window=24, alarm=0.02)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def inputs():
    return toy.inputs(COUNT, 1.0, 0)


@pytest.fixture(scope="module")
def watcher(inputs):
    return WATCH.learn(inputs.target, inputs.people.training.pixels)


def real(inputs, seed: int) -> Tensor:
    """Traffic of photographs that the watcher has not seen."""
    photographs = inputs.people.enrolment.pixels
    order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(seed))
    return TRAFFIC(photographs[order], Rng(range(seed * 1000, seed * 1000 + len(order)))).clamp(0, 1)


def test_people_at_a_camera_raise_few_alarms(inputs, watcher):
    flags = [one for seed in range(40) for one in Stream(watcher).see(*features(inputs.target, real(inputs, seed)))]
    assert len(flags) == 160
    assert sum(map(bool, flags)) <= 16  # 2 % are allowed; 160 windows of other photographs, which overlap


def test_a_search_is_flagged(inputs, watcher):
    with overheard(inputs.target) as heard:
        oracle = ScoresOnly().open(inputs.target, None)
        search = Evolution(generations=8, population=8, radius=32**0.5)
        search(oracle, inputs.prior, inputs.prior.sample(Rng([1])), torch.tensor([3]), Rng([2]))
    seen, named = (torch.cat(parts) for parts in zip(*heard, strict=True))
    assert len(seen) == oracle.queries == 64
    flags = Stream(watcher).see(seen, named)
    assert len(flags) == 4 and all(flags)


def test_what_is_overheard_is_what_is_asked(inputs):
    photographs = inputs.people.enrolment.pixels
    with overheard(inputs.target) as heard:
        inputs.target(photographs[:5])
        inputs.target(photographs[5:8])
    inputs.target(photographs[8:])  # nobody listens
    seen, named = (torch.cat(parts) for parts in zip(*heard, strict=True))
    torch.testing.assert_close((seen, named), features(inputs.target, photographs[:8]))


def test_each_statistic_sees_what_it_is_for(inputs, watcher):
    photographs = inputs.people.enrolment.pixels
    seen, named = features(inputs.target, photographs[:24])
    assert STATISTICS[0] in watcher.flags(seen[:1].repeat(24, 1), torch.arange(24) % COUNT)
    assert STATISTICS[1] in watcher.flags(seen, torch.zeros(24, dtype=torch.int64))
    opposite = -watcher.reference.mean(0, keepdim=True) + 0.01 * torch.randn(24, seen.shape[1])
    assert STATISTICS[2] in watcher.flags(F.normalize(opposite), named)


def test_statistics_are_what_they_say():
    seen, reference = F.normalize(torch.randn(6, 4)), F.normalize(torch.randn(3, 4))
    named = torch.tensor([0, 1, 1, 2, 1, 0])
    nearest = sum(max(float(seen[i] @ seen[j]) for j in range(i)) for i in range(1, 6)) / 5
    strange = 1 - sum(max(float(one @ other) for other in reference) for one in seen) / 6
    torch.testing.assert_close(statistics(seen, named, reference), torch.tensor([nearest, 0.5, strange]))


@pytest.mark.parametrize("requests", [[60], [1] * 60, [20, 25, 15]])
def test_a_stream_is_looked_at_in_windows_that_overlap_whatever_its_requests(watcher, requests):
    seen = F.normalize(torch.randn(60, watcher.reference.shape[1], generator=torch.Generator().manual_seed(0)))
    named, stream = torch.arange(60) % COUNT, Stream(watcher)
    found = [
        flags
        for some, names in zip(seen.split(requests), named.split(requests), strict=True)
        for flags in stream.see(some, names)
    ]
    assert found == [watcher.flags(seen[start : start + 24], named[start : start + 24]) for start in (0, 12, 24, 36)]


def test_a_burst_does_not_hide_before_photographs_in_one_request(inputs, watcher):
    seen, named = features(inputs.target, inputs.people.enrolment.pixels[:24])
    burst = seen[:1].repeat(96, 1)
    found = Stream(watcher).see(torch.cat([burst, seen]), torch.cat([named[:1].repeat(96), named]))
    assert sum(map(bool, found)) >= 7


LADDER = Ladder(
    name="toy",
    audit=toy.plan(),
    rungs=(
        Rung(name="whole", access=WholeModel(), searches=(Gradient(steps=2),)),
        Rung(name="scores", access=ScoresOnly(), searches=(Evolution(generations=8, population=8, radius=32**0.5),)),
    ),
)


def test_attacks_by_an_interface_raise_alarms_and_a_camera_hardly_any(inputs):
    few = replace(inputs, people=replace(inputs.people, attacked=(3, 7)))
    camera, scores = watched(LADDER, few, WATCH, Hardware(torch.device("cpu")))
    assert camera.name == "people at a camera" and camera.queries == 10 * 3 * COUNT
    assert camera.alarms <= 0.1 * len(camera.flags)
    assert scores.name == "scores (1)" and scores.queries == 2 * 40 + 2 * 8 * 8
    assert scores.alarms > 0.5 * len(scores.flags) and scores.first <= scores.queries
    assert f"{scores.first}  " in str(scores) and "alike one after another" in str(scores)


def test_a_sighting_counts_windows():
    quiet, loud = ((), ()), ((), ("of one person",), ("of one person", "unlike photographs"))
    assert Sighting("a", 40, 24, list(quiet)).first is None and " never " in str(Sighting("a", 40, 24, list(quiet)))
    found = Sighting("a", 50, 24, list(loud))
    assert (found.alarms, found.first) == (2, 24 + 12) and "of one person 67%, unlike photographs 33%" in str(found)
    assert str(Sighting("a", 20, 24, [])).endswith("fewer than a window of 24")


def test_a_watch_needs_weights_and_searches_that_fit(inputs):
    cpu = Hardware(torch.device("cpu"))
    served = replace(inputs, target=Served(None, "probabilities", inputs.target.classes, "0"))
    with pytest.raises(GmiError, match="this needs its weights"):
        next(watched(LADDER, served, WATCH, cpu))
    wrong = replace(LADDER, rungs=(Rung(name="labels", access=LabelsOnly(), searches=(Evolution(),)),))
    with pytest.raises(GmiError, match="evolution needs access"):
        next(watched(wrong, inputs, WATCH, cpu))


def test_the_command_prints_a_line_for_the_camera_and_for_every_attack(inputs, tmp_path, monkeypatch, capsys):
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump(plain(LADDER)))
    monkeypatch.setattr(watching, "load", lambda kind, plan, hardware: inputs)
    watching.main([str(config), "--window", "24", "--alarm", "0.02", "--rungs.1.searches.0.generations", "2"])
    header, camera, scores = capsys.readouterr().out.splitlines()
    assert header.startswith("asked by") and camera.startswith("people at a camera") and scores.startswith("scores (1)")
    with pytest.raises(GmiError, match=r"command line: window: input should be greater than or equal to 8"):
        watching.main([str(config), "--window", "3"])


def test_too_few_photographs_to_learn_from(inputs):
    with pytest.raises(GmiError, match="20 photographs make no real traffic for windows of 64 queries"):
        Watch().learn(inputs.target, inputs.people.training.pixels[:20])


@pytest.mark.parametrize("refuse", [None, 1])
def test_a_server_keeps_alarms_and_refuses_where_it_is_told_to(inputs, tmp_path, monkeypatch, refuse):
    monkeypatch.setenv("KEY_A", "aaa")
    monkeypatch.setenv("KEY_B", "bbb")
    watch = Watch(window=24, alarm=0.02, refuse=refuse)
    watcher = watch.learn(inputs.target, inputs.people.training.pixels)
    keys = (Key(name="camera", token="KEY_A"), Key(name="search", token="KEY_B"))
    photographs = (real(inputs, 3)[:24] * 255).round().byte()
    near = (inputs.prior.decode(inputs.prior.sample(Rng([1])).repeat(24, 1)) * 255).round().byte()

    def ask(url: str, token: str, images: Tensor) -> int:
        data = {"name": "images", "shape": list(images.shape), "datatype": "UINT8", "data": images.flatten().tolist()}
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.post(f"{url}/v2/models/toy/infer", json={"inputs": [data]}, headers=headers).status_code

    with serving(inputs.target, tmp_path, watcher, keys=keys, watch=watch) as url:
        assert [ask(url, "aaa", photographs), ask(url, "aaa", photographs)] == [200, 200]
        assert ask(url, "bbb", near) == (403 if refuse else 200)
    with serving(inputs.target, tmp_path, watcher, keys=keys, watch=watch) as url:  # a start does not forgive
        assert ask(url, "bbb", near) == (403 if refuse else 200)
        assert ask(url, "aaa", photographs) == 200
    with closing(sqlite3.connect(tmp_path / "log.sqlite")) as log:
        alarms = set(log.execute("SELECT key, reason FROM alarms"))
    assert any(STATISTICS[0] in reason for _, reason in alarms) and {key for key, _ in alarms} == {"search"}


def test_a_server_without_the_watcher_that_it_is_to_have_does_not_start(inputs, tmp_path):
    with pytest.raises(GmiError, match="needs a watcher"), serving(inputs.target, tmp_path, watch=WATCH):
        pass
