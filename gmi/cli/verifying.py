"""The command that checks a finished run: figures are computed again, and files compared with what they came from."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gmi.cli.custody import planned, undone
from gmi.cli.options import flags_of
from gmi.cli.reports import kind_of, rendered
from gmi.errors import Damaged, GmiError, because, foreign

if TYPE_CHECKING:
    from gmi.audits import Kind
    from gmi.evidence.checked import Checked

ROUNDING = 1e-3
"""How far numbers in single precision may differ between processors, as a share of the number."""
FORMS = ("figures.csv", "summary.md", "card.md")


def main(arguments: Sequence[str]) -> None:
    """Prints what was checked, what differs, and what could not be checked; exit code 3 where anything differs."""
    options = flags_of("verify").parse_args(arguments)
    kind = kind_of(options.run)
    from gmi.report.page import read

    path = options.run / f"{kind.name}.json"
    report = read(path)
    if options.signed_by is not None:
        from gmi.evidence.signature import refuse_unsigned

        refuse_unsigned(path, options.signed_by)
        print(f"as signed     {path.name}, by the owner of {options.signed_by}")
    with foreign(lambda why: f"{path} does not hold what can be verified ({why}): it was changed."):
        found = [*_checks(kind, options.run, report)]
    if options.signed_by is None:
        from gmi.evidence.checked import Checked

        found.append(Checked("who made the report", "not checked", "name a public key with --signed-by"))
    alike = sum(each.outcome == "as reported" for each in found)
    print(f"as reported   {alike} figures and files")
    for outcome in ("not checked", "differs"):
        for each in found:
            if each.outcome == outcome:
                print(f"{outcome:14}{each.what}: {each.why}")
    if any(each.outcome == "differs" for each in found):
        sys.exit(3)


def _checks(kind: "Kind[Any, Any, Any]", folder: Path, report: dict[str, Any]) -> "Iterator[Checked]":
    """Everything that can be checked of a run."""
    from gmi.cli import accelerator, hardware
    from gmi.evidence.checked import Checked
    from gmi.report.header import digests

    plan = inputs = None
    try:
        plan = planned(kind, folder)
    except GmiError as error:
        yield Checked("what the report has of plan.yaml", "not checked", because(error))
    yield from _configuration(plan, folder, report)
    present = digests(folder)
    for name, digest in report["provenance"]["files"].items():
        yield Checked.of(name, present.get(name) == digest, "it is not the file that the report was made with")
    if plan is not None:
        yield from _permission(kind, plan, folder, report)
    yield from _forms(kind, folder)
    if plan is not None:
        try:
            inputs = kind.load(plan, hardware(accelerator()))
        except (GmiError, OSError, ValueError) as error:
            yield Checked("inputs, by their digests", "not checked", because(error))
        else:
            yield from _inputs(plan, inputs, report)
    yield from _figures(kind, plan, inputs, folder, report)


def _figures(
    kind: "Kind[Any, Any, Any]", plan: Any, inputs: Any, folder: Path, report: dict[str, Any]
) -> "Iterator[Checked]":
    """The figures, from the pieces in the folder where they can be read, and from scores where there are any."""
    pieces = [*again(kind, plan, inputs, folder, report)]
    scores = [] if kind.recompute is None else [*kind.recompute(folder, report, plan)]
    read = any(each.outcome != "not checked" for each in pieces)
    yield from pieces if read or not scores else ()
    yield from (each for each in scores if not read or each.outcome != "not checked")


def _configuration(plan: Any, folder: Path, report: dict[str, Any]) -> "Iterator[Checked]":
    """Whether config.yaml and plan.yaml are of the report, whether or not its inputs are there.

    plan: what plan.yaml says; None: it cannot be read.
    """
    from gmi.evidence.checked import Checked
    from gmi.run.record import digest_of
    from gmi.settings import identity
    from gmi.settings.documents import parse_yaml

    made = report["provenance"]
    try:
        config = parse_yaml((folder / "config.yaml").read_text("utf-8"))["config"]
        held, inputs = digest_of(config["configuration"]), config["inputs"]
        same = digest_of(config) == made["config_digest"] and inputs == made["digests"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Checked("config.yaml", "differs", f"a run leaves one, and it cannot be read: {because(error)}")
        return
    yield Checked.of("config.yaml", same, "it is not the file that the report was made with")
    if plan is not None:
        mine = digest_of(identity(plan))
        yield Checked.of("the configuration", mine == held, "plan.yaml says another than config.yaml")


def _permission(kind: "Kind[Any, Any, Any]", plan: Any, folder: Path, report: dict[str, Any]) -> "Iterator[Checked]":
    """Whether the report says of authorisation and evidence what its configuration says."""
    from gmi.evidence.checked import Checked
    from gmi.evidence.handling import kept
    from gmi.evidence.purge import now
    from gmi.settings import plain

    allowed = None if plan.authorisation is None else plain(plan.authorisation)
    yield Checked.of("authorisation", report["authorisation"] == allowed, "plan.yaml has another")
    yield Checked.of("name", report["name"] == plan.name, "plan.yaml has another")
    if now(folder) is None:
        mine = asdict(kept(plan.evidence, kind.shows(plan)))
        yield Checked.of("evidence", report["evidence"] == mine, "plan.yaml has another handling")


def _forms(kind: "Kind[Any, Any, Any]", folder: Path) -> "Iterator[Checked]":
    """Whether page, summary, card and table say what the JSON says: they are written anew elsewhere, and compared."""
    from gmi.evidence.checked import Checked

    with TemporaryDirectory(prefix="gmi-") as place:
        for path in folder.iterdir():
            if path.is_dir() or path.suffix in (".json", ".safetensors"):
                Path(place, path.name).symlink_to(path.resolve())
        try:
            rendered(kind, Path(place))
        except GmiError as error:
            raise GmiError(str(error).replace(place, str(folder))) from error
        for name in (*FORMS, f"{kind.name}.html"):
            try:
                same = (folder / name).read_bytes() == Path(place, name).read_bytes()
                yield Checked.of(name, same, f"it does not say what {kind.name}.json says")
            except OSError as error:
                yield Checked(name, "not checked", because(error))


def _inputs(plan: Any, inputs: Any, report: dict[str, Any]) -> "Iterator[Checked]":
    """Whether data, weights and assets are still those that the run read, by their digests."""
    from gmi.audits import credits
    from gmi.evidence.checked import Checked

    try:
        known = {asset["name"]: asset["sha256"] for asset in report["assets"]}
        assets = {asset.name: asset.sha256 for asset in credits(plan)}
    except (GmiError, OSError, ValueError) as error:
        yield Checked("assets, by their digests", "not checked", because(error))
        return
    digests = report["provenance"]["digests"]
    if digests.get("gmi") != inputs.digests.get("gmi"):
        yield Checked("inputs, by their digests", "not checked", f"gmi {digests.get('gmi')} made the report")
        return
    for name in digests.keys() | inputs.digests.keys():
        same = digests.get(name) == inputs.digests.get(name)
        yield Checked.of(f"the files of {name}", same, "they have other digests")
    for name in known.keys() | assets.keys():
        yield Checked.of(f"asset {name}", known.get(name) == assets.get(name), "it has another digest")


def again(
    kind: "Kind[Any, Any, Any]", plan: Any, inputs: Any, folder: Path, report: dict[str, Any]
) -> "Iterator[Checked]":
    """Every part of the JSON, computed again from the pieces in the folder: nothing is searched, and no server asked.

    Texts and counts must be the same, and numbers up to rounding: where they are nearly so, nothing is said.
    """
    from gmi.audits import told
    from gmi.cli import accelerator, hardware
    from gmi.evidence import purge
    from gmi.evidence.checked import Checked, alike
    from gmi.evidence.handling import vault
    from gmi.report.header import Header
    from gmi.run import Run

    what = f"the figures of {kind.name}.json"
    if why := _hindrance(plan, inputs, report, purge.purged_on(folder)):
        yield Checked(what, "not checked", why)
        return
    with TemporaryDirectory(prefix="gmi-") as place, undone():
        shadow = Path(place, "run")  # where what is written beside the pieces changes nothing of the run
        try:
            shutil.copytree(folder.resolve(), shadow, copy_function=_link)
            in_clear = plan.evidence == "none" or purge.now(folder)
            sealing = None if in_clear else vault(plan.evidence, folder)
            run = Run(shadow, report["provenance"]["config_digest"], vault=sealing, finished=True)
            engine = hardware(accelerator())
            mine = json.loads(json.dumps(told(kind, plan, inputs, kind.examine(plan, inputs, run, engine))))
        except Damaged as error:
            yield Checked(what, "differs", str(error).replace(str(shadow), str(folder)).partition(": remove it")[0])
            return
        except Exception as error:  # whatever fails here tells nothing of the report
            yield Checked(what, "not checked", f"they could not be computed again: {because(error)}")
            return
    for part in sorted((mine.keys() | report.keys()) - {field.name for field in fields(Header)}):
        pair = mine.get(part), report.get(part)
        if alike(*pair) or not alike(*pair, ROUNDING):
            yield Checked.of(part, alike(*pair), "the pieces in the folder give another value")
        else:
            yield Checked(part, "not checked", "the pieces give nearly the same: another processor rounds otherwise")


def _link(file: str, place: str) -> None:
    """A link to a file, or a copy of one into which would be written."""
    (shutil.copy2 if "ledger" in file else os.symlink)(file, place)


def _hindrance(plan: Any, inputs: Any, report: dict[str, Any], purged: str | None) -> str:
    """Why figures cannot be computed again; empty where they can."""
    if purged is not None:
        return f"what they rest on was deleted on {purged}"
    if plan is None or inputs is None:
        return "they rest on inputs that cannot be read"
    from gmi.audits import unseen

    if unseen(plan):
        return "the target would be asked again"
    made, mine = report["provenance"]["digests"], inputs.digests
    if made != mine:
        return "they rest on other inputs than those that are there"
    return ""
