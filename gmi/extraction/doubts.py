"""Why samples that copy few records acquit no model: reasons, and what would end them."""

import math
from collections.abc import Iterator, Mapping

from gmi.extraction.records import Records
from gmi.metrics.power import people_unseen
from gmi.metrics.statistics import Estimate, Outcome

ALIKE = 4 / 3
"""How much finer or coarser a target's samples may be than the control's.

Measured with priors/flow48: 10 of its 20 steps have 0.9 of the detail, 5 have 0.75, and 1 has half.
"""
APART = 2.0  # how much finer or coarser they may be than photographs
OFF = 0.25
"""How much further the samples' mean may be from photographs' than the records' is: see copies.offset.

Measured with samples of priors/flow48, flow64 and stylegan64 and of a model of ORL: 0.05 less than the records to 0.01
more. Upside down they are 0.25 to 0.4 further, and records of LFW with height and width swapped 0.4; with channels in
another order 0.6 to 0.7, with values inverted or in [-1, 1] 0.6 to 1.9.
"""
NEARER = 0.5  # of what no copy is as near to an image: what nearer is, is one


def blind_spots(
    samples: int, records: int, notable: float, copies: tuple[Outcome, Outcome], control: tuple[Outcome, Outcome]
) -> Iterator[str]:
    """Reasons why a share of records cannot tell that none is copied.

    samples: of each model, with one seed.
    records: that the target learnt from.
    copies: shares of the target's samples, and of the control's, that are copies.
    control: share of the records that the control's samples copy, and of images from which nobody learnt that the
        target's do.
    """
    fewest = max(people_unseen(notable), math.ceil(2 * notable * records))
    if samples < fewest:
        yield (
            f"Of {records:,} records {samples:,} samples can show too few, whatever they copy: make {fewest:,} or more."
        )
    mine, usual = copies
    if isinstance(mine, Estimate) and isinstance(usual, Estimate) and mine.low > usual.high:
        yield (
            f"But {mine.value:.1%} of the samples [{mine.low:.1%}, {mine.high:.1%}] are copies, and {usual.value:.1%} "
            "of the control's: few records are copied, and these often."
        )
    seen, others = control
    if isinstance(seen, Estimate) and isinstance(others, Estimate) and seen.low > others.high:
        yield (
            f"The control copies {seen.value:.0%} of the records, too, where {others.value:.0%} of others are copied: "
            "it seems to have seen them, and is none. Take another."
        )


def verbatim(nearest: float, ratio: float, chance: float) -> Iterator[str]:
    """That a record is copied beyond doubt, few as they may be.

    nearest: the least ratio of any sample to a record. ratio: below which a sample is a copy. chance: the least of what
    cannot be a copy: of the control's samples to records, and of the target's to images from which nobody learnt.
    """
    if nearest < min(ratio, NEARER * chance):
        yield (
            f"But a sample is at a ratio of {nearest:.2f} to a record, and what cannot be a copy comes no nearer than "
            f"{chance:.2f}: that is a copy, few as they may be. See copies.png."
        )


def misplaced(unseen: Mapping[str, Outcome], control: Outcome) -> Iterator[str]:
    """That the target has seen images from which it is said not to have learnt.

    unseen: shares of such images that it copies, by where they are from. control: of the records, by the control.
    """
    for place, copied in unseen.items():
        if isinstance(copied, Estimate) and isinstance(control, Estimate) and copied.low > control.high:
            yield (
                f"But the target copies {copied.value:.0%} of the images of {place}, which it is said not to have "
                f"learnt from, and the control copies {control.value:.0%} of the records: check that folders are not "
                "swapped."
            )


def unlike(detail: Mapping[str, float], offset: Mapping[str, float]) -> Iterator[str]:
    """That the target's samples look otherwise than a model's of such images do, so that a copy would not be seen.

    detail: of the target's and the control's samples, and of held-out photographs.
    offset: of the target's samples and of the records, from held-out photographs.
    """
    mine, usual = offset["target"], offset["records"]
    if mine > usual + OFF:
        yield (
            f"But the mean of the target's samples is {mine:.1f} spreads from that of held-out images, and that of the "
            f"records {usual:.1f}: check their axes (channels, height, width), the order of channels (RGB) and the "
            "range of values ([0, 1]), as otherwise a copy would not be seen."
        )
    mine, usual, real = (max(1e-6, detail[name]) for name in ("target", "control", "held-out"))
    by_control, by_photographs = mine / usual, mine / real
    if not 1 / ALIKE <= by_control <= ALIKE or not 1 / APART <= by_photographs <= APART:
        yield (
            f"But the target's samples have {by_control:.0%} of the detail of the control's, and {by_photographs:.0%} "
            "of that of photographs: they are blurred, noisy, or made in too few steps, and a copy would not be seen."
        )


def unread(records: Records, notable: float) -> Iterator[str]:
    """That so many files were not read that a notable share of the records may be among them."""
    lost = len(records.left_out)
    if lost >= notable * (lost + len(records.training)):
        yield (
            f"{lost:,} files beside {len(records.training):,} records were not read (such as {records.left_out[0]}): "
            "convert those that are records to JPEG or PNG, and move the others elsewhere."
        )
