"""What an extraction audit works on, as its configuration names it."""

from dataclasses import dataclass
from importlib.metadata import version

import torch
from pydantic import JsonValue

from gmi.audits import Hardware
from gmi.errors import GmiError
from gmi.extraction.models import Given, Pair, Trained
from gmi.extraction.plan import ExtractionAudit
from gmi.extraction.records import Records
from gmi.extraction.white_box import denoises
from gmi.protocols import Denoiser, Prior
from gmi.rng import Rng


@dataclass(frozen=True)
class Inputs:
    """The images, and the models where they are given."""

    records: Records
    pair: Pair | None = None  # None: the audit trains both models

    @property
    def digests(self) -> dict[str, JsonValue]:
        """What a run folder must be of, in addition to the configuration."""
        models = {} if self.pair is None else self.pair.digests
        return {"gmi": version("gmi"), "data": self.records.digest, **models}


def load(plan: ExtractionAudit, hardware: Hardware) -> Inputs:
    """Reads the images, and the models that are given. Raises GmiError as `Photographs.load` and `Given.load`."""
    records = plan.data.load()
    return Inputs(records, plan.models.load(hardware.device) if isinstance(plan.models, Given) else None)


@torch.no_grad()
def refuse(plan: ExtractionAudit, inputs: Inputs) -> None:
    """Raises GmiError where the models do not make images like the records or cannot be compared with each other, or
    where there is nothing to train a control on, and where samples are to be guided along a path that there is not.
    """
    shape = inputs.records.training.bytes.shape[1:]
    if isinstance(plan.models, Trained) and inputs.pair is None:
        plan.models.refuse(inputs.records.other)
    if plan.guided is not None and not isinstance(_model(plan, inputs), Denoiser):
        raise GmiError(
            "guided: these models have no path from noise to image along which samples could be led: take diffusion or "
            "flow models, or leave guided out."
        )
    if inputs.pair is None:
        return
    for name, prior in inputs.pair.named.items():
        made = prior.decode(prior.sample(Rng([0]))).shape[1:]
        if made != shape:
            raise GmiError(
                f"models.{name} makes images of shape {tuple(made)}, and the records are {tuple(shape)}: set data.size "
                "and data.grey as it has them."
            )
    if denoises(inputs.pair.target, shape) != denoises(inputs.pair.control, shape):
        raise GmiError(
            "models: one works on pixels and the other on latents: take a control of the same kind as the target."
        )


def _model(plan: ExtractionAudit, inputs: Inputs) -> Prior:
    """A model of the kind that is audited."""
    if inputs.pair is not None:
        return inputs.pair.target
    assert isinstance(plan.models, Trained)
    return plan.models.untrained(inputs.records.training, torch.device("cpu"))
