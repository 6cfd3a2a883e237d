"""What every kind of audit is: six functions, and the one way in which they are carried out."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
import yaml
from accelerate import PartialState
from pydantic import JsonValue

from gmi import processes
from gmi.assets.catalogue import fetch, provenance
from gmi.errors import GmiError
from gmi.evidence.checked import Checked
from gmi.evidence.handling import AnyHandling, Handling, kept, refuse_unready, vault
from gmi.evidence.purge import RECORD, left, purge
from gmi.evidence.signature import sign, unsign
from gmi.evidence.vault import forget
from gmi.files import put
from gmi.forecast import Forecast
from gmi.report import page
from gmi.report.brief import brief
from gmi.report.figures import scalars, table
from gmi.report.header import Asset, Header, Provenance, dated, digests, environment, tell_age
from gmi.report.page import SCHEMA_VERSION
from gmi.report.subjects import sentences
from gmi.report.summary import card, summary
from gmi.run import Run
from gmi.run.pieces import asks, fresh
from gmi.run.record import refuse_other
from gmi.settings import identity, plain, words
from gmi.tracking import Tracker, refuse_missing, tracking

_log = logging.getLogger(__name__)  # warnings are shown, unless the application decides otherwise


class Permission(Protocol):
    """Who allowed an audit, and until when."""

    def refuse_expired(self, today: date) -> None:
        """Raises GmiError where it has ended."""
        ...


class AnyPlan(Protocol):
    """What every configuration of an audit says."""

    @property
    def name(self) -> str: ...

    @property
    def authorisation(self) -> Permission | None: ...

    @property
    def evidence(self) -> AnyHandling: ...

    @property
    def track(self) -> tuple[Tracker, ...]: ...


class Loaded(Protocol):
    """What an audit works on."""

    @property
    def digests(self) -> dict[str, JsonValue]:
        """What a run folder must be of, in addition to the configuration."""
        ...


Plan = TypeVar("Plan", bound=AnyPlan)
Inputs = TypeVar("Inputs", bound=Loaded)
Evidence = TypeVar("Evidence")


@dataclass(frozen=True)
class Hardware:
    """What an audit runs on."""

    device: torch.device
    bf16: bool = False  # whether searches work in it; judges, and interfaces that answer, never do

    @property
    def name(self) -> str:
        """The kind of device, and the precision of searches where it is not single."""
        return f"{self.device.type}, bf16" if self.bf16 else self.device.type

    def autocast(self) -> AbstractContextManager[object]:
        """A context for a search. Casts are not kept in it, so that every step sees what changes as it is."""
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[Plan, Inputs, Evidence]):
    """One kind of audit, carried out by `conduct`."""

    name: str  # runs/NAME/report.json and .html
    plan: type[Plan]
    load: Callable[[Plan, Hardware], Inputs]  # reads what the plan names; asks nothing
    refuse: Callable[[Plan, Inputs], None]  # raises GmiError before anything is spent
    forecast: Callable[[Plan, Inputs, Hardware], Forecast]  # for --dry-run, after `refuse`
    examine: Callable[[Plan, Inputs, Run, Hardware], Evidence]  # resumable, split over processes
    findings: Callable[[Plan, Inputs, Evidence], Any]  # a dataclass of plain data; its fields are the JSON's keys
    render: Callable[[Path], Path]  # the page: a pure function of the folder
    shows: Callable[[Plan], bool] = lambda plan: True  # whether its page may show people; else none are kept
    searches: bool = False  # whether it works in bf16 where accelerate is told to
    # figures of the JSON, computed again from scores in the folder, where this kind of audit leaves any
    recompute: Callable[[Path, Mapping[str, Any], Plan | None], Iterator[Checked]] | None = None


def load(kind: Kind[Plan, Inputs, Evidence], plan: Plan, hardware: Hardware, inputs: Inputs | None = None) -> Inputs:
    """The inputs that a plan names, or those that are given.

    Raises GmiError where its authorisation has expired, or its evidence could not be kept as it says.
    """
    if plan.authorisation is not None:
        plan.authorisation.refuse_expired(date.today())
    refuse_unready(plan.evidence, date.today())
    return kind.load(plan, hardware) if inputs is None else inputs


def conduct(
    kind: Kind[Plan, Inputs, Evidence],
    plan: Plan,
    folder: Path,
    hardware: Hardware,
    inputs: Inputs | None = None,
) -> Path:
    """The page of `carry_out`."""
    return carry_out(kind, plan, folder, hardware, inputs).page


@dataclass(frozen=True)
class Done:
    """A finished audit."""

    page: Path
    # in the main process: whether its figures are of the model as it is now; else nothing was asked, and it may have
    # changed
    current: bool


def carry_out(
    kind: Kind[Plan, Inputs, Evidence],
    plan: Plan,
    folder: Path,
    hardware: Hardware,
    inputs: Inputs | None = None,
) -> Done:
    """Does what is not there yet of the audit in `folder`.

    plan: what is asked.
    folder: of the run; the same configuration goes on where it stopped.
    hardware: the device, and what wraps searches.
    inputs: any objects with the right methods; None: those that the plan names.
    Raises GmiError where the audit may not be made, something is missing, or the folder holds another run.
    """
    state = PartialState()
    if (folder / RECORD).exists():  # it ended, and there is nothing left to do it again from
        now = _digests(kind, plan, hardware, inputs)
        refuse_other(folder, identity(plan), now)
        if state.is_main_process:
            tell_age(page.read(folder / f"{kind.name}.json"))
            _finish(kind, plan, folder)
        return Done(folder / f"{kind.name}.html", now is not None and not unseen(plan))
    inputs = load(kind, plan, hardware, inputs)
    kind.refuse(plan, inputs)
    refuse_missing(plan.track)
    sealing = vault(plan.evidence, folder)
    with processes.first():
        assets = tuple(credits(plan))  # fetched and known before hours of work
        known = {"configuration": identity(plan), "inputs": inputs.digests, **_precision(kind, hardware)}
        run = Run.open(folder, known, sealing)
        path = folder / f"{kind.name}.json"
        authorised = run.authorise(None if plan.authorisation is None else plain(plan.authorisation))
        if plan.evidence == "none" and state.is_main_process:
            run.forget_lost()
        before, current = run.pieces(), True
    with run.logging_errors():
        evidence = kind.examine(plan, inputs, run, hardware)
        if state.is_main_process:
            found = told(kind, plan, inputs, evidence)
            run.write("plan.yaml", yaml.safe_dump(plain(plan), sort_keys=False, allow_unicode=True).encode())
            report = asdict(header(kind, plan, run, inputs, hardware, assets, authorised)) | found
            pieces = run.pieces()
            new = {piece for piece, when in pieces.items() if before.get(piece) != when}
            current = not unseen(plan) or not pieces or any(map(fresh, new))
            asked = {piece: when for piece, when in pieces.items() if asks(piece)}
            # of a model that a digest tells of, whatever was computed just now is of it as it is now; of another, what
            # it was asked just now
            if asked and not (new & asked.keys() if unseen(plan) else new):
                report = dated(report, path, max(asked.values()), unseen(plan) and current)
            path = run.write_json(path.name, report)
            unsign(path)
            if isinstance(plan.evidence, Handling) and plan.evidence.sign is not None:
                sign(path, plan.evidence.sign)
            render(kind, run.folder)
    processes.wait()  # until then the others may read pieces
    if state.is_main_process:
        _finish(kind, plan, run.folder)
    processes.wait()
    return Done(path.with_suffix(".html"), current)


def networked(plan: Any) -> bool:
    """Whether a plan's target answers over a network."""
    return bool(getattr(getattr(getattr(plan, "audit", plan), "target", None), "networked", False))


def unseen(plan: Any) -> bool:
    """Whether no digest tells of a change of a plan's target: it is behind an interface, or a user's own function."""
    return networked(plan) or bool(getattr(getattr(plan, "target", None), "opaque", False))


def _digests(
    kind: Kind[Plan, Inputs, Any], plan: Plan, hardware: Hardware, inputs: Inputs | None
) -> Mapping[str, JsonValue] | None:
    """Digests of what a plan names now; None, and a warning, where it is not there any more, or still to be trained."""
    try:
        found = kind.load(plan, hardware) if inputs is None else inputs
        if not getattr(found, "untrained", False):
            return found.digests
        why = "the target's weights are not there."
    except GmiError as error:
        why = str(error)
    _log.warning("Whether the run is of what the configuration names now is not known: %s", why)
    return None


def _precision(kind: Kind[Any, Any, Any], hardware: Hardware) -> dict[str, str]:
    """What a run with searches in bf16 is known by, too: its pieces are not those of single precision."""
    return {"precision": "bf16"} if kind.searches and hardware.bf16 else {}


def told(kind: Kind[Plan, Inputs, Evidence], plan: Plan, inputs: Inputs, evidence: Evidence) -> dict[str, Any]:
    """The findings as the JSON has them, after its header: in words for its subject."""
    findings = kind.findings(plan, inputs, evidence)
    return sentences(asdict(findings), getattr(findings, "subject", "faces"), (*words(plan),))


def _finish(kind: Kind[Plan, Any, Any], plan: Plan, folder: Path) -> None:
    """What comes after the findings: evidence goes where none is kept, and trackers get the figures."""
    purges = plan.evidence == "none" or not kind.shows(plan)
    if (folder / RECORD).exists() or purges:
        if left(folder):
            purge(folder, pages(kind))
        render(kind, folder)
    if plan.evidence == "none":
        forget(folder)
    with tracking(plan.track, plan.name, folder) as log:
        log(dict(scalars(page.read(folder / f"{kind.name}.json"))), 0)


def pages(kind: Kind[Any, Any, Any]) -> tuple[str, str]:
    """Files of a finished run that may show people."""
    return f"{kind.name}.html", f"{kind.name}.pdf"


def render(kind: Kind[Any, Any, Any], folder: Path) -> Path:
    """Writes every form of a run's JSON: figures.csv, summary.md, card.md, and the page, whose path it returns.

    The same folder gives the same bytes. Raises GmiError where the JSON is missing, damaged or of another version.
    """
    for name, text in forms(page.read(Path(folder, f"{kind.name}.json"))):
        put(Path(folder, name), text)
    return kind.render(folder)


def forms(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The name and the text of every form that says what the JSON says, but for the page."""
    short = brief(report)
    yield from (("figures.csv", table(report)), ("summary.md", summary(short)), ("card.md", card(short)))


def header(
    kind: Kind[Any, Any, Any],
    plan: AnyPlan,
    run: Run,
    inputs: Loaded,
    hardware: Hardware,
    assets: tuple[Asset, ...],
    authorised: str | None,
) -> Header:
    """The header of a run's JSON, as of now. authorised: when its authorisation was entered."""
    return Header(
        schema_version=SCHEMA_VERSION,
        kind=kind.name,
        name=plan.name,
        gmi=version("gmi"),
        authorisation=None if plan.authorisation is None else plain(plan.authorisation),
        authorised=authorised,
        evidence=kept(plan.evidence, kind.shows(plan)),
        assets=assets,
        provenance=Provenance(
            config_digest=run.digest,
            digests=inputs.digests,
            environment=environment(),
            device=hardware.name if kind.searches else hardware.device.type,
            processes=PartialState().num_processes,
            files=digests(run.folder),
            started=run.begun,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )


def credits(plan: object) -> Iterator[Asset]:
    """Every packaged asset that a configuration names, in its order."""
    named = (text.removeprefix("asset:").split("/")[0] for text in words(plan) if text.startswith("asset:"))
    for name in dict.fromkeys(named):
        record = provenance(fetch(name))
        yield Asset(**{key: record[key] for key in ("name", "licence", "terms", "credit", "sha256")})
