"""What an adversary asks a target about before the search: photographs of strangers, and samples of a prior."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.data import images
from gmi.data.images import Images
from gmi.protocols import Prior
from gmi.rng import Rng
from gmi.settings import Count, settings

_BATCH = 50  # samples that are made at once


@settings
class Strangers:
    """A folder of photographs that the adversary has, of people whom the target does not know."""

    folder: str  # folder of images, at any depth, or "asset:NAME/..."
    size: tuple[Count, Count] | None = None  # height, width to which images are fitted; None: they must have one size
    most: Count = 2000  # photographs that are used at most

    def load(self, seed: int = 0) -> Images:
        """The photographs in the order of a draw. Raises GmiError if the folder or an image cannot be used."""
        paths = images.public(self.folder, "search.photographs.folder")
        order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed))[: self.most].tolist()
        return images.read([paths[index] for index in order], [-1] * len(order), self.size, "search.photographs.size")


@torch.no_grad()
def questions(photographs: Strangers | None, prior: Prior, rng: Rng) -> Tensor:
    """At least as many images (N, C, H, W), as bytes on the CPU, as there are generators.

    The photographs come first, all of them; samples of the prior, in their size, fill up where they are too few. The
    first len(rng) are those to ask about. Raises GmiError as `Strangers.load`.
    """
    if photographs is None:
        return _samples(prior, rng, len(rng))
    shown = photographs.load(int(rng.uniform(1)[0, 0] * 2**24)).bytes
    if len(shown) >= len(rng):
        return shown
    made = _samples(prior, rng, len(rng))[len(shown) :]
    colours = max(made.shape[1], shown.shape[1])
    fitted = F.interpolate(made.float(), shown.shape[2:], mode="bilinear", antialias=True).round().byte()
    return torch.cat([shown.expand(-1, colours, -1, -1), fitted.expand(-1, colours, -1, -1)])


def _samples(prior: Prior, rng: Rng, count: int) -> Tensor:
    """Samples of the prior as bytes (count, C, H, W)."""
    batches = prior.sample(rng)[:count].split(_BATCH)
    return torch.cat([(prior.decode(batch).clamp(0, 1) * 255).round().byte().cpu() for batch in batches])
