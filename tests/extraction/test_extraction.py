"""Training records out of generative models: planted copies are found, and nothing where nothing was planted."""

import json
import re
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from jsonschema import Draft202012Validator
from reference.browser import faults_everywhere, needs_browser
from reference.reports import timeless
from reference.verified import verified
from safetensors.torch import save_file
from torch import Tensor
from torchvision.utils import save_image

from gmi import cli, toy
from gmi.audits import Hardware, conduct
from gmi.cli import audits
from gmi.cli.verifying import again
from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.extraction import audit as extraction
from gmi.extraction import page
from gmi.extraction.audit import EXTRACTION
from gmi.extraction.copies import bar, cliques, copies, detail, distances, offset
from gmi.extraction.doubts import blind_spots, misplaced, unlike, unread, verbatim
from gmi.extraction.findings import _limits
from gmi.extraction.forecast import forecast
from gmi.extraction.inputs import Inputs
from gmi.extraction.knowledge import Knowledge, known, memberships, taught
from gmi.extraction.models import Given, Pair, Trained
from gmi.extraction.plan import ExtractionAudit, Inversion
from gmi.extraction.records import Photographs, Records, _refuse_shared
from gmi.extraction.side import Side
from gmi.extraction.verdict import excess, verdict
from gmi.extraction.white_box import TIMES, denoised, inverted
from gmi.metrics.conclusion import Conclusion
from gmi.metrics.rates import clopper_pearson, unseen
from gmi.metrics.statistics import Estimate
from gmi.priors.diffusion import Diffusion
from gmi.priors.gan import Dcgan, DcganShape, Gan
from gmi.priors.path import FlowPath
from gmi.rng import Rng
from gmi.run import Run
from gmi.settings import plain
from gmi.targets.authorisation import Authorisation
from gmi.training.learners import Denoising

SCHEMA = Path(page.__file__).with_name("page.schema.json").read_text("utf-8")
CPU = torch.device("cpu")


def smooth(count: int, seed: int, size: int = 16) -> Tensor:
    """Images (N, 1, S, S) as different as photographs of different people."""
    coarse = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=size, mode="bilinear")


def kept(pixels: Tensor, first: int, each: int = 1) -> Images:
    names = tuple(f"{first}-{place}" for place in range(len(pixels)))
    return Images((pixels * 255).round().byte(), first + torch.arange(len(pixels)) // each, names)


RECORDS = Records(kept(smooth(12, 0), 0, 2), None, kept(smooth(60, 1), 100))


@dataclass(frozen=True)
class Parrot:
    """A model whose samples are, with chance `share`, one of the images that it remembers, slightly blurred."""

    memory: Tensor
    share: float
    digest: str = "parrot"
    evaluations: int = 1

    def sample(self, rng: Rng) -> Tensor:
        return rng.uniform(3)

    def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        fresh = torch.cat([smooth(1, int(1e6 * one[0])) for one in latents])
        known = self.memory[(latents[:, 1] * len(self.memory)).long()]
        noisy = known + 0.02 * torch.randn(known.shape, generator=torch.Generator().manual_seed(0))
        return torch.where((latents[:, 2] < self.share)[:, None, None, None], noisy, fresh)


def test_the_distance_is_that_of_the_worst_tile():
    """Each tile lies where it is, or where it fits best by a quarter, a pixel of 16 aside at most."""
    left, right = smooth(5, 0), smooth(4, 1)
    found = distances(left, right)
    for i, j in ((0, 0), (4, 3), (2, 1)):
        padded = [F.pad(image[None], (1, 1, 1, 1), mode="replicate")[0, 0] for image in (left[i], left[i].flip(-1))]

        def of_tile(image, y, x, j=j):
            """The least of nine differences."""
            tile = right[j, 0, y : y + 4, x : x + 4]
            moved = [image[y + a : y + a + 4, x + b : x + b + 4] for a in range(3) for b in range(3)]
            return min((each - tile).square().mean().sqrt().item() for each in moved)

        worst = [max(of_tile(image, y, x) for y in range(0, 16, 4) for x in range(0, 16, 4)) for image in padded]
        still = F.avg_pool2d((left[i] - right[j]).square().mean(0, keepdim=True), 4).max().sqrt().item()
        assert found[i, j].item() == pytest.approx(min(still, 4 / 3 * min(worst)), rel=1e-5)


def test_a_copy_that_is_moved_or_zoomed_is_a_copy():
    records, held = smooth(10, 0, size=48), smooth(50, 1, size=48)
    moved = F.pad(records, (2, 0, 2, 0), mode="replicate")[..., :48, :48]
    zoomed = F.interpolate(records, scale_factor=1.1, mode="bilinear")[..., 2:50, 2:50]
    for samples in (moved, zoomed, moved.flip(-1)):
        found = copies(samples, records, held, 5)
        assert found.nearest.tolist() == [*range(10)] and (found.ratio < 0.5).all()
    assert (copies(smooth(50, 2, size=48), records, held, 5).ratio > 0.5).all()


def test_a_copy_is_nearer_than_held_out_images_are():
    records, held = smooth(10, 0), smooth(50, 1)
    samples = torch.cat([records[[3, 3, 7]] + 0.01, smooth(20, 2)])
    found = copies(samples, records, held, 5)
    assert found.nearest[:3].tolist() == [3, 3, 7] and (found.ratio[:3] < 0.1).all() and (found.ratio[3:] > 0.5).all()
    apart = distances(samples, held)[4].sort().values[:5].mean()
    assert found.ratio[4] == pytest.approx((distances(samples, records)[4].min() / apart).item(), rel=1e-5)
    assert found.of_records(10, 0.5).tolist() == [0, 0, 0, 2, 0, 0, 0, 1, 0, 0]


def test_what_no_model_saw_says_how_near_a_copy_is():
    records, held = smooth(10, 0), smooth(50, 1)
    alike = records[torch.arange(200) % 10] * 0.7 + smooth(200, 3) * 0.3
    found = bar(alike, records, held, 5)
    ratios = copies(alike, records, held, 5).ratio
    assert (ratios < found).sum() == 2 and found < 0.5  # 1 % of 200
    assert bar(alike[:40], records, held, 5) == copies(alike[:40], records, held, 5).ratio.min()


def test_a_control_that_has_seen_the_records_acquits_no_weights():
    """An earlier checkpoint, perhaps: relative to it the target knows nothing more."""
    rng, count = np.random.default_rng(0), 300
    training, alike = (kept(smooth(count, seed), 0) for seed in (0, 1))
    records = SimpleNamespace(training=training, held_out=kept(smooth(5, 2), count), alike=alike)
    member = np.arange(2 * count + 5) < count
    usual = np.abs(rng.normal(1, 0.15, len(member)))

    def model(seen: bool) -> Knowledge:
        return {"denoising": -usual * np.where(member & seen, 0.75, 1) * np.exp(rng.normal(0, 0.05, len(member)))}

    def found(target: bool, control: bool) -> Conclusion | None:
        seeds = [{"target": model(target), "control": model(control)}]
        rows = list(memberships(records, seeds, (0.1,)))  # type: ignore[arg-type]
        return known(rows, 0.2, taught(records, seeds))  # type: ignore[arg-type]

    one, both, none = found(True, False), found(True, True), found(False, False)
    assert one is not None and one.finding == "evidence of leakage"
    assert both is not None and both.finding == "inconclusive"
    assert "the control tells records from them" in both.because[-1]
    assert none is not None and none.finding == "no evidence"


def test_samples_that_are_made_again_and_again_form_groups():
    planted = smooth(2, 0)
    noise = 0.01 * torch.randn(11, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    samples = torch.cat([planted[[0] * 7 + [1] * 4] + noise, smooth(20, 2)])
    found = cliques(samples, smooth(50, 1), 5, 0.5, 3)
    assert [sorted(one) for one in found] == [list(range(7)), list(range(7, 11))]
    assert cliques(samples, smooth(50, 1), 5, 0.5, 5) == [found[0]]
    assert cliques(smooth(30, 3), smooth(50, 1), 5, 0.5, 2) == []


def test_latents_are_found_of_what_a_prior_can_make_and_not_of_other_images():
    prior = toy.prior()
    with torch.no_grad():
        own = prior.decode(prior.sample(Rng(range(6))))
    other = torch.rand(own.shape, generator=torch.Generator().manual_seed(0))
    near, far = (inverted(prior, some, Rng(range(10, 16)), 150, 0.1) for some in (own, other))
    assert near.max() < 0.2 * far.min()
    alone = torch.cat([inverted(prior, own[[one]], Rng([10 + one]), 20, 0.1) for one in range(6)])
    torch.testing.assert_close(alone, inverted(prior, own, Rng(range(10, 16)), 20, 0.1), rtol=1e-4, atol=1e-6)


class Gaussian:
    """The posterior mean of images whose pixels are normal around `mean` with spread `sd`, in [-1, 1]."""

    path = FlowPath()

    def __init__(self, mean: float, sd: float) -> None:
        self.mean, self.sd = mean, sd

    def denoise(self, noisy: Tensor, time: float) -> Tensor:
        signal, level = self.path.levels(time)
        gain = signal * self.sd**2 / ((signal * self.sd) ** 2 + level**2)
        return self.mean + gain * (noisy - signal * self.mean)

    def sample(self, rng: Rng) -> Tensor:
        return rng.normal(1, 32, 32)

    def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
        return latents

    def image(self, clean: Tensor) -> Tensor:
        return clean


def test_the_denoising_loss_of_a_gaussian_is_its_closed_form():
    prior, offset = Gaussian(0.2, 0.3), 0.5
    image = torch.full((1, 1, 32, 32), (0.2 + offset + 1) / 2)  # off the mean by `offset`
    wanted, errors = 0.0, []
    for time in TIMES:
        signal, level = 1 - time, time
        gain = signal * 0.09 / (signal**2 * 0.09 + level**2)
        clean = (1 - gain * signal) ** 2 * offset**2 + gain**2 * level**2  # error of the clean image
        wanted += clean / time**2 / len(TIMES)  # velocity: (noisy - clean) / time
        errors.append(clean / time**2)
    found = denoised(prior, image, Rng([0]), 8)  # pyright: ignore[reportArgumentType]
    assert found.item() == pytest.approx(wanted, rel=0.03)  # 1,024 pixels, 8 draws, 6 times: about 1 %
    assert max(errors) < 0.5 * sum(errors)  # no time decides alone
    usual = denoised(prior, torch.full((1, 1, 32, 32), 0.6), Rng([0]), 8)  # pyright: ignore[reportArgumentType]
    assert usual.item() < found.item()


PLAN = ExtractionAudit(
    name="toy",
    data=Photographs(name="toy", folder="toy", held_out="others", size=16, grey=True),
    models=Given(target=Gan(folder="a"), control=Gan(folder="b")),
    samples=120,
    neighbours=5,
    clique=4,
    inversion=Inversion(steps=0),
)


def audit(plan: ExtractionAudit, folder: Path, inputs: Inputs | None = None) -> dict:
    """The report."""
    assert conduct(EXTRACTION, plan, folder, Hardware(CPU), inputs) == folder / "extraction.html"
    report = json.loads((folder / "extraction.json").read_text())
    Draft202012Validator(json.loads(SCHEMA)).validate(report)
    return report


def examined(target, folder: Path, records: Records = RECORDS, **changes) -> dict:
    pair = Pair(target, Parrot(smooth(12, 5), 0.5, "control"))
    return audit(replace(PLAN, **changes), folder, Inputs(records, pair))


def test_a_measure_that_is_new_is_reported_under_its_own_name(tmp_path, monkeypatch):
    def distances(plan, prior, images, first, seed, hardware):
        light = images.float().mean((1, 2, 3)) + prior.memory.mean()
        return {"brightness": light, "inversion": 2 * light}

    monkeypatch.setattr(extraction, "_distances", distances)
    report = examined(Parrot(smooth(12, 6), 0.5), tmp_path)
    methods = list(dict.fromkeys(row["method"].split(",")[0] for row in report["white_box"]))
    assert methods == ["inversion", "brightness"]
    assert "brightness, relative to the control" in (tmp_path / "extraction.html").read_text()


def test_a_model_that_repeats_its_records_is_found_out(tmp_path):
    report = examined(Parrot(RECORDS.training.pixels, 0.5), tmp_path)
    rows = {row["role"]: row for row in report["rows"]}
    assert report["verdict"]["finding"] == "evidence of leakage"
    assert rows["target"]["copies"]["low"] < 0.5 < rows["target"]["copies"]["high"] and rows["target"]["records"] == 12
    assert rows["control"]["records"] == rows["held-out"]["records"] == 0
    assert rows["target"]["cliques"] >= 6 and rows["target"]["clique_hits"] == rows["target"]["cliques"]
    assert rows["control"]["cliques"] > 0 == rows["control"]["clique_hits"]  # it repeats itself, but not these records
    assert sum(report["copies_by_record"]) == round(rows["target"]["copies"]["value"] * 120)
    text = (tmp_path / "extraction.html").read_text()
    assert "Training records out of a generative model" in text and "AML.T0024.000" in text
    assert (tmp_path / "copies.png").stat().st_size > 0


def test_a_model_that_never_saw_the_records_shows_none(tmp_path):
    report = examined(Parrot(smooth(12, 6), 0.5), tmp_path, notable=0.5)
    assert report["verdict"]["finding"] == "no evidence" and not any(report["copies_by_record"])


def judged(target: np.ndarray, control: np.ndarray, notable: float = 0.05) -> Conclusion:
    """The verdict on shares (S, P) of each person's records that the two models copy."""
    return verdict({"samples": excess(target, control)}, notable, len(target))


@pytest.mark.parametrize("people", [10, 50, 58, 59, 60, 100])
def test_copies_by_the_control_acquit_nobody(people: int):
    """Where none copies anything, 59 people are needed; a control that copies a record excludes no more."""
    nothing = np.zeros((1, people))
    said = judged(nothing, nothing)
    assert said.finding == ("no evidence" if people >= 59 else "inconclusive")
    for copied in (1, 2, 5):
        for share in (0.5, 1.0):
            control = np.where(np.arange(people) < copied, share, 0.0)[None]
            if people < 59:
                assert judged(nothing, control).finding == "inconclusive"
    if people < 59:
        assert f"about 59 people would exclude it four times in five; here are {people}." in said.because[-1]
        assert f"They may copy up to {100 * unseen(people):.1f} % more, and 5 % is notable." in said.because[1]


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_notable_excess_is_seldom_cleared_and_none_seldom_accused(seeds: int):
    """Records that are copied hang together by seed, and the control copies one in fifty, too."""
    rng = np.random.default_rng(0)

    def copied(rate: float) -> np.ndarray:
        always = rng.uniform(size=(1, 150))
        return (0.5 * always + 0.5 * rng.uniform(size=(seeds, 150)) < (rate / 2) ** 0.5).astype(float)

    leak = [judged(copied(0.12), copied(0.02), 0.1).finding for _ in range(300)]
    assert leak.count("no evidence") <= 0.07 * 300
    none = [judged(copied(0.02), copied(0.02), 0.1).finding for _ in range(300)]
    assert none.count("evidence of leakage") <= 0.05 * 300 and none.count("no evidence") > 0.8 * 300


def test_a_few_records_that_are_copied_often_are_no_acquittal():
    """Three of 200 people, in 300 of 1,000 samples; a mean over people hides them. So do too few samples, or a control
    that has seen the records, too."""

    def share(count: int, of: int) -> Estimate:
        return Estimate(count / of, *clopper_pearson(count, of), of, of)

    few = excess((np.arange(200) < 3)[None].astype(float), np.zeros((1, 200)))
    none, often, fresh = share(0, 1000), share(300, 1000), share(0, 200)
    assert verdict({"samples": few}, 0.05).finding == "no evidence"
    cases = {
        "few records are copied, and these often": blind_spots(1000, 200, 0.05, (often, none), (fresh, fresh)),
        "50 samples can show too few": blind_spots(50, 200, 0.05, (none, none), (fresh, fresh)),
        "500 samples can show too few.*make 1,000": blind_spots(500, 10_000, 0.05, (none, none), (fresh, fresh)),
        "seems to have seen them": blind_spots(1000, 200, 0.05, (none, none), (share(40, 200), fresh)),
    }
    for words, doubts in cases.items():
        said = verdict({"samples": few}, 0.05, doubts=[*doubts])
        assert said.finding == "inconclusive" and re.search(words, said.because[1]), words
    assert list(blind_spots(1000, 200, 0.05, (none, none), (fresh, fresh))) == []
    assert list(blind_spots(1000, 200, 0.05, (share(1, 1000), none), (share(1, 200), fresh))) == []


def test_records_that_are_copied_beyond_doubt_are_no_acquittal():
    """One in 200, as near as only a copy is."""
    (said,) = verbatim(0.05, 0.5, 0.42)
    assert "a sample is at a ratio of 0.05 to a record, and what cannot be a copy comes no nearer than 0.42" in said
    assert [*verbatim(0.4, 0.5, 0.42)] == [*verbatim(0.05, 0.04, 0.42)] == []


def test_folders_that_are_swapped_are_told():
    """The target repeats what it is said not to have learnt from."""
    some, none = Estimate(0.9, 0.8, 0.95, 50, 50), Estimate(0.0, 0.0, 0.06, 50, 50)
    (said,) = misplaced({"data.held_out": none, "data.alike": some}, none)
    assert "copies 90% of the images of data.alike" in said and "folders are not swapped" in said
    assert [*misplaced({"data.held_out": some}, some)] == []


@pytest.mark.parametrize(
    "samples", ["the target's", "grey", "noise", "blurred", "BGR", "inverted", "in [-1, 1]", "darker", "turned"]
)
def test_samples_that_show_nothing_acquit_no_model(samples):
    """A sampler that is broken, or takes too few steps, shows no copy of what the model knows."""
    tint = torch.tensor([1.0, 0.8, 0.5])[:, None, None]
    shade = torch.linspace(0.4, 1, 16)[:, None]  # light from below, as faces have theirs from above
    pictures, own, photographs = (smooth(count, seed) * tint * shade for count, seed in ((12, 6), (12, 7), (50, 1)))
    shown = {
        "the target's": own,
        "BGR": own.flip(1),
        "inverted": 1 - own,
        "in [-1, 1]": (2 * own - 1).clamp(0, 1),
        "darker": own / 2,
        "turned": own.transpose(2, 3),
        "grey": torch.full_like(pictures, 0.5),
        "noise": torch.rand(pictures.shape, generator=torch.Generator().manual_seed(0)),
        "blurred": F.interpolate(F.adaptive_avg_pool2d(pictures, 2), pictures.shape[-2:], mode="bilinear"),
    }
    fine = {"target": detail(shown[samples]), "control": detail(pictures), "held-out": detail(photographs)}
    off = {"target": offset(shown[samples], photographs), "records": offset(pictures, photographs)}
    said = [*unlike(fine, off)]
    assert bool(said) == (samples != "the target's") == ("a copy would not be seen" in "".join(said))


def test_one_record_of_many_people_is_no_mean_over_their_records():
    """Of 200 people with 20 records, one record of every fourth is copied: little of the records, and many people."""
    copied, nothing = np.where(np.arange(200) < 55, 1 / 20, 0.0)[None], np.zeros((1, 200))
    records, people = (excess(of(copied), nothing, 2) for of in (np.asarray, np.ceil))
    assert verdict({"samples": records}, 0.05).finding == "no evidence"
    said = verdict({"samples": records}, 0.05, people={"samples": people})
    assert said.finding == "evidence of leakage" and "copy a record of 28 % [" in said.because[0]
    few = np.where(np.arange(100) < 2, 1 / 20, 0.0)[None]
    records, people = (excess(of(few), nothing[:, :100], 2) for of in (np.asarray, np.ceil))
    said = verdict({"samples": records}, 0.05, people={"samples": people})
    assert said.finding == "inconclusive" and "a record of up to" in said.because[1]
    unsure = np.where(np.arange(400) < 4, 1.0, 0.0)[None]  # of one record each, and by one of two figures alone
    once, twice = (excess(unsure, np.zeros((1, 400)), tests) for tests in (1, 2))
    assert verdict({"samples": once}, 0.05).finding == "evidence of leakage"
    assert verdict({"samples": twice}, 0.05).finding == "inconclusive"
    nobody = excess(nothing, nothing, 2)
    assert verdict({"samples": nobody}, 0.05, people={"samples": nobody}).finding == "no evidence"


def test_a_mirrored_record_is_a_copy(tmp_path):
    report = examined(Parrot(RECORDS.training.pixels.flip(-1), 0.5), tmp_path)
    assert report["verdict"]["finding"] == "evidence of leakage" and report["rows"][0]["records"] == 12


def test_a_record_among_other_photographs_acquits_nobody(tmp_path):
    """One of them, in another file: nothing is near enough to be a copy then, and the audit says that it is blind."""
    training = RECORDS.training
    others = [smooth(6, seed) for seed in range(30, 36)]
    alike = kept(torch.cat([training.pixels[:1] + 1 / 255, *others]).clamp(0, 1), 0, 1)
    records = replace(RECORDS, alike=replace(alike, classes=alike.classes % 6))
    report = examined(Parrot(training.pixels, 0.5), tmp_path / "blind", records, notable=0.9)
    assert report["recall"] < 0.1 and report["verdict"]["finding"] == "inconclusive"
    assert "too strict here" in report["verdict"]["because"][1]
    assert examined(Parrot(training.pixels, 0.5), tmp_path / "sees")["recall"] == 1.0
    named = {
        part: replace(images, digests=tuple(f"{part} {number}" for number in range(len(images))))
        for part in ("training", "held_out", "alike")
        if (images := getattr(records, part)) is not None
    }
    with pytest.raises(GmiError, match="1 photographs that are alike are records once more, in another file"):
        _refuse_shared(replace(records, other=None, **named))
    _refuse_shared(replace(records, other=None, **named | {"alike": None}))


def test_each_seed_makes_other_samples_and_a_record_counts_once_for_each(tmp_path):
    parrot = Parrot(RECORDS.training.pixels[:6], 0.1)
    both, one, other = (
        examined(parrot, tmp_path / str(number), seeds=seeds) for number, seeds in enumerate(((0, 3), (0,), (3,)))
    )
    first, *_ = both["rows"]
    singles = [report["rows"][0] for report in (one, other)]
    assert first["copies"]["value"] == pytest.approx(np.mean([row["copies"]["value"] for row in singles]))
    assert singles[0]["copies"]["value"] != singles[1]["copies"]["value"] and first["originals"]["people"] == 6
    assert first["originals"]["value"] == pytest.approx(np.mean([row["originals"]["value"] for row in singles]))
    assert sum(both["copies_by_record"]) == sum(sum(report["copies_by_record"]) for report in (one, other))
    assert "over 6 people, 2 seeds" in both["verdict"]["because"][0] and both["seeds"] == [0, 3]
    assert "over 6 people, one seed" in one["verdict"]["because"][0]
    assert "2 seeds, each with as many samples" in (tmp_path / "0" / "extraction.html").read_text()
    with pytest.raises(ValueError, match="the same seed twice"):
        replace(PLAN, seeds=(1, 1))


def test_pictures_of_a_person_are_no_copies_of_a_record(tmp_path):
    """A model that makes new pictures of the people whom it learnt from, and one that repeats their photographs."""
    face = RECORDS.training.pixels
    pictures = [0.7 * face + 0.3 * smooth(12, seed) for seed in range(20, 28)]
    alike = kept(torch.cat(pictures[:6]), 0, 2)
    records = replace(RECORDS, alike=replace(alike, classes=alike.classes % 6))
    fresh = Parrot(torch.cat(pictures[6:]), 0.5)
    without = examined(fresh, tmp_path / "without")
    assert without["verdict"]["finding"] == "evidence of leakage" and without["ratio"] == 0.5
    report = examined(fresh, tmp_path / "with", records, notable=0.5)
    assert report["verdict"]["finding"] == "no evidence" and report["ratio"] < 0.5 and report["records"]["alike"] == 72
    assert [row["role"] for row in report["rows"]] == ["target", "control", "held-out", "alike"]
    report = examined(Parrot(face, 0.5), tmp_path / "copies", records)
    rows = {row["role"]: row for row in report["rows"]}
    assert report["verdict"]["finding"] == "evidence of leakage" and rows["target"]["records"] == 12
    assert rows["alike"]["records"] < 0.1 * 72


def test_records_that_are_not_read_are_told(tmp_path):
    where = Path(faces(tmp_path / "all", 6, 2, 0))
    photographs = Photographs(name="toy", folder=str(where), held_out=2, size=16, grey=True)
    assert photographs.load().left_out == ()
    (where / "p01" / "more.heic").write_bytes(b"0")
    records = photographs.load()
    assert records.left_out == ("all/p01/more.heic: .heic is not read",)
    plan = SimpleNamespace(samples=100, seeds=(0, 1))
    assert [*_limits(plan, records)][1].startswith(
        "Of the files in the folders 1 were not read as images (such as all/p01"
    )  # type: ignore[arg-type]
    (said,) = unread(records, 0.05)  # a share that is notable
    assert said.startswith(f"1 files beside {len(records.training)} records were not read (such as all/p01/more.heic")
    assert [*unread(records, 0.2)] == [*unread(replace(records, left_out=()), 0.05)] == []
    (tmp_path / "linked").mkdir()
    for person in where.iterdir():
        (tmp_path / "linked" / person.name).symlink_to(person)
    linked = replace(photographs, folder=str(tmp_path / "linked")).load()
    assert len(linked.training) == len(records.training) and len(linked.left_out) == 1
    for image in (where / "p02").iterdir():
        image.rename(image.with_suffix(".gif"))
    with pytest.raises(GmiError, match=r"p02 holds no image \(but \.gif: convert these to JPEG or PNG\)"):
        photographs.load()


def test_samples_do_not_depend_on_their_batch(tmp_path):
    one, other = (examined(Parrot(smooth(12, 6), 0.5), tmp_path / str(batch), batch=batch) for batch in (50, 7))
    assert [row["smallest_ratio"] for row in one["rows"]] == pytest.approx(
        [row["smallest_ratio"] for row in other["rows"]], rel=1e-3
    )  # a sample's byte may be rounded otherwise


def faces(folder: Path, people: int, each: int, seed: int) -> str:
    for person in range(people):
        place = folder / f"p{person:02}"
        place.mkdir(parents=True)
        for number, image in enumerate(smooth(each, 1000 * seed + person)):
            save_image(image, place / f"{number}.png")
    return str(folder)


def miniature(folder: Path, **changes) -> ExtractionAudit:
    """Everything that configs/extract_orl.yaml does, on a few small images."""
    data = Photographs(
        name="toy", folder=faces(folder, 9, 3, 1), held_out=4, other=2, images=2, alike=1, size=16, grey=True
    )
    learner = Denoising(type="flow", channels=(8, 8), layers=1, attention=(), groups=4, steps=2)
    models = Trained(learner=learner, steps=3)
    return replace(PLAN, data=data, models=models, samples=6, batch=4, inversion=Inversion(steps=2, draws=1), **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[ExtractionAudit, Path, dict]:
    """The audit in miniature, with guided samples, its folder and its report."""
    folder = tmp_path_factory.mktemp("trained")
    plan = miniature(folder / "faces", guided=Side(samples=3, clusters=2, steps=2))
    return plan, folder / "run", audit(plan, folder / "run")


def test_a_model_and_its_control_are_trained_and_inverted(trained, tmp_path):
    """End to end: the figures are for configs/extract_orl.yaml to give."""
    plan, folder, report = trained
    assert report["records"] == {"training": 6, "people": 3, "held-out": 8, "alike": 3}
    methods = [
        f"{method}{beside}" for method in ("inversion", "denoising") for beside in ("", ", relative to the control")
    ]
    for other in ("held-out", "alike"):
        assert [row["method"] for row in report["white_box"] if row["comparison"] == other] == methods
    weights = folder / "shards" / "models" / "target.safetensors"
    before = weights.stat().st_mtime_ns
    assert report["guided"]["learnt"] == 3 and {row["copies"]["n"] for row in report["rows"]} == {6}
    assert timeless(audit(plan, folder)) == timeless(report)
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(GmiError, match=r"data\.other: a control that is trained here needs people of its own"):
        audit(replace(plan, data=replace(plan.data, other=0)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_each_seed_trains_both_models_anew(trained, tmp_path):
    plan, _, report = trained
    both = audit(replace(plan, seeds=(0, 1)), tmp_path / "run")
    assert list(both["models"]) == ["target", "control", "target, seed 1", "control, seed 1"]
    assert len({*both["models"].values()}) == 4 and both["models"]["target"] == report["models"]["target"]
    assert (tmp_path / "run" / "shards" / "seed-1" / "models" / "target.safetensors").exists()
    twice, once = (
        forecast(each, Inputs(each.data.load()), Hardware(CPU)) for each in (replace(plan, seeds=(0, 1)), plan)
    )
    assert twice.queries == {step: 2 * count for step, count in once.queries.items()}
    assert "The records are of 3 people: even if none is copied, 63 %" in once.notes[1] and "takes 59." in once.notes[1]


def in_two_processes(plan: ExtractionAudit, folder: Path) -> None:
    AcceleratorState._reset_state(True)  # a forked process starts with its parent's idea of how many there are
    cli.accelerator()
    conduct(EXTRACTION, plan, folder, Hardware(CPU))


def test_two_processes_write_what_one_writes(trained, tmp_path):
    plan, alone, report = trained
    debug_launcher(in_two_processes, args=(plan, tmp_path / "run"), num_processes=2)
    both = json.loads((tmp_path / "run" / "extraction.json").read_text())
    assert both["provenance"]["processes"] == 2
    assert timeless(both, "processes") == timeless(report, "processes")
    first, second = (
        sorted(path.relative_to(run).as_posix() for path in run.rglob("*.*")) for run in (alone, tmp_path / "run")
    )
    assert first == second and "copies.png" in first


def test_a_dry_run_counts_the_queries_and_makes_nothing(tmp_path, capsys):
    plan, config = miniature(tmp_path / "faces"), tmp_path / "toy.yaml"
    config.write_text(json.dumps(plain(plan)))
    audits.main(EXTRACTION, "extract", [str(config), "--dry-run", "--out", str(tmp_path / "run")])
    text = capsys.readouterr().out
    queries = {line.split()[0]: line.split()[1] for line in text.splitlines() if len(line.split()) == 3}
    asked = 6 + 8 + 3
    expected = {"samples": "6", "inversion": f"{asked * 3}", "denoising": f"{asked * 6}", "train": "0"}
    assert expected.items() <= queries.items()
    assert "other: 2" in text and "to compare the samples" in text and not (tmp_path / "run").exists()
    with pytest.raises(GmiError, match="needs people of its own"):
        audits.main(EXTRACTION, "extract", [str(config), "--dry-run", "--data.other", "0"])


def test_models_of_another_size_are_refused_before_any_work(tmp_path):
    records = replace(RECORDS, training=kept(smooth(12, 0, 32), 0, 2))
    with pytest.raises(GmiError, match=r"set data\.size and data\.grey as it has them"):
        examined(Parrot(smooth(12, 6), 0.5), tmp_path / "run", records)
    assert not (tmp_path / "run").exists()


def test_the_page_says_who_allowed_the_audit(tmp_path):
    allowed = Authorisation(system="a face generator", allowed_by="the head of research", until=date(2999, 1, 1))
    report = examined(Parrot(smooth(12, 6), 0.5), tmp_path / "run", authorisation=allowed)
    assert report["authorisation"]["system"] == "a face generator" and report["assets"] == []
    assert "the head of research" in (tmp_path / "run" / "extraction.html").read_text()
    with pytest.raises(GmiError, match="The authorisation ended on"):
        late = replace(allowed, until=date(2020, 1, 1))
        examined(Parrot(smooth(12, 6), 0.5), tmp_path / "late", authorisation=late)


def test_people_are_in_one_part_and_mistakes_are_told(tmp_path):
    folder = faces(tmp_path / "faces", 8, 2, 1)
    data = Photographs(name="toy", folder=folder, held_out=3, other=2, size=16, grey=True)
    found = data.load()
    assert found.other is not None
    assert [len(some) for some in (found.training, found.other, found.held_out)] == [6, 4, 6]
    parts = [set(some.classes.tolist()) for some in (found.training, found.other, found.held_out)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and found.training.bytes.shape[1] == 1
    with pytest.raises(GmiError, match="leave fewer than two"):
        replace(data, held_out=6).load()
    with pytest.raises(GmiError, match=r"data\.held_out: .* of its images a control is trained on, too"):
        replace(data, held_out=folder, other=5).load()
    with pytest.raises(GmiError, match="two people or more must be held out"):
        replace(data, held_out=1, images=1).load()
    with pytest.raises(GmiError, match="there are no more photographs of the people"):
        replace(data, images=2, alike=1).load()
    with pytest.raises(ValueError, match="without images every photograph is learnt from"):
        replace(data, alike=1)
    with pytest.raises(GmiError, match="set aside some"):
        learner = Denoising(type="flow", channels=(8, 8), layers=1, attention=(), groups=4)
        Trained(learner=learner, steps=1).learn(found.training, None, Run.open(tmp_path / "r", {}), CPU, 0)
    with pytest.raises(GmiError, match="There is no prior folder"):
        elsewhere = replace(data, held_out=faces(tmp_path / "others", 2, 2, 5), other=0)
        audit(replace(PLAN, data=elsewhere), tmp_path / "run")
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, image in enumerate(smooth(5, 0)):
        save_image(image, flat / f"{number}.png")
    alone = Photographs(name="toy", folder=str(flat), held_out=2, size=16).load()
    assert len(np.unique(alone.training.classes)) == 3 and alone.training.bytes.shape[1] == 3


def gan(folder: Path, seed: int) -> None:
    """A folder of a GAN of grey images of 16 pixels that learnt nothing."""
    shape: dict = {"latent": 4, "channels": [4, 4], "size": 16, "colours": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Dcgan(DcganShape(type="dcgan", **shape))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"type": "dcgan", **shape}))
    save_file(network.state_dict(), folder / "model.safetensors")


def test_given_models_are_audited_and_others_are_no_part_of_their_run(tmp_path):
    """GAN folders, and a run that was begun with another model's weights."""
    data = Photographs(
        name="toy",
        folder=faces(tmp_path / "faces", 4, 2, 1),
        held_out=faces(tmp_path / "others", 4, 2, 2),
        alike=faces(tmp_path / "more", 3, 2, 3),
        size=16,
        grey=True,
    )
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        gan(tmp_path / name, seed)
    plan = replace(
        PLAN,
        data=data,
        models=Given(target=Gan(folder=str(tmp_path / "a")), control=Gan(folder=str(tmp_path / "b"))),
        samples=6,
        inversion=Inversion(steps=1),
    )
    report = audit(plan, tmp_path / "run")
    assert {row["method"] for row in report["white_box"]} == {"inversion", "inversion, relative to the control"}
    assert report["records"] == {"training": 8, "people": 4, "held-out": 8, "alike": 6}
    with pytest.raises(ValueError, match=r"learnt from all of data\.folder"):
        replace(plan, data=replace(data, held_out=2))
    (tmp_path / "a").rename(tmp_path / "old")
    (tmp_path / "c").rename(tmp_path / "a")
    with pytest.raises(GmiError, match=r"holds a run of another configuration .*target"):
        audit(plan, tmp_path / "run")
    with pytest.raises(GmiError, match="is the target itself"):
        Given(target=Gan(folder=str(tmp_path / "a")), control=Gan(folder=str(tmp_path / "a"))).load(CPU)
    with pytest.raises(GmiError, match="of another kind"):
        Given(target=Gan(folder=str(tmp_path / "a")), control=Diffusion(folder=str(tmp_path / "a"))).load(CPU)
    with pytest.raises(GmiError, match=r"models.control takes 20 steps, and models.target 1: "):
        Given(target=Diffusion(folder="a", steps=1), control=Diffusion(folder="b")).load(CPU)


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    with pytest.raises(GmiError, match="NaN or infinity"):
        examined(Parrot(torch.full((12, 1, 16, 16), torch.nan), 0.5), tmp_path)


def test_models_of_pixels_and_of_latents_are_not_compared(tmp_path):
    size = RECORDS.training.bytes.shape[-1]

    @dataclass(frozen=True)
    class Pixels(Parrot):
        path = FlowPath()

        def sample(self, rng: Rng) -> Tensor:
            return rng.normal(1, size, size)

        def decode(self, latents: Tensor, classes: Tensor | None = None) -> Tensor:
            return latents

        def denoise(self, noisy: Tensor, time: float) -> Tensor:
            return noisy

        def image(self, clean: Tensor) -> Tensor:
            return clean

    with pytest.raises(GmiError, match="one works on pixels and the other on latents"):
        examined(Pixels(RECORDS.training.pixels, 0.5), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))  # refused before any work


def test_other_photographs_are_found_by_the_persons_name(tmp_path):
    """Also where they lie deeper, and where the other folder has other people as well."""
    folder = faces(tmp_path / "faces", 4, 2, 1)
    for name, seed in (("p02", 7), ("p09", 8)):
        deeper = tmp_path / "more" / name / "unseen"
        deeper.mkdir(parents=True)
        save_image(smooth(1, seed), deeper / "0.png")
    held = faces(tmp_path / "others", 2, 1, 2)
    found = Photographs(
        name="toy", folder=folder, held_out=held, alike=str(tmp_path / "more"), size=16, grey=True, seed=1
    ).load()
    assert found.alike is not None and len(found.alike) == 1
    person = found.alike.classes.item()
    mine = [digest for digest, one in zip(found.training.digests, found.training.classes, strict=True) if one == person]
    alone = Photographs(name="toy", folder=folder, held_out=held, size=16, grey=True, seed=1).load()
    pictures = [sha256((tmp_path / "faces" / "p02" / f"{one}.png").read_bytes()).hexdigest() for one in (0, 1)]
    assert sorted(mine) == sorted(pictures) and alone.alike is None


@pytest.mark.slow
@needs_browser
def test_the_page_has_no_violation_and_fits_the_screen(trained):
    assert faults_everywhere(trained[1] / "extraction.html") == []


def test_figures_come_again_from_the_pieces(trained):
    plan, folder, _ = trained
    loaded = EXTRACTION.load(plan, Hardware(CPU))
    verified(EXTRACTION, plan, loaded, folder, lambda report: report.update(samples=7), "samples")
    clusters = folder / "shards" / "target" / "clusters.safetensors"
    content = clusters.read_bytes()
    clusters.unlink()
    (found,) = again(EXTRACTION, plan, loaded, folder, json.loads((folder / "extraction.json").read_text()))
    assert found.outcome == "not checked" and "target/clusters is not among the pieces" in found.why
    clusters.write_bytes(content)
