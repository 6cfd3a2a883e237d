"""The console: `gmi COMMAND`, its arguments, the accelerator, and every mistake in one sentence.

What takes a while to import is imported when a command starts: an interrupted import ends in one sentence too.
"""

import argparse
import os
import shlex
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from gmi.cli.commands import COMMANDS, imported, meant, trainer
from gmi.cli.options import flags_of
from gmi.errors import GmiError, Untrained, because, foreign, missing, visible

if TYPE_CHECKING:
    from accelerate import Accelerator

    from gmi.audits import Hardware

Plan = TypeVar("Plan")

_STOPPED = "stopped: run the same command again to go on"


def command(arguments: Sequence[str] | None = None) -> None:
    """Carries out one command: the entry point of the console; None: with the words of the command line.

    Threads of torch that wait for each other sleep, unless OMP_WAIT_POLICY says otherwise: threads that spin hold up
    those that they wait for, where other processes want the cores, too.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported
    signal.signal(signal.SIGTERM, _terminate)
    run(_dispatch, arguments)


def _terminate(*_: object) -> None:
    """Ends the process at once, as all finished work lies in its folder: to raise here could break what C code does."""
    os.write(2, f"\n{_STOPPED}\n".encode())
    os._exit(143)


def run(work: Callable[[Sequence[str]], None], arguments: Sequence[str] | None = None) -> None:
    """Calls `work` with the command line. A GmiError becomes one sentence, after --traceback's, and exit code 2."""
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    if at_length := "--traceback" in words:
        words.remove("--traceback")
    try:
        try:
            work(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # nobody reads the output any more, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the very end
        sys.exit(141)  # as a program that the signal ends
    except GmiError as error:
        if at_length:
            traceback.print_exception(error)
        print("error:", *(visible(line.strip()) for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)
    except (OSError, sqlite3.Error) as error:  # where no border said more of it: the disk, or a file on it
        if at_length:
            traceback.print_exception(error)
        where = f"{visible(str(error.filename))}: " if isinstance(error, OSError) and error.filename else ""
        print(f"error: {where}{visible(because(error))}. Mend that, and run the same command again.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(_STOPPED, file=sys.stderr)
        sys.exit(130)


def _dispatch(arguments: Sequence[str]) -> None:
    name, *rest = arguments or ["--help"]
    if name == "help" and rest:
        name, *rest = rest[0], "--help"
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name == "--version":
        print(f"gmi {version('gmi')}")
    elif name not in COMMANDS:
        from gmi.settings.mistakes import suggestion

        what = "option" if name.startswith("-") else "command"
        guess = suggestion(name, [*COMMANDS, "--help", "--version"])
        raise GmiError(f"There is no {what} {name}{guess}; gmi --help lists all commands.")
    else:
        flags_of(name).parse_known_args(rest)  # --help, and what is missing, need no import
        try:
            work: Any = imported(COMMANDS[name].work)
        except ModuleNotFoundError as error:
            raise missing(error) from error
        if COMMANDS[name].folder:
            from gmi.cli.audits import main

            main(work, name, rest)
        else:
            work(rest)


def _help() -> str:
    """One line for every command."""
    lines = [f"  {name:19}{command.about}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: gmi COMMAND ...\n\nAudits what models give away of the people behind them.\n",
            *lines,
            "\ngmi COMMAND --help says more of one; gmi --version names the version.",
            "An error is one sentence; --traceback adds where it came from.",
            "A configuration is a YAML file, or the name of one that comes with gmi. To begin with:",
            "  gmi train-target quickstart",
            "  gmi audit quickstart",
        ]
    )


def configured(
    parser: argparse.ArgumentParser, arguments: Sequence[str], kind: type[Plan]
) -> tuple[argparse.Namespace, Plan]:
    """The command's own options, and the plan of that kind with its overrides.

    Raises GmiError for a mistake in either. With --help-config the plan's keys are printed, and nothing else is done.
    """
    from gmi.settings import list_keys, override

    options, overrides = parser.parse_known_args(list(arguments))
    if arguments[0].startswith("-") and arguments[0] in overrides:
        raise GmiError(f"CONFIG comes first: {parser.prog} CONFIG {arguments[0]} ...")
    options.overrides, plan = overrides, _read(parser, options.config, kind)
    _refuse_unknown(parser, plan, overrides)
    if getattr(options, "defence", None) is not None:
        overrides = [f"--target.defence={options.defence}", *overrides]
        if getattr(getattr(plan, "target", None), "type", None) != "module":
            raise GmiError("--defence: only a target of type module can be hardened.")
    plan = override(plan, overrides)
    if options.help_config:
        list_keys(plan, f"{parser.prog} {options.config}")
        sys.exit(0)
    return options, plan


def _read(parser: argparse.ArgumentParser, config: str, kind: type[Plan]) -> Plan:
    """The plan in CONFIG. Raises GmiError, which names the right command where CONFIG is for another one."""
    from gmi.settings import document, validate

    file, tree = document(config)
    try:
        return validate(tree, file, kind)
    except GmiError as error:
        if names := meant(tree, kind):
            right = " and ".join(f"gmi {name}" for name in names)
            raise GmiError(f"{config} is for {right}, and not for {parser.prog}.") from error
        raise


def _refuse_unknown(parser: argparse.ArgumentParser, plan: Any, overrides: Sequence[str]) -> None:
    """Raises GmiError where an option is no key of the plan either."""
    from gmi.settings import keys
    from gmi.settings.mistakes import suggestion

    known = {field.name for field in fields(plan)}
    for word in overrides:
        key = word.removeprefix("--").partition("=")[0]
        root = key.partition(".")[0].replace("-", "_")
        if word.startswith("--") and not {root, root.removeprefix("no_")} & known:
            guess = suggestion(f"--{key}", [*parser._option_string_actions, *(f"--{name}" for name in keys(plan))])
            raise GmiError(
                f"There is neither an option nor a key --{key}{guess}; {parser.prog} --help lists the options."
            )


@contextmanager
def naming_trainer(options: argparse.Namespace, plan: Any) -> Iterator[None]:
    """Where the target's weights are still to be made, the error names the command that does it, where there is one."""
    try:
        yield
    except Untrained as error:
        raise GmiError(remedy(error, options, plan)) from error


def remedy(error: Untrained, options: argparse.Namespace, plan: Any) -> str:
    """What to do about weights that are still to be made."""
    if isinstance(plan, imported(COMMANDS["train-target"].plan)):
        defence = [] if options.defence is None else ["--defence", options.defence]
        words = shlex.join([options.config, *defence, *options.overrides])
    else:
        words = trainer(plan)
    return str(error) if words is None else f"{error.reason}: gmi train-target {words} makes them."


def assets(arguments: Sequence[str]) -> None:
    """Fetches assets, or lists them. Raises GmiError, before anything is fetched, where a name is misspelt."""
    from gmi.assets.catalogue import ASSETS, cache_dir, fetch_asset, find

    options = flags_of("assets").parse_args(arguments)
    chosen = [find(name) for name in options.names] or ASSETS
    if options.list:
        print(f"{'name':<15} {'licence':<36} {'download':>8}  terms")
    for asset in chosen:
        if options.list:
            print(f"{asset.name:<15} {asset.licence:<36} {asset.size / 1e6:>5.0f} MB  {asset.terms}")
        else:
            print(f"{asset.name}: {fetch_asset(asset, cache_dir())}", flush=True)


def hardware(engine: "Accelerator") -> "Hardware":
    """What an audit runs on, as accelerate is configured. Raises GmiError for fp16, in which small gradients vanish."""
    from gmi.audits import Hardware

    if engine.mixed_precision == "fp16":
        raise GmiError("A search's small gradients are 0 in fp16: set mixed_precision to bf16 or no.")
    return Hardware(engine.device, engine.mixed_precision == "bf16")


def accelerator() -> "Accelerator":
    """Device, processes and precision as accelerate is configured. Raises GmiError where this machine lacks them."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    asked = os.environ.get("ACCELERATE_TORCH_DEVICE", "")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise GmiError(
            f"ACCELERATE_TORCH_DEVICE asks for {asked}, but torch sees no GPU here: unset it to use the CPU."
        )
    with foreign(lambda why: f"accelerate cannot start as it is configured: {why}."):
        # Unless told that this is the CPU's work, accelerate runs one process under torchrun where there is no GPU.
        patience = InitProcessGroupKwargs(timeout=timedelta(days=7))  # one process may have hours more to do
        return Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=[patience])
