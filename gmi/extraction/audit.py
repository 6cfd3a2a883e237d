"""An extraction audit, end to end: which training records a model's samples copy, compared with a control.

Both models make as many samples, and where it is wanted as many once more by guidance. A sample is a copy of a record
if it is far nearer to it than held-out images are; what the control's samples copy of the same records is chance. Then
the white box: whether either model knows a given image.
"""

import io
from collections.abc import Mapping

import torch
from accelerate import PartialState
from torch import Tensor
from torchvision.utils import save_image

from gmi.audits import Hardware, Kind
from gmi.errors import GmiError
from gmi.extraction.copies import copies
from gmi.extraction.findings import Evidence, Observation, Trial, findings
from gmi.extraction.forecast import forecast
from gmi.extraction.inputs import Inputs, load, refuse
from gmi.extraction.models import Trained
from gmi.extraction.page import METHODS, render
from gmi.extraction.plan import ExtractionAudit
from gmi.extraction.records import Records
from gmi.extraction.sampling import Plain, Sampler, Towards
from gmi.extraction.side import Side
from gmi.extraction.white_box import denoised, denoises, inverted
from gmi.protocols import Denoiser, Prior
from gmi.rng import Rng, seed_of
from gmi.run import Run


def examine(plan: ExtractionAudit, inputs: Inputs, run: Run, hardware: Hardware) -> Evidence:
    """Everything that the findings rest on; models that are trained here lie in the run, too.

    Raises GmiError where samples are not finite.
    """
    trials = tuple(
        _trial(plan, inputs, run if number == 0 else run.part(f"seed-{seed}"), seed, hardware)
        for number, seed in enumerate(plan.seeds)
    )
    if PartialState().is_main_process:
        _picture(plan, run, inputs.records, torch.cat([*trials[0].observations["target"].samples.values()]))
    return Evidence(trials)


def _trial(plan: ExtractionAudit, inputs: Inputs, run: Run, seed: int, hardware: Hardware) -> Trial:
    """What both models show with one seed."""
    records, pair = inputs.records, inputs.pair
    if pair is None:
        assert isinstance(plan.models, Trained)
        pair = plan.models.learn(records.training, records.other, run, hardware.device, seed)
    observed = {name: _observe(plan, run, name, prior, records, seed, hardware) for name, prior in pair.named.items()}
    return Trial(pair, observed)


def _observe(
    plan: ExtractionAudit, run: Run, name: str, prior: Prior, records: Records, seed: int, hardware: Hardware
) -> Observation:
    samples, clusters = {"plain": _drawn(plan, run, name, "samples", Plain(prior), 0, seed)}, 0
    if plan.guided is not None:
        sampler = _guided(plan, plan.guided, run, name, prior, seed)
        led, learnt = _drawn(plan, run, name, "guided", sampler, plan.guided.samples, seed), plan.guided.samples
        samples["guided"], clusters = torch.cat([samples["plain"][:learnt], led]), len(sampler.clusters)
    parts = (records.training, records.held_out, records.alike)
    images = torch.cat([part.bytes for part in parts if part is not None])
    firsts = {f"{name}/knows/{first}": first for first in range(0, len(images), plan.batch)}
    distances = [
        *run.each(
            firsts,
            lambda pieces: [
                _distances(plan, prior, images[(at := firsts[piece]) : at + plan.batch], at, seed, hardware)
                for piece in pieces
            ],
            f"{name}: inversion",
        )
    ]
    return Observation(
        samples,
        {
            method: -torch.cat([piece[method] for piece in distances]).double().numpy()
            for method in _methods(distances[0])
        },
        clusters,
    )


def _methods(piece: Mapping[str, Tensor]) -> list[str]:
    """The methods in a piece, in the order of the page's words; a file does not keep theirs."""
    names = sorted(piece.keys() - {"seconds"})
    return sorted(names, key=lambda name: [*METHODS, name].index(name))


def _guided(plan: ExtractionAudit, side: Side, run: Run, name: str, prior: Prior, seed: int) -> Towards:
    """A model's guided sampler, which has learnt from its own samples alone."""
    assert isinstance(prior, Denoiser)
    (learned,) = run.each([f"{name}/clusters"], lambda _: [side.learn(prior, seed, plan.batch)], f"{name}: clusters")
    return side.sampler(prior, learned)


def _drawn(plan: ExtractionAudit, run: Run, name: str, step: str, sampler: Sampler, first: int, seed: int) -> Tensor:
    """The samples (N, C, H, W) from number `first` to the plan's last."""
    starts = {f"{name}/{step}/{start}": start for start in range(first, plan.samples, plan.batch)}
    pieces = run.each(
        starts, lambda pieces: [_sample(plan, sampler, starts[piece], seed) for piece in pieces], f"{name}: {step}"
    )
    return torch.cat([piece["samples"] for piece in pieces])


@torch.no_grad()
def _sample(plan: ExtractionAudit, sampler: Sampler, start: int, seed: int) -> dict[str, Tensor]:
    images = sampler.draw(range(start, min(start + plan.batch, plan.samples)), seed)
    if not images.isfinite().all():
        raise GmiError(f"models: samples hold NaN or infinity: {sampler.mend}.")
    return {"samples": (images * 255).round() / 255}


def _distances(
    plan: ExtractionAudit, prior: Prior, images: Tensor, first: int, seed: int, hardware: Hardware
) -> dict[str, Tensor]:
    """Distances (N,) by method: lower where the model knows the image better."""
    pixels = (images.float() / 255).to(hardware.device)
    rng = Rng([seed_of(seed, "inversion", first + index) for index in range(len(pixels))])
    distances = {}
    if plan.inversion.steps:
        with torch.enable_grad():
            distances["inversion"] = inverted(prior, pixels, rng, plan.inversion.steps, plan.inversion.lr)
    if denoises(prior, pixels.shape[1:]):
        distances["denoising"] = denoised(prior, pixels, rng, plan.inversion.draws)
    return distances


def _picture(plan: ExtractionAudit, run: Run, records: Records, samples: Tensor) -> None:
    """Writes copies.png: the samples nearest to a record, above, and the record, below. Personal data."""
    compared = copies(samples, records.training.pixels, records.held_out.pixels, plan.neighbours)
    rows: list[int] = []  # the nearest sample of each record
    for row in compared.ratio.argsort():
        if compared.nearest[row] not in compared.nearest[rows]:
            rows.append(int(row))
    rows = rows[:10]
    tiles = torch.cat([samples[rows], records.training.pixels[compared.nearest[rows]]])
    picture = io.BytesIO()
    save_image(tiles, picture, nrow=len(rows), format="png")
    run.keep("copies.png", picture.getvalue())


EXTRACTION = Kind(
    name="extraction",
    plan=ExtractionAudit,
    load=load,
    refuse=refuse,
    forecast=forecast,
    examine=examine,
    findings=findings,
    render=render,
)
