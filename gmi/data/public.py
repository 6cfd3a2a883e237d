"""Public images, for the training of a prior."""

from typing import Annotated

import torch
from pydantic import Field

from gmi.data import folders, images
from gmi.data.images import Images
from gmi.errors import GmiError
from gmi.rng import Rng, seed_of
from gmi.settings import Count, Whole, settings
from gmi.views import grey


@settings
class PublicImages:
    """A folder of images that everybody may see, for the training of a prior."""

    name: str  # name of the data set, for the model card
    folder: str  # folder of the images, at any depth, or "asset:NAME/..."
    terms: str  # terms under which the images may be used; copied into the model card
    size: Count = 64  # height and width to which images are fitted
    grey: bool = False  # True: one channel, False: three
    held_out: Annotated[int, Field(ge=2)] = 500  # images set aside to compare samples with, drawn with `seed`
    seed: Whole = 0  # seed of the held-out images

    def load(self) -> tuple[Images, Images]:
        """Images to train on, and held-out images. Raises GmiError if the folder or an image cannot be used."""
        paths = folders.public(self.folder, "data.folder")
        if len(paths) <= self.held_out:
            raise GmiError(f"data.held_out is {self.held_out}, but {self.folder} holds {len(paths)} images.")
        order = Rng([seed_of(self.seed, "held out")]).uniform(len(paths))[0].argsort().tolist()
        trained, held_out = sorted(order[self.held_out :]), sorted(order[: self.held_out])
        every = images.read(paths, [-1] * len(paths), (self.size, self.size))
        pixels = every.bytes if self.grey else every.bytes.expand(-1, 3, -1, -1)
        if self.grey:  # batch by batch, since all images as floats would take four times the memory
            pixels = torch.cat([(grey(batch.float() / 255) * 255).round().byte() for batch in pixels.split(1024)])
        every = Images(pixels, every.classes, every.digests)
        return every[trained], every[held_out]
