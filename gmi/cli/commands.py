"""The commands of the console, and which configurations are theirs.

They are named by strings: what takes a while to import is imported when a command starts.
"""

import argparse
from contextlib import suppress
from dataclasses import MISSING, fields
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn

from gmi.errors import GmiError

POLICY = "statements that the audit must meet: exit code 0 pass, 3 fail, 4 inconclusive"


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are GmiErrors."""

    def error(self, message: str) -> NoReturn:
        """Raises GmiError with argparse's message in plain words."""
        needed = message.removeprefix("the following arguments are required: ")
        fault = message.removeprefix("argument ") if needed == message else f"{needed} is missing"
        raise GmiError(f"{fault} ({self.prog} --help says what it takes).")


class Command(NamedTuple):
    """One command; places are written as module:name."""

    work: str  # place of the kind of audit, or of a function of arguments and the program's name
    about: str  # what it does
    plan: str = ""  # place of the class of its configuration; empty: it has none
    overrides: str = ""  # examples
    folder: str = ""  # of a run, unless it is given, where the command audits
    hardens: bool = False  # whether its target can be trained under a defence


COMMANDS = {
    "audit": Command(
        "gmi.inversion.audit:INVERSION",
        "attack a model that recognises people, and measure what that recovers",
        "gmi.inversion.plan:Audit",
        "--search.steps 50, --data.attacked 20, --perceptual null, --search guided",
        folder="runs/NAME",
        hardens=True,
    ),
    "ladder": Command(
        "gmi.ladder.audit:LADDER",
        "attack one target by each level of access, and compare what they give away",
        "gmi.ladder.plan:Ladder",
        "--budget 5000, --best_of 100 500, --audit.data.attacked 3",
        folder="runs/NAME",
    ),
    "compare": Command(
        "gmi.comparison.audit:COMPARISON",
        "attack a target under several defences, and compare what they buy and cost",
        "gmi.comparison.plan:Comparison",
        "--seeds 0 1 2, --margin 0.1, --data.attacked 3, --judge facenet",
        folder="runs/NAME",
    ),
    "attributes": Command(
        "gmi.attributes.audit:ATTRIBUTES",
        "attack a model of tables for one attribute of the people in it",
        "gmi.attributes.plan:AttributeAudit",
        "--seeds 1 2, --attacked 200, --target forest, --data.training 500",
        folder="runs/NAME",
    ),
    "extract": Command(
        "gmi.extraction.audit:EXTRACTION",
        "look for training records among the samples of a generative model",
        "gmi.extraction.plan:ExtractionAudit",
        "--seeds 1 2, --samples 500, --inversion.steps 0",
        folder="runs/NAME",
    ),
    "train-target": Command(
        "gmi.inversion.training:main",
        "train the target of an audit",
        "gmi.inversion.plan:Audit",
        "--training.steps 100, --data.seed 1, --target.weights runs/mine/model.safetensors",
    ),
    "train-prior": Command(
        "gmi.training.command:main",
        "train a generative prior on a folder of public images",
        "gmi.training.priors:PriorTraining",
        "--data.folder faces, --steps 1000, --lr 1e-4",
    ),
    "convert-stylegan": Command("gmi.training.converting:main", "make a prior folder of a published StyleGAN2 or 3"),
    "serve": Command(
        "gmi.serving.command:main",
        "serve a target as an API would show it",
        "gmi.serving.app:Serving",
        "--shows labels, --watch.window 32, --log runs/mine/log.sqlite",
    ),
    "watch": Command(
        "gmi.watching.audit:WATCHING",
        "see whether query auditing would notice the attacks of a ladder",
        "gmi.watching.plan:Watching",
        "--audit.data.attacked 2, --watch.window 32, --watch.alarm 0.05",
        folder="runs/NAME-watch",
    ),
    "report": Command("gmi.cli.reports:main", "write the forms of a finished run anew: page, summary, card, or PDF"),
    "dossier": Command("gmi.dossier.command:main", "join finished runs of one system into one page"),
    "verify": Command("gmi.cli.verifying:main", "compute a finished run's figures again, and check its inputs"),
    "unseal": Command("gmi.cli.custody:unseal", "write sealed evidence of a run in the clear, to another folder"),
    "purge": Command("gmi.cli.custody:purge", "delete what shows people from a finished run; figures stay"),
    "assets": Command("gmi.cli:assets", "fetch data and weights, or list them with their licences and terms"),
    "init": Command("gmi.inversion.init:main", "write a configuration for photographs and a model of your own"),
}
"""By name."""

_MADE_OF = attrgetter(
    *("training", "data.folder", "data.enrolment", "data.size", "data.seed"),
    *(f"target.{key}" for key in ("weights", "factory", "arguments", "input", "defence")),
)
"""What decides a trained target's weights, and where they lie."""


def imported(place: str) -> Any:
    """What is at a place."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def meant(tree: dict[str, Any], kind: type) -> list[str]:
    """The commands for whose configuration this one was written, as its keys show; none where it is of that kind."""
    missing, unknown = _misfit(tree, kind)
    kinds: dict[type, list[str]] = {}
    for name, command in COMMANDS.items():
        with suppress(ModuleNotFoundError):  # of a part of gmi that is not installed
            if unknown and command.plan:
                kinds.setdefault(imported(command.plan), []).append(name)
    if not kinds:
        return []
    misfits = {other: sum(_misfit(tree, other)) for other in kinds}
    least = min(misfits.values())
    best = [name for other, names in kinds.items() if misfits[other] == least for name in names]
    return best if 2 * least < missing + unknown else []


def _misfit(tree: dict[str, Any], kind: Any) -> tuple[int, int]:
    """The number of keys that a kind of configuration needs and does not find, and of those that it does not know."""
    parts = fields(kind)
    needed = {part.name for part in parts if part.default is MISSING and part.default_factory is MISSING}
    return len(needed - tree.keys()), len(tree.keys() - {part.name for part in parts})


def trainer(plan: Any) -> str | None:
    """The shipped configuration from which `gmi train-target` makes the weights that a plan asks for, if any does."""
    from gmi.settings import read, shipped

    audit, plan = imported(COMMANDS["train-target"].plan), getattr(plan, "audit", plan)
    for name in sorted(shipped(), key=lambda name: name not in str(plan.target)):  # runs/NAME-target/model.safetensors
        with suppress(GmiError, AttributeError):  # it is of another kind
            if _MADE_OF(read(name, audit)) == _MADE_OF(plan):
                return name
    return None
