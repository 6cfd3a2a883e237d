"""The cost of an extraction audit, before anything is spent: queries by arithmetic, time by a few images and steps."""

from dataclasses import replace

import torch
from accelerate import PartialState
from torch import Tensor

from gmi.audits import Hardware
from gmi.extraction.inputs import Inputs
from gmi.extraction.models import Trained
from gmi.extraction.plan import ExtractionAudit
from gmi.extraction.sampling import Plain, Sampler
from gmi.extraction.side import Side
from gmi.extraction.white_box import TIMES, denoised, denoises, inverted
from gmi.forecast import Forecast, seconds_of
from gmi.metrics.power import people_unseen
from gmi.metrics.rates import unseen
from gmi.protocols import Denoiser, Prior
from gmi.rng import Rng

_FEW = 8  # images that a timing takes


def forecast(plan: ExtractionAudit, inputs: Inputs, hardware: Hardware) -> Forecast:
    """Queries and time of an audit that is not refused, on this machine as it is now, all processes together.

    Models to be trained are timed untrained.
    """
    records, device, seconds = inputs.records, hardware.device, {}
    processes, seeds = PartialState().num_processes, len(plan.seeds)
    if isinstance(plan.models, Trained):
        prior = plan.models.untrained(records.training, device)
        seconds["train"] = 2 * seeds * plan.models.steps * _step(plan.models, inputs, device) / min(2, processes)
    else:
        assert inputs.pair is not None
        prior = inputs.pair.target
    images = records.training.pixels[:_FEW].to(device)
    total = seeds * sum(len(part) for part in (records.training, records.held_out, records.alike) if part is not None)
    queries = {"samples": seeds * plan.samples}
    each = {"samples": (seeds * plan.samples, _sampling(Plain(prior), len(images)))}
    if plan.guided is not None:
        assert isinstance(prior, Denoiser)
        queries["guided"] = seeds * plan.samples
        each["guided"] = (seeds * plan.samples, _sampling(plan.guided.untrained(prior), len(images)))
        seconds["classifier"] = 2 * seeds * plan.guided.steps * _update(plan.guided, prior)
    if plan.inversion.steps:
        queries["inversion"] = total * (plan.inversion.steps + 1)
        each["inversion"] = (total, _inversion(prior, images, plan))
    if denoises(prior, images.shape[1:]):
        queries["denoising"] = total * len(TIMES) * plan.inversion.draws
        once = seconds_of(lambda: denoised(prior, images, Rng(range(len(images))), 1))
        each["denoising"] = (total, once * plan.inversion.draws)
    seconds |= {step: 2 * count * took / len(images) / processes for step, (count, took) in each.items()}
    return Forecast(
        queries,
        seconds,
        without=("to compare the samples, which grows with the square of their number",),
        notes=(
            "queries: images that the target makes or denoises; the control makes and denoises as many",
            *_too_few(plan, inputs),
        ),
    )


def _too_few(plan: ExtractionAudit, inputs: Inputs) -> tuple[str, ...]:
    """What is said beforehand where so few people cannot acquit."""
    people, needed = len(inputs.records.training.classes.unique()), people_unseen(plan.notable)
    if people >= needed:
        return ()
    return (
        f"The records are of {people} people: even if none is copied, {100 * unseen(people):.0f} % could be of people "
        f"unlike all of them. To exclude {100 * plan.notable:g} % takes {needed}.",
    )


def _sampling(sampler: Sampler, count: int) -> float:
    """Seconds for so many samples."""
    with torch.no_grad():
        return seconds_of(lambda: sampler.draw(range(count), 0))


def _update(side: Side, prior: Denoiser) -> float:
    """Seconds of one update of the classifier of clusters."""
    clean = prior.sample(Rng(range(_FEW)))
    labels = torch.zeros(len(clean), dtype=torch.int64, device=clean.device)

    def train(steps: int) -> float:
        return seconds_of(lambda: replace(side, steps=steps).train(prior.path, clean, labels, 0))

    return max(0.0, train(3) - train(1)) / 2


def _inversion(prior: Prior, images: Tensor, plan: ExtractionAudit) -> float:
    """Seconds for these images, from those of a search of one step and of none."""

    def search(steps: int) -> float:
        return seconds_of(lambda: inverted(prior, images, Rng(range(len(images))), steps, plan.inversion.lr))

    start, step = search(0), search(1)
    return start + plan.inversion.steps * max(0.0, step - start)


def _step(models: Trained, inputs: Inputs, device: torch.device) -> float:
    """Seconds of one step of training, without what is done once."""

    def train(steps: int) -> float:
        return seconds_of(lambda: replace(models, steps=steps).train(inputs.records.training, device, 0))

    return max(0.0, train(3) - train(1)) / 2
