"""Whether an interface still answers as it did when a run began: a report is of one model."""

import logging
from collections.abc import Mapping

import torch
from accelerate import PartialState
from torch import Tensor

from gmi.errors import GmiError
from gmi.inversion.attacker import Attacker
from gmi.oracles.access import AnyOracle
from gmi.oracles.interface import Interface
from gmi.run.pieces import AGAIN

_log = logging.getLogger(__name__)  # warnings are shown, unless the application decides otherwise
_NEAR = 0.05  # of the spread of an image's answers: what another batch or processor may change
_STRAY = 1  # images that may be answered otherwise all the same, as one between two labels
_DIFFERENT = 3  # answers that differ, without which nothing is told: who is always refused is so by any model


def confirm(attacker: Attacker, oracle: AnyOracle, name: str = "checks") -> None:
    """Makes the piece of `Attacker.probe`; of a run that goes on, compares it with what is answered now.

    Where the answers are the same, a piece of work says so. Where that cannot be told, a warning says why. Raises
    GmiError where they are not.
    """
    resumed = attacker.run.has(f"{name}/0000") and not attacker.run.finished and PartialState().is_main_process
    if not isinstance(oracle, Interface):
        return
    probes = attacker.probe(oracle, name)
    if resumed:
        _compare(attacker, oracle, probes, name)


def _compare(attacker: Attacker, oracle: Interface, probes: Mapping[str, Tensor], name: str) -> None:
    folder, kept = attacker.run.folder, probes["logits"]
    unknown = (
        "Whether the model is the one with which %s was begun is not known: %s A policy is inconclusive then; another "
        "--out begins anew."
    )
    if changed(kept, probes["again"]) or len(torch.unique(kept, dim=0)) < _DIFFERENT:
        _log.warning(unknown, folder, "it answers at random, or always alike.")
        return
    again = f"{name}/{AGAIN}"
    oracle.ledger.at(attacker.run.within + again)
    try:
        now = attacker.probed(oracle)
    except GmiError as error:
        _log.warning(unknown, folder, error)
        return
    if changed(kept, now):
        raise GmiError(
            f"The model answers otherwise than when {folder} was begun: it has changed, and a report is of one model. "
            "Choose another --out."
        )
    attacker.run.save(again, {"logits": now})


def changed(before: Tensor, now: Tensor) -> bool:
    """Whether another model answers (N, K) to the same images, or one that answers at random.

    That is, more than one image's answers differ by more than a twentieth of their spread, as root mean squares.
    """
    apart = (now - before).square().mean(1).sqrt()
    return int((apart > _NEAR * before.std(1)).sum()) > _STRAY
