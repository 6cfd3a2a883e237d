"""Audits of what models give away of the people behind them.

    from gmi import Audit, audit, read

    plan = read("quickstart", Audit)        # a file, or the name of a configuration that comes with gmi
    page = audit(plan, "runs/quickstart")   # attacks, controls, judges, verdict: the path of the report

An audit takes objects of your own, in place of those that the plan names, as `inputs`.
"""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmi.attributes.plan import AttributeAudit
    from gmi.audits import Hardware
    from gmi.comparison.plan import Comparison
    from gmi.errors import GmiError
    from gmi.extraction.plan import ExtractionAudit
    from gmi.inversion.plan import Audit
    from gmi.ladder.plan import Ladder
    from gmi.settings import read
    from gmi.watching.plan import Watching

    AnyPlan = Audit | Ladder | Watching | Comparison | AttributeAudit | ExtractionAudit

__all__ = [
    "AttributeAudit",
    "Audit",
    "Comparison",
    "ExtractionAudit",
    "GmiError",
    "Hardware",
    "Ladder",
    "Watching",
    "audit",
    "load",
    "read",
]

_HOMES = {
    "Audit": "gmi.inversion.plan",
    "Ladder": "gmi.ladder.plan",
    "Watching": "gmi.watching.plan",
    "Comparison": "gmi.comparison.plan",
    "AttributeAudit": "gmi.attributes.plan",
    "ExtractionAudit": "gmi.extraction.plan",
    "Hardware": "gmi.audits",
    "GmiError": "gmi.errors",
    "read": "gmi.settings",
}
_KINDS = {
    "gmi.inversion.plan": "gmi.inversion.audit:INVERSION",
    "gmi.ladder.plan": "gmi.ladder.audit:LADDER",
    "gmi.watching.plan": "gmi.watching.audit:WATCHING",
    "gmi.comparison.plan": "gmi.comparison.audit:COMPARISON",
    "gmi.attributes.plan": "gmi.attributes.audit:ATTRIBUTES",
    "gmi.extraction.plan": "gmi.extraction.audit:EXTRACTION",
}


def audit(plan: "AnyPlan", folder: Path | str, inputs: Any = None, hardware: "Hardware | None" = None) -> Path:
    """Does what is not there yet of an audit in `folder`, and returns the path of its page.

    plan: what is asked; its class says which kind of audit it is.
    folder: the run folder; an audit of the same plan goes on where it stopped.
    inputs: what `load` gives, or objects of your own with the same methods; None: those that the plan names.
    hardware: device and precision; None: the accelerator that torch sees, or the CPU.
    Raises GmiError where the audit may not be made, something is missing, or the folder holds another run.
    """
    from gmi.audits import conduct

    return conduct(_kind(plan), plan, Path(folder), hardware or _hardware(), inputs)


def load(plan: "AnyPlan", hardware: "Hardware | None" = None) -> Any:
    """What an audit works on, as its plan names it: people, target, prior and judges of an `Audit`, for example.

    Raises GmiError where something is missing, broken or does not fit.
    """
    from gmi import audits

    kind = _kind(plan)
    inputs = audits.load(kind, plan, hardware or _hardware())
    kind.refuse(plan, inputs)
    return inputs


def _kind(plan: object) -> Any:
    """The kind of audit that a plan asks for. Raises GmiError where it is no plan of an audit."""
    from gmi.errors import GmiError

    place = _KINDS.get(type(plan).__module__)
    if place is None:
        raise GmiError(f"A {type(plan).__name__} is no plan of an audit.")
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _hardware() -> "Hardware":
    from gmi.cli import accelerator, hardware

    return hardware(accelerator())


def __getattr__(name: str) -> Any:
    """Imports what is asked for: `import gmi` itself costs nothing."""
    if name == "__version__":
        return version("gmi")
    if name not in _HOMES:
        raise AttributeError(f"module 'gmi' has no attribute {name!r}")
    from gmi.errors import missing

    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise missing(error) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
