"""The commands for the evidence of a finished run: unseal it in a copy, or purge it."""

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmi.cli.options import flags_of
from gmi.cli.reports import kind_of, rendered
from gmi.errors import GmiError, because

if TYPE_CHECKING:
    from gmi.audits import Kind


def purge(arguments: Sequence[str]) -> None:
    """Deletes evidence, and says what was deleted. Raises GmiError for a folder that is no run's."""
    options = flags_of("purge").parse_args(arguments)
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
    if (day := evidence.purged_on(folder)) is not None and not evidence.left(folder):
        print(f"Nothing was deleted: {folder} was purged on {day}, and nothing is left.")
        return
    rendered(kind, folder)  # what cannot be written anew is not deleted
    purged = evidence.purge(folder, pages(kind))
    page = rendered(kind, folder)
    print(f"Deleted {purged}: pieces of work, pictures, names. Figures and {page.name}, without images, stay.")


def unseal(arguments: Sequence[str]) -> None:
    """Copies a run with its evidence in the clear. Raises GmiError without the right key."""
    options = flags_of("unseal").parse_args(arguments)
    from gmi.evidence.handling import Handling, vault
    from gmi.evidence.purge import COPY
    from gmi.evidence.vault import SUFFIX
    from gmi.report.page import read
    from gmi.run import Run

    kind, folder, out = kind_of(options.run), options.run, options.out
    plan = planned(kind, folder)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob(f"*{SUFFIX}"))]
    if not names or not isinstance(plan.evidence, Handling) or plan.evidence.encrypt is None:
        raise GmiError(f"Nothing in {folder} is sealed: open its page.")
    digest = read(folder / f"{kind.name}.json")["provenance"]["config_digest"]
    run, clear = Run(folder, digest, vault=vault(plan.evidence, folder)), Run(out, digest)
    try:
        out.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise GmiError(f"{out} cannot be made a new folder ({because(error)}): name another with --out.") from error
    with undone():
        try:
            for name in names:
                clear.write(name.removesuffix(SUFFIX), run.kept(name.removesuffix(SUFFIX)))
            for path in folder.iterdir():
                if path.is_file() and path.suffix != SUFFIX:
                    clear.write(path.name, path.read_bytes())
            clear.write_json(COPY, {"on": datetime.now(UTC).isoformat(timespec="seconds")})
            page = rendered(kind, out)
        except BaseException as error:  # nothing half in the clear is left
            shutil.rmtree(out, ignore_errors=True)
            if isinstance(error, GmiError | OSError):
                raise GmiError(f"{folder} cannot be unsealed: {because(error)}.") from error
            raise
    print(f"{page} ({len(names)} files unsealed: delete the folder after use)")


def planned(kind: "Kind[Any, Any, Any]", folder: Path) -> Any:
    """The configuration of a finished run. Raises GmiError where it is missing or damaged."""
    from gmi.settings import read

    return read(folder / "plan.yaml", kind.plan)


@contextmanager
def undone() -> Iterator[None]:
    """Within it SIGTERM interrupts, and does not end the process at once: what is half done can be undone."""
    ending = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, ending)
