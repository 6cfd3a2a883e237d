"""An audit of what a generative model gives away of its training records, beside a model that never saw them.

Both make as many samples. A sample is a copy of a record where it is far nearer to it than held-out images are; what
the control's samples copy of the same records is chance. Then the white box: whether either model knows a given image.
"""

import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import TypeGuard

import torch
from pydantic import JsonValue
from torch import Tensor
from torchvision.utils import save_image

from gmi.errors import GmiError
from gmi.extraction.copies import copies
from gmi.extraction.findings import Told, compose
from gmi.extraction.models import Given, Pair
from gmi.extraction.page import render
from gmi.extraction.plan import ExtractionAudit
from gmi.extraction.records import Records
from gmi.extraction.white_box import denoised, inverted
from gmi.protocols import Denoiser, Prior
from gmi.rng import Rng, seed_of
from gmi.run import Run
from gmi.settings import plain


def audit(plan: ExtractionAudit, folder: Path, device: torch.device) -> Path:
    """As `examine`, on what the configuration names; models that it trains lie in the folder, too."""
    records = plan.data.load()
    inputs: dict[str, JsonValue] = {"gmi": version("gmi"), "data": records.digest}
    if isinstance(plan.models, Given):
        pair = plan.models.load(device)
        run = Run.open(folder, {"extraction": plain(plan), "inputs": {**inputs, **pair.digests}})
    else:
        run = Run.open(folder, {"extraction": plain(plan), "inputs": inputs})
        pair = plan.models.learn(records.trained, records.other, run, device)
    return examine(plan, records, pair, run, device)


def examine(plan: ExtractionAudit, records: Records, pair: Pair, run: Run, device: torch.device) -> Path:
    """Does what is not there yet, writes extraction.json and extraction.html, and returns the page.

    Raises GmiError where the models' images are not of the records' shape, or not finite.
    """
    for name, prior in vars(pair).items():
        _refuse_misfit(name, prior, records)
    if _denoises(pair.target, records) != _denoises(pair.control, records):
        raise GmiError(
            "models: one works on pixels and the other on latents: take a control of the same kind as the target."
        )
    told = {name: _told(plan, run, name, prior, records, device) for name, prior in vars(pair).items()}
    report = compose(plan, records, pair, told)
    _pictures(run, records, told, plan)
    run.write("extraction.json", (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    return render(run.folder)


def _told(plan: ExtractionAudit, run: Run, name: str, prior: Prior, records: Records, device: torch.device) -> Told:
    samples = run.each(
        [f"{name}/samples/{start}" for start in range(0, plan.samples, plan.batch)],
        lambda names: [_sampled(plan, prior, int(one.rpartition("/")[2])) for one in names],
        f"{name}: samples",
    )
    asked = torch.cat([some.bytes for some in (records.trained, records.held_out, records.alike) if some is not None])
    knows = run.each(
        [f"{name}/knows/{start}" for start in range(0, len(asked), plan.batch)],
        lambda names: [_knows(plan, prior, records, asked, int(one.rpartition("/")[2]), device) for one in names],
        f"{name}: inversion",
    )
    return Told(
        torch.cat([one["samples"] for one in samples]),
        {
            method: -torch.cat([one[method] for one in knows]).double().numpy()
            for method in ("inverted", "denoised")
            if all(method in one for one in knows)
        },
    )


@torch.no_grad()
def _refuse_misfit(name: str, prior: Prior, records: Records) -> None:
    made, wanted = prior.decode(prior.sample(Rng([0]))).shape[1:], records.trained.bytes.shape[1:]
    if made != wanted:
        raise GmiError(
            f"models.{name} makes images of shape {tuple(made)}, and the records are {tuple(wanted)}: set data.size "
            "and data.grey as it has them."
        )


def _denoises(prior: Prior, records: Records) -> TypeGuard[Denoiser]:
    """Whether it says what is behind noisy images themselves, not behind noisy latents."""
    return isinstance(prior, Denoiser) and prior.sample(Rng([0])).shape[1:] == records.trained.bytes.shape[1:]


@torch.no_grad()
def _sampled(plan: ExtractionAudit, prior: Prior, start: int) -> dict[str, Tensor]:
    numbers = range(start, min(start + plan.batch, plan.samples))
    images = prior.decode(prior.sample(Rng([seed_of(plan.seed, "sample", one) for one in numbers]))).clamp(0, 1)
    if not images.isfinite().all():
        raise GmiError("models: samples hold NaN or infinity: such a model cannot be audited; train it again.")
    return {"samples": (images * 255).round() / 255}


def _knows(
    plan: ExtractionAudit, prior: Prior, records: Records, asked: Tensor, start: int, device: torch.device
) -> dict[str, Tensor]:
    """Distances, lower where the image is known better."""
    some = (asked[start : start + plan.batch].float() / 255).to(device)
    rng = Rng([seed_of(plan.seed, "inversion", start + place) for place in range(len(some))])
    found = {}
    if plan.inversion.steps:
        with torch.enable_grad():
            found["inverted"] = inverted(prior, some, rng, plan.inversion.steps, plan.inversion.lr)
    if _denoises(prior, records):
        found["denoised"] = denoised(prior, some, rng, plan.inversion.draws)
    return found


def _pictures(run: Run, records: Records, told: dict[str, Told], plan: ExtractionAudit) -> None:
    """copies.png: the samples that are nearest to a record (above) and the record (below). Personal data."""
    found = copies(told["target"].samples, records.trained.pixels, records.held_out.pixels, plan.neighbours)
    order: list[int] = []
    for place in found.ratio.argsort():
        if found.nearest[place] not in found.nearest[order]:
            order.append(int(place))
    shown = order[:10]
    rows = torch.cat([told["target"].samples[shown], records.trained.pixels[found.nearest[shown]]])
    picture = io.BytesIO()
    save_image(rows, picture, nrow=len(shown), format="png")
    run.write("copies.png", picture.getvalue())
