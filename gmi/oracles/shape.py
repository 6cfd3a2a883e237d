"""The part of a model's output that an interface shows, and what an adversary reads from it."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gmi.settings import Count, Positive, settings

_NOBODY = -1e6  # similarity of what shows nobody, in whatever unit an interface has
_NEVER = 1e-12  # probability of what full precision shows as 0


@settings
class Shape:
    """The probabilities, or the similarities of a recogniser, that an interface shows."""

    top: Count | None = None  # only this many of the likeliest classes are shown; None: all
    decimals: Annotated[int, Field(ge=0, le=10)] | None = None  # decimals to which they are rounded; None: not rounded
    temperature: Positive = 1.0  # temperature of the softmax; similarities have none

    def __str__(self) -> str:
        """The shape in words; empty if everything is shown."""
        parts = [
            None if self.top is None else f"top {self.top}",
            None if self.decimals is None else f"{self.decimals} decimals",
            None if self.temperature == 1 else f"temperature {self.temperature:g}",
        ]
        return f" ({', '.join(filter(None, parts))})" if any(parts) else ""

    def __call__(self, logits: Tensor) -> Tensor:
        """Shown probabilities (N, K) float64 from logits (N, K): NaN for hidden classes; of ties the lower class."""
        return self.cut((logits.double() / self.temperature).softmax(1))

    def cut(self, shown: Tensor) -> Tensor:
        """What is shown of numbers (N, K), the likeliest the greatest: NaN for hidden classes, the others rounded."""
        if self.top is not None and self.top < shown.shape[1]:
            order = shown.nan_to_num(-torch.inf).argsort(dim=1, descending=True, stable=True)
            shown = shown.scatter(1, order[:, self.top :], torch.nan)
        return shown if self.decimals is None else shown.round(decimals=self.decimals)

    def read(self, shown: Tensor) -> Tensor:
        """Log-probabilities (N, K) float32 with which an adversary works, from shown probabilities (N, K).

        A rounded 0 counts as half a unit. Hidden classes share the remaining probability equally, but none gets more
        than the least likely shown class.
        """
        least = _NEVER if self.decimals is None else 0.5 * 10.0**-self.decimals
        hidden = shown.isnan()
        visible = shown.nan_to_num(0.0).clamp_min(0)
        rest = (1 - visible.sum(1)).clamp_min(0) / hidden.sum(1).clamp_min(1)
        lowest = shown.nan_to_num(torch.inf).amin(1)
        filled = torch.where(hidden, torch.minimum(rest, lowest)[:, None], visible).clamp_min(least)
        return filled.log().log_softmax(1).float()


def filled(shown: Tensor) -> Tensor:
    """Similarities (N, K) with those that are hidden as high as they can be: as the least that is shown of the image.

    An image of which nothing is shown is like nobody, whatever is shown of others.
    """
    hidden = shown.isnan()
    least = shown.nan_to_num(torch.inf).amin(1, keepdim=True)
    return torch.where(hidden, least.where(least.isfinite(), _NOBODY), shown)
