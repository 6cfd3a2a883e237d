"""Public images, to train a prior on."""

from typing import Annotated

import torch
from pydantic import Field

from gmi.data import images
from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.rng import Rng, seed_of
from gmi.settings import Count, Whole, settings
from gmi.views import grey


@settings
class PublicImages:
    """A folder of images that everybody may see, at any depth: what a prior is trained on.

    size: height and width that all are fitted to. grey: one channel. held_out: how many are set aside, drawn with
    `seed`, to compare the prior's samples with. terms: under which the images may be used; copied into the model card.
    """

    name: str
    folder: str
    terms: str
    size: Count = 64
    grey: bool = False
    held_out: Annotated[int, Field(ge=2)] = 500
    seed: Whole = 0

    def load(self) -> tuple[Images, Images]:
        """Those to train on, and those held out. Raises GmiError as `Faces.load`."""
        paths = images.public(self.folder, "data.folder")
        if len(paths) <= self.held_out:
            raise GmiError(f"data.held_out is {self.held_out}, but {self.folder} holds {len(paths)} images.")
        order = Rng([seed_of(self.seed, "held out")]).uniform(len(paths))[0].argsort().tolist()
        kept, aside = sorted(order[self.held_out :]), sorted(order[: self.held_out])
        every = images.read(paths, [-1] * len(paths), (self.size, self.size))
        pixels = every.bytes if self.grey else every.bytes.expand(-1, 3, -1, -1)
        if self.grey:  # piece by piece, as the whole in floats would take four times the memory
            pixels = torch.cat([(grey(some.float() / 255) * 255).round().byte() for some in pixels.split(1024)])
        every = Images(pixels, every.classes, every.digests)
        return every[kept], every[aside]
