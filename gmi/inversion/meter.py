"""What each step of an audit asks and takes: pieces of work in a run folder, which go on where they were stopped."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gmi.data.images import Images, room
from gmi.inversion.fitting import Fitting
from gmi.oracles.interface import Interface
from gmi.protocols import VerificationOracle
from gmi.run import Run, Tensors


@dataclass(frozen=True)
class Spent:
    """What a step of the audit cost, whoever ran it and however often it was resumed."""

    queries: int
    seconds: float


@dataclass(frozen=True)
class Meter:
    """Work in pieces, and what each step of it cost."""

    run: Run
    device: torch.device
    spent: dict[str, Spent]  # by step, filled as they are done
    memory: float | None = None  # GB that it may take; None: all that there is

    def each(
        self,
        step: str,
        names: list[str],
        oracle: VerificationOracle,
        compute: Callable[[list[str]], Iterable[Tensors]],
        group: int = 1,
    ) -> Iterator[dict[str, Tensor]]:
        """`Run.each`, with the queries of every piece in its shard; what was spent is known when all are read.

        Of a group as many are computed at once as fit into memory. Raises GmiError if one does not.
        """
        fitting = Fitting(self.device, self.memory)

        def metered(names: list[str]) -> Iterator[Tensors]:
            if isinstance(oracle, Interface):
                oracle.ledger.at(self.run.within + names[0])
            for some, pieces, asked in fitting.pieces(names, oracle, lambda some: list(compute([*some]))):
                queries, rest = divmod(asked, len(some))
                for index, piece in enumerate(pieces):
                    yield dict(piece) | {"queries": torch.tensor(queries + (index < rest))}

        queries, seconds = 0, 0.0
        for piece in self.run.each(names, metered, step.replace("_", " "), group):
            queries += int(piece["queries"])
            seconds += float(piece["seconds"])
            yield piece
        self.spent[step] = Spent(queries, seconds)


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
