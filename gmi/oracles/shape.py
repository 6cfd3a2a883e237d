"""What an interface shows of a model's output, and what an adversary reads in it."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from gmi.settings import Count, Positive, settings

_NEVER = 1e-12  # probability of what full precision shows as 0


@settings
class Shape:
    """Probabilities after the softmax at `temperature`, of the `top` classes only, rounded to `decimals`.

    None: all classes; not rounded.
    """

    top: Count | None = None
    decimals: Annotated[int, Field(ge=0, le=10)] | None = None
    temperature: Positive = 1.0

    def __str__(self) -> str:
        """In words, empty where everything is shown."""
        parts = [
            None if self.top is None else f"top {self.top}",
            None if self.decimals is None else f"{self.decimals} decimals",
            None if self.temperature == 1 else f"temperature {self.temperature:g}",
        ]
        return f" ({', '.join(filter(None, parts))})" if any(parts) else ""

    def __call__(self, logits: Tensor) -> Tensor:
        """Probabilities (N, K) float64 of logits (N, K); NaN of classes that are not shown. Ties: the lower class."""
        shown = (logits.double() / self.temperature).softmax(1)
        if self.top is not None and self.top < shown.shape[1]:
            order = shown.argsort(dim=1, descending=True, stable=True)
            shown = shown.scatter(1, order[:, self.top :], torch.nan)
        return shown if self.decimals is None else shown.round(decimals=self.decimals)

    def read(self, shown: Tensor) -> Tensor:
        """Log-probabilities (N, K) float32 that an adversary works with. A rounded 0 stands for half a unit; what the
        shown classes leave is shared by the others, none of which can be likelier than the least shown one.
        """
        least = _NEVER if self.decimals is None else 0.5 * 10.0**-self.decimals
        hidden = shown.isnan()
        known = shown.nan_to_num(0.0).clamp_min(0)
        rest = (1 - known.sum(1)).clamp_min(0) / hidden.sum(1).clamp_min(1)
        lowest = shown.nan_to_num(torch.inf).amin(1)
        filled = torch.where(hidden, torch.minimum(rest, lowest)[:, None], known).clamp_min(least)
        return filled.log().log_softmax(1).float()
