"""What an adversary asks a target about before the search: photographs of strangers, and samples of a prior."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gmi.assets.weights import contents
from gmi.data import folders, images
from gmi.data.images import Images
from gmi.protocols import Prior
from gmi.rng import Rng
from gmi.settings import Count, settings

_BATCH = 50  # samples that are made at once
_PART = 500  # photographs that are in memory at once where all are looked at


@settings
class Strangers:
    """A folder of photographs that the adversary has, of people whom the target does not know."""

    folder: str  # folder of images, at any depth, or "asset:NAME/..."
    size: tuple[Count, Count] | None = None  # height, width to which images are fitted; None: they must have one size
    most: Count = 2000  # photographs that are used at most

    @property
    def digests(self) -> list[str]:
        """SHA-256 of every file in the folder. Raises GmiError if the folder cannot be used."""
        paths = folders.public(self.folder, "search.photographs.folder")
        return [sha256(path.read_bytes()).hexdigest() for path in paths]

    def load(self, seed: int = 0) -> Images:
        """Those that are used, in the order of a draw. Raises GmiError if the folder or an image cannot be used."""
        paths = folders.public(self.folder, "search.photographs.folder")
        order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed))[: self.most].tolist()
        return self._read([paths[index] for index in order])

    def parts(self) -> Iterator[Images]:
        """All of them, some at a time. Raises GmiError as `load` does."""
        paths = folders.public(self.folder, "search.photographs.folder")
        for start in range(0, len(paths), _PART):
            yield self._read(paths[start : start + _PART])

    def _read(self, paths: Sequence[Path]) -> Images:
        return images.read(paths, [-1] * len(paths), self.size, "search.photographs.size")


def digests(searches: Sequence[Any]) -> dict[str, str]:
    """SHA-256 of what these searches read: by folder of all photographs that they ask about, by place of weights.

    Raises GmiError as `Strangers.load`.
    """
    asked = [photographs for search in searches if (photographs := getattr(search, "photographs", None)) is not None]
    shown = {each.folder: sha256("".join(sorted(each.digests)).encode()).hexdigest() for each in asked}
    return shown | contents(searches)


@torch.no_grad()
def questions(photographs: Strangers | None, prior: Prior, rng: Rng) -> Tensor:
    """At least as many images (N, C, H, W), as bytes on the CPU, as there are generators.

    The photographs come first, all of them; samples of the prior, in their size, fill up where they are too few. The
    first len(rng) are those to ask about. Raises GmiError as `Strangers.load`.
    """
    if photographs is None:
        return samples(prior, rng)
    shown = photographs.load(int(rng.uniform(1)[0, 0] * 2**24)).bytes
    return shown if len(shown) >= len(rng) else joined(shown, samples(prior, rng[len(shown) :]))


def joined(first: Tensor, further: Tensor) -> Tensor:
    """Images (N, C, H, W) as bytes, and then further ones (M, ...) in their size; in colour if either are."""
    colours = max(first.shape[1], further.shape[1])
    if further.shape[2:] != first.shape[2:]:
        further = F.interpolate(further.float(), first.shape[2:], mode="bilinear", antialias=True).round().byte()
    return torch.cat([first.expand(-1, colours, -1, -1), further.expand(-1, colours, -1, -1)])


def as_bytes(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in [0, 1] as bytes on the CPU."""
    return (images.clamp(0, 1) * 255).round().byte().cpu()


def samples(prior: Prior, rng: Rng) -> Tensor:
    """One sample of the prior from each generator, as bytes (N, C, H, W)."""
    return torch.cat([as_bytes(prior.decode(batch)) for batch in prior.sample(rng).split(_BATCH)])
