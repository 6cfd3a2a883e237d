"""The commands for what a finished run holds: verify its figures, unseal its evidence, purge it."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gmi.cli.commands import Parser
from gmi.cli.reports import kind_of, rendered
from gmi.errors import GmiError, because

if TYPE_CHECKING:
    from gmi.audits import Checked, Kind

FORMS = ("figures.csv", "summary.md", "card.md")


def purge(arguments: Sequence[str], prog: str | None = None) -> None:
    """Deletes evidence, and says what was deleted. Raises GmiError where a run is not finished."""
    parser = Parser(prog=prog, description="Deletes images, templates and names of files from a finished run.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run, such as runs/quickstart")
    options = parser.parse_args(arguments)
    from gmi.evidence import purge as evidence

    kind = kind_of(options.run)
    purged = evidence.purge(options.run)
    page = rendered(kind, options.run)
    print(f"Deleted {purged}: pieces of work, pictures, names of files. Figures and {page.name}, without images, stay.")


def unseal(arguments: Sequence[str], prog: str | None = None) -> None:
    """Copies a run with its evidence in the clear. Raises GmiError without the right key."""
    parser = Parser(prog=prog, description="Writes a run with its evidence in the clear, to a private folder.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run whose evidence is sealed")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder; delete it after use")
    options = parser.parse_args(arguments)
    from gmi.evidence.handling import Handling, vault
    from gmi.evidence.vault import SUFFIX
    from gmi.run import Run

    kind, folder = kind_of(options.run), options.run
    plan = planned(kind, folder)
    if not isinstance(plan.evidence, Handling) or plan.evidence.encrypt is None:
        raise GmiError(f"The evidence of {folder} is not sealed: open its page.")
    if options.out.exists():
        raise GmiError(f"{options.out} is there already: name a new folder with --out.")
    report = json.loads((folder / f"{kind.name}.json").read_text("utf-8"))
    run = Run(folder, report["provenance"]["config_digest"], vault=vault(plan.evidence))
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob(f"*{SUFFIX}"))]
    clear = Run(options.out, run.digest)
    options.out.mkdir(parents=True, mode=0o700)
    for name in names:
        try:
            clear.write(name.removesuffix(SUFFIX), run.kept(name.removesuffix(SUFFIX)))
        except GmiError as error:
            shutil.rmtree(options.out)
            raise GmiError(f"{folder / name} cannot be unsealed: {error}.") from error
    for path in folder.iterdir():
        if path.is_file() and path.suffix != SUFFIX:
            clear.write(path.name, path.read_bytes())
    print(f"{rendered(kind, options.out)} ({len(names)} files unsealed: delete the folder after use)")


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

    report = read(options.run / f"{kind.name}.json")
    if options.signed_by is not None:
        from gmi.evidence.signature import refuse_unsigned

        refuse_unsigned(options.run / f"{kind.name}.json", options.signed_by)
        print(f"as signed     {kind.name}.json, by the owner of {options.signed_by}")
    found = [*_checks(kind, options.run, report)]
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
    from gmi.audits import Checked

    if kind.recompute is None:
        yield Checked(f"figures of {kind.name}.json", "not checked", "this kind of audit leaves no scores")
    else:
        yield from kind.recompute(folder, report)
    yield from _forms(kind, folder)
    yield from _inputs(kind, folder, report)
    if not (folder / f"{kind.name}.json.sig").exists():
        yield Checked("who made the report", "not checked", "it is not signed (evidence.sign)")


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


def _inputs(kind: "Kind[Any, Any, Any]", folder: Path, report: dict[str, Any]) -> "Iterator[Checked]":
    """Whether data, weights and assets are still those that the run read, by their digests."""
    from gmi.audits import Checked, credits, load
    from gmi.cli import accelerator, hardware
    from gmi.evidence.handling import Handling
    from gmi.evidence.vault import Vault
    from gmi.settings import identity

    try:
        plan = planned(kind, folder)
        inputs = load(kind, plan, hardware(accelerator()))
        known = {asset["name"]: asset["sha256"] for asset in report["assets"]}
        assets = {asset.name: asset.sha256 for asset in credits(plan)}
    except (GmiError, OSError, ValueError) as error:
        yield Checked("inputs, by their digests", "not checked", because(error))
        return
    digests = report["provenance"]["digests"]
    for name in digests.keys() | inputs.digests.keys():
        yield _alike(f"the files of {name}", digests.get(name) == inputs.digests.get(name), "they have other digests")
    for name in known.keys() | assets.keys():
        yield _alike(f"asset {name}", known.get(name) == assets.get(name), "it has another digest")
    config = {"configuration": identity(plan), "inputs": inputs.digests}
    if plan.evidence == "none":
        config["evidence"] = ""
    elif isinstance(plan.evidence, Handling) and plan.evidence.encrypt is not None:
        try:
            config["evidence"] = Vault.of(plan.evidence.encrypt.key).fingerprint
        except GmiError as error:
            yield Checked("the configuration", "not checked", because(error))
            return
    digest = sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    same = digest == report["provenance"]["config_digest"]
    yield _alike("the configuration", same, "plan.yaml is not the configuration of the report")


def _alike(what: str, same: bool, why: str) -> "Checked":
    from gmi.audits import Checked

    return Checked(what, "as reported", "") if same else Checked(what, "differs", why)
