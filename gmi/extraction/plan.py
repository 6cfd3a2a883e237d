"""The configuration of an extraction audit, as one tree of frozen objects."""

from typing import Annotated

from pydantic import Field

from gmi.evidence.handling import AnyHandling, Handling
from gmi.extraction.models import Given, Models
from gmi.extraction.records import Photographs
from gmi.extraction.side import Side
from gmi.settings import OPERATIONAL, Count, Positive, Rate, Whole, settings
from gmi.targets.authorisation import Authorisation
from gmi.tracking import Tracker


@settings
class Inversion:
    """The white-box tests of whether a model knows an image."""

    steps: Whole = 50  # of the search for latents whose image is nearest; 0: no search
    lr: Positive = 0.1  # learning rate of that search (Adam)
    draws: Count = 4  # noisy versions of each image, at each of six times, for the denoising loss


@settings
class ExtractionAudit:
    """One generative model, its training records, and a control that never saw them."""

    name: str  # the run's: its folder is runs/NAME unless --out says otherwise
    data: Photographs  # the records that the target learnt from, and images that no model saw
    models: Models  # the target and the control, which exist already or are trained here
    authorisation: Annotated[Authorisation | None, OPERATIONAL] = None  # who allowed the audit, and until when
    evidence: AnyHandling = Handling()  # what happens to what shows people: kept, sealed, or "none"
    track: Annotated[tuple[Tracker, ...], OPERATIONAL] = ()  # trackers of experiments that get the figures
    samples: Count = 1000  # samples of each model, with each seed
    guided: Side | None = None  # as many samples once more, led to what the model repeats; None: plain ones only
    # a copy is nearer to a record than this share of its distance to held-out images; data.alike may lower the share
    ratio: Rate = 0.5
    neighbours: Count = 20  # held-out images, the nearest, over which that distance is a mean
    clique: Annotated[int, Field(ge=2)] = 5  # samples that must copy one another to count as a group
    inversion: Inversion = Inversion()  # the white-box tests
    alarms: Annotated[tuple[Rate, ...], Field(min_length=1)] = (0.1,)  # false-alarm rates at which hits are counted
    # what must be excluded for "no evidence": share of records copied beyond the control, and knowledge over guessing
    notable: Rate = 0.05
    batch: Count = 50  # images at once in one process; each process takes whole batches
    # each decides the samples and the noise, and the training of models that are trained here
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0,)

    def __post_init__(self) -> None:
        if len({*self.seeds}) < len(self.seeds):
            raise ValueError("seeds: the same seed twice is the same audit")
        if self.guided is not None and self.guided.samples >= self.samples:
            raise ValueError("guided: samples, from which clusters are learnt, must be fewer than the plan's samples")
        mixed = isinstance(self.data.held_out, int) or isinstance(self.data.alike, int) or self.data.other
        if isinstance(self.models, Given) and mixed:
            raise ValueError(
                "data: a model that is given learnt from all of data.folder: held_out, and alike where there is such, "
                "are other folders, and other is left out"
            )
