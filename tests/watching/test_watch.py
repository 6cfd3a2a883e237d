"""Query auditing: searches are flagged, people at a camera are not, and a server tells the two apart."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import httpx2
import jsonschema
import pytest
import torch
import torch.nn.functional as F
import yaml
from reference.browser import faults_everywhere, needs_browser
from reference.servers import serving
from reference.verified import verified
from torch import Tensor, nn

from gmi import toy
from gmi.audits import Hardware, conduct
from gmi.cli import audits
from gmi.data.images import Images
from gmi.dossier.dossier import Dossier
from gmi.errors import GmiError
from gmi.ladder.plan import Ladder, Rung
from gmi.oracles.access import EmbeddingsOnly, LabelsOnly, ScoresOnly, VerificationOnly, WholeModel
from gmi.report.coverage import bearings
from gmi.rng import Rng
from gmi.search.boundary import Boundary
from gmi.search.evolution import Evolution
from gmi.search.gradient import Gradient
from gmi.search.strangers import as_bytes
from gmi.serving.gate import Key
from gmi.serving.watch import STATISTICS, TRAFFIC, Stream, Watch, features, overheard, statistics
from gmi.settings import plain, read
from gmi.targets.module import Input, Target
from gmi.targets.served import Served
from gmi.targets.templates import Matcher
from gmi.watching import page
from gmi.watching.audit import WATCHING, listening
from gmi.watching.findings import CAMERA, findings, noticed
from gmi.watching.findings import Stream as Seen
from gmi.watching.plan import Trial, Watching
from gmi.watching.traffic import disguised, strangers

COUNT = 20
WATCH = Trial(window=24, alarm=0.02)


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


@pytest.fixture(scope="module")
def recogniser():
    """A system that compares with the templates of four people."""
    draws = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 5))
    for value in network.parameters():
        nn.init.normal_(value, generator=draws)
    matcher = Matcher(network, torch.randn(4, 5, generator=draws), 20.0, 0.1)
    return Target(matcher, Input(size=(8, 8), colour="grey", mean=(0.5,)), tuple("abcd"), penultimate="network.3")


def test_claims_are_overheard_in_the_order_in_which_they_are_made(recogniser):
    """Each claim is an image of its own, of which the watch hears; who asks goes from one person to the next."""
    images = as_bytes(Rng(range(7)).uniform(64).view(7, 1, 8, 8)).float() / 255
    similar = recogniser(images) / 20.0
    with listening(recogniser, VerificationOnly()) as (oracle, queries):
        assert oracle.everybody(images[:5]).equal(similar[:5] >= 0.1)
        assert oracle.accepts(images[5:], torch.tensor([3, 1])).equal(similar[[5, 6], [3, 1]] >= 0.1)
    assert oracle.queries == 4 * 5 + 2 == sum(len(labels) for _, labels in queries)
    seen, named = (torch.cat(parts) for parts in zip(*queries, strict=True))
    unit, labels = features(recogniser, images)
    torch.testing.assert_close(seen, torch.cat([unit[:5].repeat(4, 1), unit[5:]]))
    assert named.equal(torch.cat([labels[:5].repeat(4), labels[5:]]))
    with listening(recogniser, VerificationOnly(numbers=True)) as (oracle, queries):
        torch.testing.assert_close(oracle.similarities(images[:5]), similar[:5])
    assert sum(len(labels) for _, labels in queries) == 4 * 5
    with listening(recogniser, ScoresOnly()) as (oracle, queries):
        oracle.similarities(images)
    torch.testing.assert_close(queries[0], (unit, labels))


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


PLAN = Watching(
    name="toy",
    audit=toy.plan(),
    rungs=(
        Rung(name="whole", access=WholeModel(), searches=(Gradient(steps=2),)),
        Rung(name="scores", access=ScoresOnly(), searches=(Evolution(generations=8, population=8, radius=32**0.5),)),
    ),
    watch=WATCH,
)
CPU = Hardware(torch.device("cpu"))


def unlike(photographs: Images) -> Images:
    """As many photographs of nobody whom the target knows."""
    noise = (Rng(range(len(photographs))).uniform(photographs.bytes[0].numel()) * 255).byte()
    return Images.of(noise.reshape(photographs.bytes.shape), photographs.classes + COUNT)


@pytest.fixture(scope="module")
def watched(inputs, tmp_path_factory):
    """A finished run, and what it says."""
    folder = tmp_path_factory.mktemp("watch") / "run"
    few = replace(inputs, people=replace(inputs.people, attacked=(3, 7), strangers=unlike(inputs.people.enrolment)))
    assert conduct(WATCHING, PLAN, folder, CPU, few) == folder / "watch.html"
    return folder, json.loads((folder / "watch.json").read_text()), few


def test_attacks_by_an_interface_raise_alarms_and_a_camera_hardly_any(watched):
    _, report, _ = watched
    camera, (scores,) = report["control"], report["traffic"]
    assert camera["queries"] == 10 * 3 * COUNT and camera["windows"] == 10 * 3 * COUNT // 12 - 1
    assert camera["flagged"] <= 0.1
    assert (scores["name"], scores["rung"], scores["access"]) == ("rung1_0", "scores", "score")
    assert scores["queries"] == 2 * 40 + 2 * 8 * 8
    assert scores["flagged"] > 0.5 and scores["first"] <= scores["queries"]
    assert scores["reasons"]["alike one after another"] > 0
    assert report["strangers"]["queries"] == camera["queries"] and report["strangers"]["flagged"] > 0.9
    jsonschema.validate(report, json.loads(Path(page.__file__).with_name("page.schema.json").read_text()))


def test_what_a_watch_finds_is_evidence_in_a_dossier_and_in_every_form(watched):
    folder, report, _ = watched
    (row,) = [each for each in bearings(report) if each.requirement.id == "C11.3.1"]
    attacks, people = "Attacks whose queries the watch looks at", "People at a camera: the control"
    assert row.evidence[0].startswith(f"{attacks}, of them flagged: ")
    assert row.evidence[2].startswith(f"{people}, of them flagged: ")
    assert "| scores, score, evolution | 208 | 16 |" in (folder / "summary.md").read_text()
    assert any(each.startswith("People at the camera whom") for each in row.evidence)
    assert "People at the camera whom the target does not know" in (folder / "summary.md").read_text()
    assert not report["attacks"]  # what they recover is not measured
    told = {key: figures for key, _, figures in Dossier.of([folder], "Door 3").requirements for key in [key.id]}
    assert told["C11.3.1"][0].startswith(f"toy: {attacks}, of them flagged: ")


def test_photographs_between_the_queries_are_evenly_spread():
    """With this share of all, in their order and over again; the queries keep theirs, whatever their batches."""
    queries = [(torch.arange(0.0, 5)[:, None], torch.arange(5)), (torch.arange(5.0, 8)[:, None], torch.arange(5, 8))]
    crowd = [(torch.full((2, 1), -1.0), torch.tensor([-1, -2])), (torch.full((1, 1), -1.0), torch.tensor([-3]))]

    def labels(share: float) -> list[int]:
        return torch.cat([named for _, named in disguised(queries, crowd, share)]).tolist()

    assert labels(0.5) == [-1, 0, -2, 1, -3, 2, -1, 3, -2, 4, -3, 5, -1, 6, -2, 7]
    assert labels(0.25) == [0, 1, -1, 2, 3, 4, -2, 5, 6, 7]
    assert labels(0.75)[:8] == [-1, -2, -3, 0, -1, -2, -3, 1]
    assert [unit.shape for unit, _ in disguised(queries, crowd, 0.5)] == [(10, 1), (6, 1)]


def test_strangers_at_the_camera_are_drawn_from_all_others_and_as_many_as_the_targets_people(inputs):
    """No image twice, of those who are enrolled and of the others."""
    few = inputs.people.enrolment[list(range(6))]
    shades = torch.arange(14, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    enrolled, others = Images.of(shades[:5], torch.arange(5)), Images.of(shades[5:], torch.arange(9))
    people = replace(inputs.people, enrolment=few, distractors=enrolled, strangers=others)
    drawn = strangers(people)
    assert drawn is not None and drawn.shape == (6, 1, 8, 8)
    seen = set((255 * drawn).round().unique().tolist())
    assert len(seen) == 6 and min(seen) < 5 <= max(seen)
    alone = strangers(replace(people, distractors=None, strangers=enrolled))
    assert alone is not None and len(alone) == 5
    assert strangers(replace(people, distractors=None, strangers=None)) is None


def test_who_hides_among_photographs_is_flagged_less(watched):
    _, report, _ = watched
    (scores,) = report["traffic"]
    half, most = scores["disguised"]
    assert (half["disguise"], most["disguise"]) == ("50 % photographs", "90 % photographs")
    assert (half["windows"], most["windows"]) == ((2 * 208 - 24) // 12 + 1, (10 * 208 - 24) // 12 + 1)
    assert scores["flagged"] > half["flagged"] >= most["flagged"] <= 0.2
    assert most["sent"] is None or most["sent"] >= scores["first"]
    assert "score, evolution, 90 % photographs |" in (watched[0] / "summary.md").read_text()
    assert "traffic.disguised" in (watched[0] / "figures.csv").read_text()
    assert "Hidden among photographs" in (watched[0] / "watch.html").read_text()


def test_a_watch_goes_on_where_it_stopped_and_keeps_nothing_that_an_attack_found(watched):
    folder, report, inputs = watched
    assert {path.name for path in (folder / "shards").iterdir()} == {
        "camera.safetensors",
        "strangers.safetensors",
        "rung1_0-0.safetensors",
    }
    (folder / "shards" / "camera.safetensors").unlink()
    (folder / "shards" / "attack" / "run").mkdir(parents=True)  # as a process leaves it that was killed
    before = (folder / "shards" / "rung1_0-0.safetensors").stat().st_mtime_ns
    conduct(WATCHING, PLAN, folder, CPU, inputs)
    again = json.loads((folder / "watch.json").read_text())
    assert (again["control"], again["traffic"]) == (report["control"], report["traffic"])
    assert (folder / "shards" / "rung1_0-0.safetensors").stat().st_mtime_ns == before
    assert not (folder / "shards" / "attack").exists()


def test_with_seeds_windows_are_counted_together_and_the_latest_first_alarm_counts():
    none, one, two = [False] * 3, [False, True, False], [False, True, True]
    early, late = (Seen(size, torch.tensor(flags)) for size, flags in ((48, [one, two, none]), (50, [none, none, two])))
    found = noticed([early, late], 24)
    assert (found["queries"], found["windows"], found["flagged"], found["first"]) == (50, 6, 0.5, 24 + 24)
    assert found["reasons"] == pytest.approx(dict(zip(STATISTICS, (0, 0.5, 1 / 3), strict=True)))
    quiet = Seen(40, torch.tensor([none, none]))
    assert noticed([early, quiet], 24)["first"] is None
    short = noticed([Seen(20, torch.empty(0, 3, dtype=torch.bool))], 24)
    assert (short["windows"], short["flagged"], short["first"], short["reasons"]) == (0, None, None, {})


def test_a_page_tells_who_never_filled_a_window(watched, tmp_path):
    _, report, _ = watched
    traffic = [
        {
            **report["traffic"][0],
            "windows": 0,
            "flagged": None,
            "first": None,
            "reasons": {},
            "disguised": [{"disguise": "50 % photographs", "windows": 0, "flagged": None, "sent": None}],
        }
    ]
    (tmp_path / "watch.json").write_text(json.dumps({**report, "traffic": traffic, "strangers": None}))
    text = page.render(tmp_path).read_text()
    assert "fewer queries than a window" in text and "People at a camera" in text
    assert "Strangers at it" not in text and "no photographs of others (data.strangers)" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rungs": (Rung(name="labels", access=LabelsOnly(), searches=(Evolution(),)),)}, "evolution needs access"),
        ({"rungs": PLAN.rungs[:1]}, "rungs: all have the whole model"),
        ({"rungs": (Rung(name="doors", access=VerificationOnly(), searches=(Boundary(),)),)}, "of type templates"),
        ({"watch": Trial(window=500)}, "photographs make no real traffic for windows of 500"),
    ],
)
def test_a_watch_that_could_see_nothing_is_refused_before_anything_is_spent(inputs, tmp_path, changes, message):
    with pytest.raises(GmiError, match=message):
        conduct(WATCHING, replace(PLAN, **changes), tmp_path / "run", CPU, inputs)
    assert not (tmp_path / "run").exists()


def test_that_nobody_hid_among_photographs_is_said(watched):
    _, report, inputs = watched
    still = [Seen(48, torch.zeros(3, 3, dtype=torch.bool))]
    plan = replace(PLAN, watch=replace(PLAN.watch, disguises=()))
    limits = findings(plan, inputs, {CAMERA: still, "rung1_0": still}).limits
    assert [*limits] == [*report["limits"], "An adversary who hides among photographs was not tried: watch.disguises."]


def test_no_watch_looks_at_who_is_given_templates(inputs, recogniser, tmp_path):
    rung = Rung(name="templates", access=EmbeddingsOnly(), searches=(Evolution(),))
    plan = replace(PLAN, audit=replace(PLAN.audit, perceptual=None), rungs=(rung,))
    with pytest.raises(GmiError, match="templates: no server of ours answers with templates"):
        conduct(WATCHING, plan, tmp_path / "run", CPU, replace(inputs, target=recogniser))


def test_a_watch_needs_weights(inputs, tmp_path):
    served = replace(inputs, target=Served(None, "probabilities", inputs.target.classes, "0"))
    with pytest.raises(GmiError, match="this needs its weights"):
        conduct(WATCHING, PLAN, tmp_path / "run", CPU, served)


def test_the_configuration_is_that_of_a_ladder(tmp_path):
    ladder = {key: value for key, value in plain(PLAN).items() if key != "watch"}
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump(ladder))
    assert read(config, Watching) == replace(PLAN, watch=Trial()) and read(config, Ladder).name == "toy"
    config.write_text(yaml.safe_dump(ladder | {"watch": {"refuse": 3}}))
    with pytest.raises(GmiError, match=r"watch\.refuse: on trial nobody is refused"):
        read(config, Watching)


def test_its_folder_is_not_the_ladders(inputs, tmp_path, monkeypatch, capsys):
    config = tmp_path / "toy.yaml"
    config.write_text(yaml.safe_dump(plain(PLAN)))
    monkeypatch.chdir(tmp_path)
    kind = replace(WATCHING, load=lambda plan, hardware: inputs)
    few = ["--rungs.1.searches.0.generations", "2"]
    audits.main(kind, "watch", [str(config), "--dry-run", *few])
    words = capsys.readouterr().out
    assert "camera" in words and "rung1_0 scores" in words
    audits.main(kind, "watch", [str(config), *few])
    assert Path("runs", "toy-watch", "watch.json").exists()


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


def test_figures_come_again_from_the_pieces(watched):
    folder, _, inputs = watched
    verified(WATCHING, PLAN, inputs, folder, lambda report: report["control"].update(flagged=0.5), "control")


@pytest.mark.slow
@needs_browser
def test_the_page_has_no_violation_and_fits_the_screen(watched):
    assert faults_everywhere(watched[0] / "watch.html") == []
