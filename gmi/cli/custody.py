"""The commands for what a finished run holds: verify its figures, unseal its evidence, purge it."""

import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gmi.cli.commands import Parser
from gmi.cli.reports import kind_of, rendered
from gmi.errors import GmiError, because, foreign

if TYPE_CHECKING:
    from gmi.audits import Checked, Kind

FORMS = ("figures.csv", "summary.md", "card.md")


def purge(arguments: Sequence[str], prog: str | None = None) -> None:
    """Deletes evidence, and says what was deleted. Raises GmiError for a folder that is no run's."""
    parser = Parser(prog=prog, description="Deletes images, templates, answers and names of files from a run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, such as runs/quickstart")
    options = parser.parse_args(arguments)
    from gmi.audits import pages
    from gmi.evidence import purge as evidence

    folder = options.run
    try:
        kind = kind_of(folder)
    except GmiError:
        if not (folder / "config.yaml").is_file():
            raise
        purged = evidence.purge(folder)
        (folder / evidence.RECORD).unlink()
        print(f"Deleted {purged} of a run that was not finished: the same command starts it anew.")
        return
    rendered(kind, folder)  # what cannot be written anew is not deleted
    purged = evidence.purge(folder, pages(kind))
    page = rendered(kind, folder)
    print(f"Deleted {purged}: pieces of work, pictures, names. Figures and {page.name}, without images, stay.")


def unseal(arguments: Sequence[str], prog: str | None = None) -> None:
    """Copies a run with its evidence in the clear. Raises GmiError without the right key."""
    parser = Parser(prog=prog, description="Writes a run with its evidence in the clear, to a private folder.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run whose evidence is sealed")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder; delete it after use")
    options = parser.parse_args(arguments)
    from gmi.evidence.handling import Handling, vault
    from gmi.evidence.vault import SUFFIX
    from gmi.report.page import read
    from gmi.run import Run

    kind, folder, out = kind_of(options.run), options.run, options.out
    plan = planned(kind, folder)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob(f"*{SUFFIX}"))]
    if not names or not isinstance(plan.evidence, Handling) or plan.evidence.encrypt is None:
        raise GmiError(f"Nothing in {folder} is sealed: open its page.")
    digest = read(folder / f"{kind.name}.json")["provenance"]["config_digest"]
    run, clear = Run(folder, digest, vault=vault(plan.evidence)), Run(out, digest)
    try:
        out.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise GmiError(f"{out} cannot be made a new folder ({because(error)}): name another with --out.") from error
    ending = signal.signal(signal.SIGTERM, signal.default_int_handler)  # not at once: what is half done is undone
    try:
        for name in names:
            clear.write(name.removesuffix(SUFFIX), run.kept(name.removesuffix(SUFFIX)))
        for path in folder.iterdir():
            if path.is_file() and path.suffix != SUFFIX:
                clear.write(path.name, path.read_bytes())
        page = rendered(kind, out)
    except BaseException as error:  # nothing half in the clear is left
        shutil.rmtree(out, ignore_errors=True)
        if isinstance(error, GmiError | OSError):
            raise GmiError(f"{folder} cannot be unsealed: {because(error)}.") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, ending)
    print(f"{page} ({len(names)} files unsealed: delete the folder after use)")


def planned(kind: "Kind[Any, Any, Any]", folder: Path) -> Any:
    """The configuration of a finished run. Raises GmiError where it is missing or damaged."""
    from gmi.settings import read

    return read(folder / "plan.yaml", kind.plan)


def verify(arguments: Sequence[str], prog: str | None = None) -> None:
    """Prints what was checked, what differs, and what could not be checked; exit code 3 where anything differs."""
    parser = Parser(prog=prog, description="Computes the figures of a finished run again, and checks its inputs.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run, such as runs/quickstart")
    parser.add_argument("--signed-by", type=Path, metavar="KEY", help="the public key of who signed the report")
    options = parser.parse_args(arguments)
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
        from gmi.audits import Checked

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
    from gmi.audits import Checked, digests

    try:
        plan = planned(kind, folder)
    except GmiError as error:
        plan = None
        yield Checked("plan.yaml, and what the report has of it", "not checked", because(error))
    present = digests(folder)
    for name, digest in report["provenance"]["files"].items():
        yield _alike(name, present.get(name) == digest, "it is not the file that the report was made with")
    if plan is not None:
        yield from _permission(kind, plan, folder, report)
    if kind.recompute is None:
        yield Checked(f"figures of {kind.name}.json", "not checked", "this kind of audit leaves no scores")
    else:
        yield from kind.recompute(folder, report, plan)
    yield from _forms(kind, folder)
    if plan is not None:
        yield from _inputs(kind, plan, report)


def path_of(kind: "Kind[Any, Any, Any]") -> str:
    return f"{kind.name}.json"


def _permission(kind: "Kind[Any, Any, Any]", plan: Any, folder: Path, report: dict[str, Any]) -> "Iterator[Checked]":
    """Whether the report says of authorisation and evidence what its configuration says."""
    from gmi.evidence.handling import kept
    from gmi.evidence.purge import purged_on
    from gmi.settings import plain

    allowed = None if plan.authorisation is None else plain(plan.authorisation)
    yield _alike("authorisation", report["authorisation"] == allowed, "plan.yaml has another")
    yield _alike("name", report["name"] == plan.name, "plan.yaml has another")
    if purged_on(folder) is None:
        mine = asdict(kept(plan.evidence, kind.shows(plan)))
        yield _alike("evidence", report["evidence"] == mine, "plan.yaml has another handling")


def _forms(kind: "Kind[Any, Any, Any]", folder: Path) -> "Iterator[Checked]":
    """Whether page, summary, card and table say what the JSON says: they are written anew elsewhere, and compared."""
    from gmi.audits import Checked

    with TemporaryDirectory(prefix="gmi-") as place:
        for path in folder.iterdir():
            if path.is_dir() or path.suffix in (".json", ".safetensors"):
                Path(place, path.name).symlink_to(path.resolve())
        rendered(kind, Path(place))
        for name in (*FORMS, f"{kind.name}.html"):
            try:
                same = (folder / name).read_bytes() == Path(place, name).read_bytes()
                yield _alike(name, same, f"it does not say what {kind.name}.json says")
            except OSError as error:
                yield Checked(name, "not checked", because(error))


def _inputs(kind: "Kind[Any, Any, Any]", plan: Any, report: dict[str, Any]) -> "Iterator[Checked]":
    """Whether data, weights and assets are still those that the run read, by their digests."""
    from gmi.audits import Checked, credits
    from gmi.cli import accelerator, hardware
    from gmi.evidence.handling import Handling
    from gmi.evidence.vault import Vault
    from gmi.run import digest_of, whole
    from gmi.settings import identity

    try:
        inputs = kind.load(plan, hardware(accelerator()))
        known = {asset["name"]: asset["sha256"] for asset in report["assets"]}
        assets = {asset.name: asset.sha256 for asset in credits(plan)}
    except (GmiError, OSError, ValueError) as error:
        yield Checked("inputs, by their digests", "not checked", because(error))
        return
    digests = report["provenance"]["digests"]
    if digests.get("gmi") != inputs.digests.get("gmi"):
        yield Checked("inputs, by their digests", "not checked", f"gmi {digests.get('gmi')} made the report")
        return
    for name in digests.keys() | inputs.digests.keys():
        yield _alike(f"the files of {name}", digests.get(name) == inputs.digests.get(name), "they have other digests")
    for name in known.keys() | assets.keys():
        yield _alike(f"asset {name}", known.get(name) == assets.get(name), "it has another digest")
    key = "" if plan.evidence == "none" else None
    if isinstance(plan.evidence, Handling) and plan.evidence.encrypt is not None:
        try:
            key = Vault.of(plan.evidence.encrypt.key).fingerprint
        except GmiError as error:
            yield Checked("the configuration", "not checked", because(error))
            return
    config = whole({"configuration": identity(plan), "inputs": inputs.digests}, key)
    same = digest_of(config) == report["provenance"]["config_digest"]
    yield _alike("the configuration", same, "plan.yaml is not the configuration of the report")


def _alike(what: str, same: bool, why: str) -> "Checked":
    from gmi.audits import Checked

    return Checked(what, "as reported", "") if same else Checked(what, "differs", why)
