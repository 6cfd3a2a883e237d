"""The commands that audit: what an audit would cost, the audit itself, and what a policy says of it."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from gmi import cli
from gmi.audits import Kind, conduct, load
from gmi.errors import GmiError, Overspent, Untrained
from gmi.gate.formats import put
from gmi.gate.policy import EXIT, Policy, decide, read_policy
from gmi.report.subjects import reworded
from gmi.settings import plain, words

_POLICY = "statements that the audit must meet: exit code 0 pass, 3 fail, 4 inconclusive"


def main(kind: Kind[Any, Any, Any], description: str, arguments: Sequence[str], prog: str | None = None) -> None:
    """Carries out one kind of audit as the command line asks for it.

    With --dry-run the configuration and the forecast are printed, and nothing is spent.
    """
    flags = cli.parser(description, prog)
    flags.add_argument("--out", type=Path, help=f"run folder; runs/NAME{kind.suffix} unless given")
    flags.add_argument("--dry-run", action="store_true", help="print configuration, queries and time; spend nothing")
    flags.add_argument("--policy", type=Path, metavar="FILE", help=_POLICY)
    trainable = {"target", "training"} <= {field.name for field in fields(kind.plan)}
    options, plan = (cli.hardened if trainable else cli.configured)(flags, arguments, kind.plan)
    with speaking(plan, arguments), cli.naming_trainer(options, plan):
        policy = None if options.policy is None else read_policy(options.policy)
        _forecast(kind, plan, options) if options.dry_run else _conduct(kind, plan, options.out, policy)


@contextmanager
def speaking(plan: Any, arguments: Sequence[str]) -> Iterator[None]:
    """Where the audit is of no people, errors speak of classes; the user's own words stay."""
    subject = getattr(getattr(getattr(plan, "audit", plan), "data", None), "subject", "faces")
    try:
        yield
    except GmiError as error:
        if subject == "faces":
            raise
        raise GmiError(reworded(str(error), subject, (*words(plan), *arguments))) from error


def _forecast(kind: Kind[Any, Any, Any], plan: Any, options: argparse.Namespace) -> None:
    """Prints the configuration and what the audit would cost."""
    engine, late = cli.accelerator(), None
    if engine.is_main_process:
        inputs = load(kind, plan, cli.hardware(engine))
        try:
            kind.refuse(plan, inputs)
        except (Overspent, Untrained) as error:
            late = error
        print(yaml.safe_dump(plain(plan), sort_keys=False), end="", flush=True)
        print(
            "Measuring how fast this machine is, beside what else it does now: this can take minutes.", file=sys.stderr
        )
        print(kind.forecast(plan, inputs, cli.hardware(engine)))
        if isinstance(late, Untrained):
            print(cli.remedy(late, options, plan))
        elif late is not None:
            raise late


def _conduct(kind: Kind[Any, Any, Any], plan: Any, out: Path | None, policy: Policy | None) -> None:
    """Carries out the audit, and prints its verdict, what a policy says of it, and its page.

    With a policy, the process ends with the decision's exit code.
    """
    engine = cli.accelerator()
    page = conduct(kind, plan, out or Path("runs", plan.name + kind.suffix), cli.hardware(engine))
    if engine.is_main_process:
        report = json.loads(page.with_suffix(".json").read_text("utf-8"))
        verdict = report.get("verdict")
        if verdict is not None:
            print(f"{verdict['finding'].capitalize()}. {' '.join(verdict['because'])}")
        code = 0 if policy is None else _gate(policy, report, plan.name, page)
        print(page)
        if code:
            sys.exit(code)


def _gate(policy: Policy, report: Mapping[str, Any], name: str, page: Path) -> int:
    """Prints what a policy says of an audit, writes it next to the page, and returns the exit code."""
    decision = decide(policy, report)
    put(decision, name, page)
    print(decision)
    return EXIT[decision.result]
