"""What an audit of a generative model is asked to do."""

from typing import Annotated

from pydantic import Field

from gmi.extraction.models import Given, Models
from gmi.extraction.records import Photographs
from gmi.settings import Count, Positive, Rate, Whole, settings


@settings
class Inversion:
    """The white box. steps, lr: of the search for latents; draws: of noise, at each time of a denoising loss."""

    steps: Whole = 50
    lr: Positive = 0.1
    draws: Count = 4


@settings
class ExtractionAudit:
    """One generative model, its records, and a control.

    samples: of each model. ratio: a sample is a copy where its distance to a record is below that share of its distance
    to the `neighbours` nearest held-out images, and below what 1 % of `data.alike` are. clique: samples that must be
    copies of each other. alarms: as for an attribute. notable: share of records that may be found and still be said to
    be none.
    """

    name: str
    data: Photographs
    models: Models
    samples: Count = 1000
    ratio: Rate = 0.5
    neighbours: Count = 20
    clique: Annotated[int, Field(ge=2)] = 5
    inversion: Inversion = Inversion()
    alarms: tuple[Rate, ...] = (0.1,)
    notable: Rate = 0.05
    batch: Count = 50
    seed: Whole = 0

    def __post_init__(self) -> None:
        mixed = isinstance(self.data.held_out, int) or isinstance(self.data.alike, int) or self.data.other
        if isinstance(self.models, Given) and mixed:
            raise ValueError(
                "data: a model that is given learnt from all of data.folder: held_out, and alike where there is such, "
                "are other folders, and other is left out"
            )
