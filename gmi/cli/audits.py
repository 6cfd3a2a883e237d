"""The commands that audit: what an audit would cost, the audit itself, and what a policy says of it."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from gmi import cli
from gmi.audits import Kind, carry_out, load
from gmi.cli.commands import COMMANDS
from gmi.cli.options import flags_of
from gmi.cli.reports import gate
from gmi.errors import GmiError, Overspent, Untrained
from gmi.gate.policy import Policy, read_policy
from gmi.report.subjects import reworded
from gmi.settings import plain, words


def main(kind: Kind[Any, Any, Any], name: str, arguments: Sequence[str]) -> None:
    """Carries out one kind of audit as the command of that name is asked to.

    With --dry-run the configuration and the forecast are printed, and nothing is spent.
    """
    options, plan = cli.configured(flags_of(name), arguments, kind.plan)
    with speaking(plan, arguments), cli.naming_trainer(options, plan):
        policy = None if options.policy is None else read_policy(options.policy)
        if options.dry_run:
            _forecast(kind, plan, options)
        else:
            out = options.out or Path(COMMANDS[name].folder.replace("NAME", plan.name))
            _conduct(kind, plan, out, policy)


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


def _conduct(kind: Kind[Any, Any, Any], plan: Any, folder: Path, policy: Policy | None) -> None:
    """Carries out the audit, and prints its verdict, what a policy says of it, and its page.

    With a policy, the process ends with the decision's exit code.
    """
    engine = cli.accelerator()
    done = carry_out(kind, plan, folder, cli.hardware(engine))
    page = done.page
    if engine.is_main_process:
        report = json.loads(page.with_suffix(".json").read_text("utf-8"))
        verdict = report.get("verdict")
        if verdict is not None:
            print(f"{verdict['finding'].capitalize()}. {' '.join(verdict['because'])}")
        code = 0 if policy is None else gate(policy, page, done.current)
        print(page)
        if code:
            sys.exit(code)
