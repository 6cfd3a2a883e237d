"""What each step of an audit asks and takes: pieces of work in a run folder, which go on where they were stopped."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from gmi.data.images import Images, room
from gmi.errors import GmiError
from gmi.oracles.interface import Interface
from gmi.protocols import VerificationOracle
from gmi.run import Run, Tensors

Item = TypeVar("Item")
Made = TypeVar("Made")

_CRAMPED = (
    "The device's memory does not suffice for the candidates of one person, for one sample, or for what a search asks "
    "first: lower batch, or take a smaller prior or another device, and run the same command again."
)


@dataclass(frozen=True)
class Spent:
    """What a step of the audit cost, whoever ran it and however often it was resumed."""

    queries: int
    seconds: float


@dataclass(frozen=True)
class Meter:
    """Work in pieces, and what each step of it cost."""

    run: Run
    spent: dict[str, Spent]  # by step, filled as they are done

    def each(
        self,
        step: str,
        names: list[str],
        oracle: VerificationOracle,
        compute: Callable[[list[str]], Iterable[Tensors]],
        group: int = 1,
    ) -> Iterator[dict[str, Tensor]]:
        """`Run.each`, with the queries of every piece in its shard; what was spent is known when all are read.

        Where the memory does not suffice for a group, its halves are computed. Raises GmiError if it does not for one.
        """

        def metered(names: list[str]) -> Iterator[Tensors]:
            if isinstance(oracle, Interface):
                oracle.ledger.at(self.run.within + names[0])
            for some, pieces, asked in halved(names, oracle, lambda some: list(compute([*some]))):
                queries, rest = divmod(asked, len(some))
                for index, piece in enumerate(pieces):
                    yield dict(piece) | {"queries": torch.tensor(queries + (index < rest))}

        queries, seconds = 0, 0.0
        for piece in self.run.each(names, metered, step.replace("_", " "), group):
            queries += int(piece["queries"])
            seconds += float(piece["seconds"])
            yield piece
        self.spent[step] = Spent(queries, seconds)


def halved(
    items: Sequence[Item], oracle: VerificationOracle, work: Callable[[Sequence[Item]], Made]
) -> Iterator[tuple[Sequence[Item], Made, int]]:
    """The items, what `work` makes of them, and its queries: in halves where the device's memory does not suffice.

    What was answered before that answers the halves. Raises GmiError where it does not suffice for one item.
    """
    before, place = oracle.queries, oracle.ledger.place() if isinstance(oracle, Interface) else None
    try:
        made = work(items)
    except torch.OutOfMemoryError as error:
        if len(items) == 1:
            raise GmiError(_CRAMPED) from error
        made = None
    if made is not None:
        yield items, made, oracle.queries - before
        return
    oracle.queries = before
    if isinstance(oracle, Interface) and place is not None:
        oracle.ledger.back(place)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(items) // 2
    yield from halved(items[:half], oracle, work)
    yield from halved(items[half:], oracle, work)


def joined(pieces: Iterable[Tensors], count: int, sealed: bool) -> Images:
    """The images of so many pieces, each with as many, read one after the other.

    sealed: what is sealed in the run folder lies in no other file.
    """
    images, classes = torch.empty(0), []
    for number, piece in enumerate(pieces):
        each = piece["images"]
        if not number:
            shape = (count * len(each), *each.shape[1:])
            images = torch.empty(shape, dtype=torch.uint8) if sealed else room(*shape)
        images[number * len(each) : (number + 1) * len(each)] = each
        classes.append(piece["classes"])
    return Images.of(images, torch.cat(classes))


def total(spent: Iterable[Mapping[str, Spent]]) -> dict[str, Spent]:
    """What several attackers spent, by step."""
    sums: dict[str, Spent] = {}
    for step, cost in (item for each in spent for item in each.items()):
        before = sums.get(step, Spent(0, 0.0))
        sums[step] = Spent(before.queries + cost.queries, before.seconds + cost.seconds)
    return sums
