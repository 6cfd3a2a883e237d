"""Guided extraction: samples that are led to what a model repeats, found without the records."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import repeats
from jsonschema import Draft202012Validator
from reference.mixture import PATHS, Mixture
from reference.reports import timeless
from torch import Tensor

from gmi.audits import Hardware, conduct
from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.extraction import page
from gmi.extraction.audit import EXTRACTION
from gmi.extraction.clusters import coherence, features, kmeans
from gmi.extraction.forecast import forecast
from gmi.extraction.inputs import Inputs, refuse
from gmi.extraction.models import Given, Pair, Trained
from gmi.extraction.plan import ExtractionAudit, Inversion
from gmi.extraction.records import Photographs, Records
from gmi.extraction.sampling import Plain, Towards, follow, noise
from gmi.extraction.side import Side, TimeClassifier
from gmi.extraction.verdict import Excess, excess, verdict
from gmi.metrics.statistics import Estimate
from gmi.priors.diffusion import DiffusionPrior
from gmi.priors.gan import Gan
from gmi.rng import Rng
from gmi.run import Run
from gmi.training.learners import Adversarial

CPU = torch.device("cpu")
SCHEMA = json.loads(Path(page.__file__).with_name("page.schema.json").read_text("utf-8"))
DUPLICATED = torch.tensor([0, 0, 0, 1, 2, 3, 4, 5])  # the first atom was learnt three times
SIDE = Side(samples=60, clusters=20, steps=200)


def smooth(count: int, seed: int) -> Tensor:
    """Images (N, 1, 16, 16) as different as photographs of different people."""
    coarse = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=16, mode="bilinear")


def exact(atoms: Tensor, path: str, width: float = 0.1, steps: int = 20) -> DiffusionPrior:
    """A model whose samples are these images (M, C, S, S), but for a little noise."""
    return DiffusionPrior(Mixture(atoms * 2 - 1, width, PATHS[path]), PATHS[path], steps=steps)


def nearest(images: Tensor, atoms: Tensor) -> Tensor:
    """The atom (N,) that is nearest to each image."""
    return (images[:, None] - atoms).flatten(2).square().sum(2).argmin(1)


@dataclass(frozen=True)
class Bayes:
    """The exact classifier of noisy images: which cluster a mixture's sample is of, by Bayes' rule."""

    prior: DiffusionPrior
    member: Tensor  # (M, K), 1 where an atom is in a cluster

    def __call__(self, noisy: Tensor, time: float) -> Tensor:
        network, (signal, level) = self.prior.network, self.prior.path.levels(time)
        assert isinstance(network, Mixture)
        spread = signal**2 * network.width**2 + level**2
        apart = (noisy[:, None] - signal * network.get_buffer("atoms")).flatten(2).square().sum(2)
        return ((-apart / (2 * spread)).softmax(1) @ self.member).clamp_min(1e-30).log()


@pytest.mark.parametrize("path", PATHS)
def test_with_the_exact_classifier_samples_are_those_of_the_cluster(path):
    """A weight of 1 gives the model's conditional distribution: of a cluster of two atoms, one of which counts thrice.

    800 samples: a standard error of .015.
    """
    atoms = 0.5 + 0.25 * torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    prior = exact(atoms[DUPLICATED], path, steps=50)
    classifier = Bayes(prior, F.one_hot((DUPLICATED >= 2).long(), 2).float())
    plain, led, both = (
        torch.bincount(nearest(sampler.draw(range(800), 0), atoms), minlength=6) / 800
        for sampler in (
            Plain(prior),
            Towards(prior, classifier, torch.tensor([0]), 1.0),
            Towards(prior, classifier, torch.tensor([0, 1]), 1.0),
        )
    )
    assert plain.tolist() == pytest.approx([3 / 8] + [1 / 8] * 5, abs=0.05)
    assert led.tolist() == pytest.approx([3 / 4, 1 / 4, 0, 0, 0, 0], abs=0.05)
    assert both.tolist() == pytest.approx([3 / 8] + [1 / 8] * 5, abs=0.05)  # the clusters in turn
    with torch.no_grad():
        idle = Towards(prior, classifier, torch.tensor([1]), 0.0).draw(range(9), 0)
        torch.testing.assert_close(idle, Plain(prior).draw(range(9), 0))


def test_planted_clusters_are_found():
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(90) % 6
    points = F.normalize(
        torch.randn(6, 20, generator=generator)[truth] + 0.1 * torch.randn(90, 20, generator=generator)
    )
    found = kmeans(points.double(), 6, Rng(range(8)))
    assert len({*zip(truth.tolist(), found.tolist(), strict=True)}) == 6 and len({*found.tolist()}) == 6
    assert found.equal(kmeans(points.double(), 6, Rng(range(8))))
    assert len({*kmeans(points[:1].double().expand(9, -1), 6, Rng([0])).tolist()}) == 1  # equal points


def test_a_cluster_is_coherent_whose_samples_are_many_and_alike():
    points = F.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)).double())
    labels = torch.tensor([0] * 4 + [1] * 7 + [3])
    found = coherence(points, labels, 4)
    for cluster in (0, 1):
        inside = points[labels == cluster]
        cosines = (inside @ inside.T)[~torch.eye(len(inside), dtype=torch.bool)]
        assert found[cluster].item() == pytest.approx(max(0, cosines.mean().item()) * (1 - 1 / len(inside)))
    assert found[2:].tolist() == pytest.approx([0, 0])
    shown = features(torch.cat([smooth(30, 0), smooth(1, 2).expand(3, -1, -1, -1)]))
    assert coherence(shown, torch.tensor([0] * 30 + [1] * 3), 2).tolist() == pytest.approx([0, 2 / 3], abs=0.1)


def test_the_classifier_tells_clusters_the_better_the_less_noise_there_is():
    atoms, labels = smooth(4, 0), torch.arange(40) % 4
    prior = exact(atoms, "flow")
    clean = (atoms[labels] * 2 - 1) + 0.05 * torch.randn(40, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    side = Side(samples=40, clusters=4, steps=300)
    sampler = side.sampler(prior, side.train(prior.path, clean, labels, 0) | {"led": torch.arange(4)})
    with torch.no_grad():
        fresh = Rng(range(100, 140)).normal(1, 16, 16)
        noisy = {time: (1 - time) * clean + time * fresh for time in (0.05, 0.5, 1.0)}
        said = {time: sampler.classifier(some, time) for time, some in noisy.items()}
    right = {time: some.gather(1, labels[:, None]).exp().mean().item() for time, some in said.items()}
    assert right[0.05] > 0.95 and right[0.5] > 0.9
    assert right[1.0] == pytest.approx(0.25, abs=0.02)  # its share among the samples
    start = noisy[1.0].clone().requires_grad_()
    sampler.classifier(start, 1.0)[:, 0].sum().backward()
    assert start.grad is not None and not start.grad.any()


def test_levels_of_one_for_all_and_of_each_say_the_same():
    network, noisy = TimeClassifier(3, 5), Rng(range(4)).normal(3, 8, 8)
    signal, level = torch.tensor([0.3, 0.7])
    each = [one.expand(4)[:, None, None, None] for one in (signal, level)]
    torch.testing.assert_close(network(noisy, signal, level), network(noisy, *each))


@pytest.mark.parametrize("path", repeats("flow", slow=("ddpm",)))
def test_learnt_guidance_finds_what_the_model_repeats(path):
    """Four images make up a third of what the model makes, among 200 others."""
    atoms = smooth(204, 3)
    prior = exact(atoms[torch.cat([torch.arange(4).repeat(25), torch.arange(4, 204)])], path, 0.05, 10)
    side = Side(samples=100, clusters=30, steps=200)
    sampler = side.sampler(prior, side.learn(prior, 0, 100))
    with torch.no_grad():
        plain, led = (nearest(some.draw(range(100, 200), 0), atoms) for some in (Plain(prior), sampler))
    shares = [(some < 4).float().mean().item() for some in (plain, led)]
    assert 0.2 < shares[0] < 0.45 and shares[1] > shares[0] + 0.25, shares
    assert len({*led[led < 4].tolist()}) >= 2


def test_only_clusters_of_alike_samples_are_led_to_and_all_if_there_are_none():
    repeats = exact(torch.cat([smooth(1, 0).repeat(40, 1, 1, 1), smooth(60, 3)]), "flow", 0.05, 4)
    side = replace(SIDE, clusters=30, steps=1)
    assert len(side.learn(repeats, 0, 60)["led"]) <= 8
    assert 20 < len(replace(side, coherence=0.99).learn(repeats, 0, 60)["led"]) <= 30


def test_what_is_learnt_depends_on_the_seed_alone():
    prior = exact(smooth(20, 3), "flow", steps=4)
    side = replace(SIDE, steps=3)
    one, same, other = side.learn(prior, 0, 60), side.learn(prior, 0, 60), side.learn(prior, 1, 60)
    assert one.keys() == same.keys() and all(one[name].equal(same[name]) for name in one)
    assert not one["layers.0.weight"].equal(other["layers.0.weight"])
    with torch.no_grad():
        start = noise(prior, range(5), 0)
        torch.testing.assert_close(prior.image(follow(prior, start)), prior.decode(start))


def kept(pixels: Tensor, first: int) -> Images:
    names = tuple(f"{first}-{place}" for place in range(len(pixels)))
    return Images((pixels * 255).round().byte(), first + torch.arange(len(pixels)), names)


RECORDS = Records(kept(smooth(12, 0), 0), None, kept(smooth(60, 1), 100))
TARGET, CONTROL = (
    exact(torch.cat([smooth(12, seed)[:4].repeat(25, 1, 1, 1), smooth(200, 4)]), "flow", 0.05, 10) for seed in (0, 5)
)  # four images are a third of what each makes: of the records, or of others
PLAN = ExtractionAudit(
    name="toy",
    data=Photographs(name="toy", folder="toy", held_out="others", size=16, grey=True),
    models=Given(target=Gan(folder="a"), control=Gan(folder="b")),
    samples=120,
    neighbours=5,
    clique=4,
    inversion=Inversion(steps=0, draws=1),
    guided=SIDE,
)


def audit(plan: ExtractionAudit, folder: Path, pair: Pair | None = None) -> dict:
    conduct(EXTRACTION, plan, folder, Hardware(CPU), Inputs(RECORDS, pair or Pair(TARGET, CONTROL)))
    report = json.loads((folder / "extraction.json").read_text())
    Draft202012Validator(SCHEMA).validate(report)
    return report


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict]:
    """The audit's folder and its report."""
    folder = tmp_path_factory.mktemp("guided") / "run"
    return folder, audit(PLAN, folder)


def test_plain_and_guided_samples_stand_side_by_side(made):
    folder, report = made
    rows = {row["role"]: row for row in report["rows"]}
    assert list(rows) == ["target", "control", "guided target", "guided control", "held-out"]
    assert {rows[role]["copies"]["n"] for role in rows} == {120}  # the same number of samples for both
    assert rows["guided target"]["copies"]["value"] > rows["target"]["copies"]["value"] + 0.1
    assert rows["control"]["records"] == rows["guided control"]["records"] == 0  # led to its own clusters
    guided = report["guided"]
    assert guided["learnt"] == 60 and guided["clusters"].keys() == {"target", "control"}
    assert min(guided["clusters"].values()) >= 1
    values = {role: rows[role]["originals"]["value"] for role in rows}
    assert guided["gain"]["value"] == pytest.approx(values["guided target"] - values["target"])
    assert guided["excess"]["value"] == pytest.approx(values["guided target"] - values["guided control"])
    text = (folder / "extraction.html").read_text()
    assert "the target, guided" in text and "allows for two tries" in text


def test_without_guidance_nothing_changes(made, tmp_path):
    report = audit(replace(PLAN, guided=None), tmp_path / "run")
    assert report["guided"] is None and report["rows"] == [
        row for row in made[1]["rows"] if "guided" not in row["role"]
    ]
    assert report["excess"] == made[1]["excess"] and report["white_box"] == made[1]["white_box"]
    assert "SIDE" not in (tmp_path / "run" / "extraction.html").read_text()


def test_both_models_go_through_the_same(made):
    """The pieces of the control are those of the target, and a control that is the target would find the same."""
    folder, _ = made
    pieces = {
        model: sorted(path.relative_to(folder / "shards" / model) for path in (folder / "shards" / model).rglob("*.*"))
        for model in ("target", "control")
    }
    assert pieces["target"] == pieces["control"]
    assert {path.parts[0] for path in pieces["target"]} == {"samples", "clusters.safetensors", "guided", "knows"}


@pytest.mark.slow
def test_a_resumed_run_is_the_same_and_guided_samples_begin_with_plain_ones(made, tmp_path, monkeypatch):
    _, report = made
    save, killed = Run.save, []

    def stop(run: Run, name: str, tensors) -> None:
        if name == "control/guided/60" and not killed:
            killed.append(name)
            raise KeyboardInterrupt
        save(run, name, tensors)

    monkeypatch.setattr(Run, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        audit(PLAN, tmp_path / "run")
    assert timeless(audit(PLAN, tmp_path / "run")) == timeless(report) and killed
    shards = tmp_path / "run" / "shards" / "target"
    assert sorted(path.stem for path in (shards / "guided").iterdir()) == ["110", "60"]
    assert sorted(path.stem for path in (shards / "samples").iterdir()) == ["0", "100", "50"]


def estimated(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, 100, 100)


def test_the_verdict_takes_the_stronger_and_allows_for_two_tries():
    weak = Excess(estimated(0.02, -0.01, 0.05), -0.02, 0.045, 0.1)
    strong = Excess(estimated(0.2, 0.1, 0.3), 0.08, 0.28, 0.4)
    doubtful = Excess(estimated(0.2, 0.005, 0.395), -0.01, 0.36, 0.9)  # above 0 as the only try, not as one of two
    assert verdict({"samples": weak}, 0.05).finding == "no evidence"
    found = verdict({"samples": weak, "guided samples": strong}, 0.05)
    assert found.finding == "evidence of leakage" and "target's guided samples copy 20 % [10, 30]" in found.because[0]
    found = verdict({"samples": weak, "guided samples": doubtful}, 0.05)
    assert found.finding == "inconclusive" and "samples and guided samples are not shown" in found.because[0]
    assert "by one of the figures alone they copy 20.0 %" in found.because[1]
    target, control = torch.rand(2, 1, 50, generator=torch.Generator().manual_seed(0)).double().numpy()
    one, two = excess(target, control), excess(target, control, ways=2)
    assert two.figure == one.figure and two.bound == one.bound and two.low < one.low == one.figure.low


def test_a_dry_run_counts_guided_samples():
    found = forecast(PLAN, Inputs(RECORDS, Pair(TARGET, CONTROL)), Hardware(CPU))
    assert found.queries["guided"] == found.queries["samples"] == 120
    assert found.seconds["guided"] > 0 and found.seconds["classifier"] >= 0


def test_what_cannot_be_guided_is_refused(tmp_path):
    @dataclass(frozen=True)
    class Still:
        digest: str
        evaluations: int = 1

        def sample(self, rng: Rng) -> Tensor:
            return rng.uniform(1)

        def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
            return latents[:, :, None, None].expand(-1, 1, 16, 16)

    with pytest.raises(GmiError, match="no path from noise to image"):
        audit(PLAN, tmp_path / "run", Pair(Still("a"), Still("b")))
    assert not (tmp_path / "run").exists()
    learnt = replace(PLAN, models=Trained(learner=Adversarial(latent=4, channels=(8, 8)), steps=1))
    with pytest.raises(GmiError, match="take diffusion or flow models, or leave guided out"):
        refuse(learnt, Inputs(replace(RECORDS, other=RECORDS.held_out)))
    with pytest.raises(ValueError, match="clusters must not exceed samples"):
        Side(samples=10, clusters=11)
    with pytest.raises(ValueError, match="must be fewer than the plan's samples"):
        replace(PLAN, samples=60)
