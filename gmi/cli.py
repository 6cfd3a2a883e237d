"""What every pipeline does before and after its own work: arguments, the accelerator, errors in one sentence."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from gmi.audits import Hardware, Kind, conduct
from gmi.defences import AnyDefence
from gmi.errors import GmiError
from gmi.inversion.plan import Audit
from gmi.settings import Plan, override, parse, plain, read
from gmi.targets.module import ModuleTarget


def run(work: Callable[[Sequence[str]], None]) -> None:
    """Calls `work` with the command line. A GmiError becomes one sentence and exit code 2; others show."""
    try:
        work(sys.argv[1:])
    except GmiError as error:
        print("error:", *(line.strip() for line in str(error).splitlines()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: run the same command again to go on", file=sys.stderr)
        sys.exit(130)


def parser(description: str, prog: str | None = None) -> argparse.ArgumentParser:
    """CONFIG and whatever the pipeline adds; dotted overrides are left to `configured`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Every key of the configuration can be overridden: --seed 1. CONFIG --help-config lists them all; the "
        "type of a block, and with it its keys, is chosen in the file.",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a YAML file, such as those in configs/")
    return parser


def configured(
    parser: argparse.ArgumentParser, arguments: Sequence[str], kind: type[Plan]
) -> tuple[argparse.Namespace, Plan]:
    """The pipeline's own options, and the plan of that kind with its overrides."""
    options, overrides = parser.parse_known_args(list(arguments))
    overrides = ["--help" if one == "--help-config" else one for one in overrides]
    return options, override(read(options.config, kind), overrides, f"{parser.prog} {options.config}")


def hardened(
    parser: argparse.ArgumentParser, arguments: Sequence[str], kind: type[Audit] = Audit
) -> tuple[argparse.Namespace, Audit]:
    """The options and the audit, with `--defence`, which takes the place of the configuration's target.defence."""
    told = "of the target: its type, or YAML such as '{type: dp-sgd, epsilon: 8, part: head}'; 'null': none"
    parser.add_argument("--defence", help=told, metavar="YAML")
    options, plan = configured(parser, arguments, kind)
    if options.defence is None:
        return options, plan
    if not isinstance(plan.target, ModuleTarget):
        raise GmiError("--defence: only a target of type module can be hardened.")
    defence = parse(options.defence, AnyDefence | None, "--defence")
    return options, replace(plan, target=replace(plan.target, defence=defence))


def main(kind: Kind[Any, Any, Any], description: str, arguments: Sequence[str], prog: str | None = None) -> None:
    """Carries out one kind of audit as the command line asks for it.

    With --dry-run the configuration and the forecast are printed, and nothing is spent.
    """
    flags = parser(description, prog)
    flags.add_argument("--out", type=Path, help="run folder; runs/NAME unless given")
    flags.add_argument("--dry-run", action="store_true", help="print configuration, queries and time; spend nothing")
    take = hardened if kind.plan is Audit else configured
    options, plan = take(flags, arguments, kind.plan)
    engine = accelerator()
    hardware = Hardware(engine.device, lambda: engine.autocast())
    if options.dry_run:
        if engine.is_main_process:
            inputs = kind.load(plan, hardware)
            print(yaml.safe_dump(plain(plan), sort_keys=False), end="")
            print(kind.forecast(plan, inputs, hardware))
            kind.refuse(plan, inputs)
        return
    page = conduct(kind, plan, options.out or Path("runs", plan.name), hardware)
    if engine.is_main_process:
        verdict = json.loads(page.with_suffix(".json").read_text("utf-8")).get("verdict")
        if verdict is not None:
            print(f"{verdict['finding'].capitalize()}. {' '.join(verdict['because'])}")
        print(page)


def accelerator() -> Accelerator:
    """Device, processes and precision as accelerate is configured. Raises GmiError where this machine lacks them."""
    asked = os.environ.get("ACCELERATE_TORCH_DEVICE", "")
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise GmiError(
            f"ACCELERATE_TORCH_DEVICE asks for {asked}, but torch sees no GPU here: unset it to use the CPU."
        )
    try:
        # Unless told that this is the CPU's work, accelerate runs one process under torchrun where there is no GPU.
        patience = InitProcessGroupKwargs(timeout=timedelta(days=7))  # one process may have hours more to do
        return Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=[patience])
    except (ValueError, RuntimeError, NotImplementedError) as error:
        raise GmiError(f"accelerate cannot start as it is configured: {error}") from error
