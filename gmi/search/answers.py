"""What answers of a recogniser's interface may mean, of which the unit, or the threshold, is not known."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from gmi.errors import GmiError
from gmi.protocols import ComparingOracle, VerificationOracle
from gmi.search.selection import opinion


def meanings(
    oracle: VerificationOracle, batches: Sequence[Tensor], strangers: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """What answers about images may mean: the least and greatest similarity (N, K), float64, for which each can stand.

    Numbers are the copy's similarities as they are, or linear in these, or rise with them (per cent, distances): their
    distribution is then that of similarities between strangers (M,). What is not shown of an image lies below what is.
    Where answers are labels or decisions, the threshold is that which as large a share of strangers reach as said yes.
    """
    if isinstance(oracle, ComparingOracle):
        shown = torch.cat([oracle.similarities(batch) for batch in batches]).cpu().double()
        hidden = shown.isnan()
        if hidden.all():
            raise GmiError("The interface shows no similarity of anybody to any image: audit it by labels.")
        # an image of which nothing is shown may be as like to anybody as the greatest number
        least = shown.nan_to_num(torch.inf).amin(1, keepdim=True).clamp_max(shown[~hidden].max())
        numbers = torch.where(hidden, least, shown)
        for each in (numbers, *_risen(numbers, hidden, strangers)):
            yield torch.where(hidden, -torch.inf, each), each
        return
    yes = torch.cat([opinion(oracle, batch) for batch in batches]).cpu().exp() > 0.5
    rank = round(float(1 - yes.double().mean()) * (len(strangers) - 1))
    threshold = strangers.sort().values[rank]
    yield torch.where(yes, threshold, -torch.inf), torch.where(yes, torch.inf, threshold)


def _risen(numbers: Tensor, hidden: Tensor, strangers: Tensor) -> Iterator[Tensor]:
    """Similarities in which the numbers are linear, and with which they rise; none where all numbers are the same."""
    told = numbers[~hidden]
    if bool(told.eq(told[0]).all()):
        return
    below = shares_below(numbers, hidden).numpy()
    usual = torch.from_numpy(np.quantile(strangers.numpy(), below, method="hazen"))
    slope = torch.cov(torch.stack([told, usual[~hidden]]))[0, 1] / told.var()
    yield usual[~hidden].mean() + slope * (numbers - told.mean())
    yield usual


def shares_below(numbers: Tensor, hidden: Tensor) -> Tensor:
    """Estimates (N, K), float64, of the share of all numbers (N, K) that lie below each, and half of those equal to it.

    Of those that are `hidden` (N, K) it is known only that they are no greater than what stands in their place. From
    above they are censored, and the estimate is the product limit (Kaplan & Meier, JASA 1958).
    """
    rows = hidden.flatten().int().argsort(stable=True)
    rows = rows[numbers.flatten()[rows].argsort(descending=True, stable=True)]
    remaining = torch.arange(len(rows), 0, -1, dtype=torch.float64)
    below = torch.where(hidden.flatten()[rows], 1.0, 1 - 1 / remaining).cumprod(0)
    above = torch.cat([torch.ones(1, dtype=torch.float64), below[:-1]])
    _, group, counts = numbers.flatten()[rows].unique_consecutive(return_inverse=True, return_counts=True)
    last = counts.cumsum(0) - 1
    shares = torch.empty_like(below)
    shares[rows] = ((above[last - counts + 1] + below[last]) / 2)[group]
    return shares.reshape(numbers.shape)
