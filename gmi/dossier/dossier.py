"""A dossier: what was tested of one system, at which access, with which finding, what was not, and what would help.

It is put together from the JSON of finished runs. It has no verdict of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmi.audits import forms
from gmi.cli.reports import kind_of
from gmi.errors import GmiError, foreign
from gmi.report.brief import REACHES, TITLES, Table, brief
from gmi.report.coverage import Attack, Document, Figure, Mitigation, Requirement, coverage, standards, told
from gmi.report.figures import membership
from gmi.report.page import read
from gmi.report.terms import Term

NO_VERDICT = "compared, without a verdict"


@dataclass(frozen=True)
class Part:
    """One run of a dossier."""

    folder: Path
    page: str  # name of its page's file
    report: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path) -> "Part":
        """A finished run. Raises GmiError where the folder holds none, or its forms do not say what its JSON says."""
        kind = kind_of(folder)
        path = folder / f"{kind.name}.json"
        part = cls(folder, f"{kind.name}.html", read(path))
        with foreign(lambda why: f"{path} lacks what a dossier shows ({why}): it was changed."):
            texts = dict(forms(part.report)) if part.report["evidence"] else {}
        for name, text in texts.items():
            if (form := folder / name).exists() and form.read_text("utf-8", "replace") != text:
                raise GmiError(
                    f"{form} does not say what {path.name} says: one of them was changed, or another gmi wrote it. "
                    f"gmi verify {folder} tells what holds, and gmi report {folder} writes the forms anew."
                )
        return part

    @property
    def name(self) -> str:
        return str(self.report["name"])

    @property
    def title(self) -> str:
        return TITLES[self.report["kind"]]

    @property
    def system(self) -> str | None:
        """The system by the authorisation; None: the run has none."""
        return (self.report["authorisation"] or {}).get("system")

    @property
    def model(self) -> str | None:
        """SHA-256 of the model that was attacked; None: there were several, or none is named."""
        return self.report["provenance"]["digests"].get("target")

    @property
    def finding(self) -> str:
        return (self.report.get("verdict") or {}).get("finding", NO_VERDICT)

    @property
    def access(self) -> str:
        return brief(self.report).access

    @property
    def because(self) -> str:
        return " ".join((self.report.get("verdict") or {}).get("because", ()))

    @property
    def beside(self) -> tuple[str, ...]:
        """Findings of attacks that have a verdict of their own."""
        return brief(self.report).beside

    @property
    def cautions(self) -> tuple[str, ...]:
        """What is to be kept in mind when it is read."""
        return brief(self.report).cautions

    @property
    def tables(self) -> tuple[Table, ...]:
        return brief(self.report).tables

    @property
    def has_signature(self) -> bool:
        """Whether there is a signature; `gmi verify --signed-by` tells whether it holds."""
        return (self.folder / f"{self.report['kind']}.json.sig").exists()

    def reaches(self, attack: str) -> str:
        """How an attack reached the model, in words."""
        return " and ".join(REACHES[reach] for reach in self.report["attacks"][attack])

    def found(self, attack: str) -> str:
        """What the run says of one of its attacks: the verdict is of the first, a test beside it has its own."""
        if attack == "membership":
            verdict = membership(self.report)
            return verdict["finding"] if verdict else NO_VERDICT
        if attack == "copying":
            return "measured, without a verdict"
        return self.finding


@dataclass(frozen=True)
class Risk:
    """A kind of attack that found something, or was not made, and the measures against it."""

    attack: Attack
    findings: tuple[str, ...]
    measures: tuple[tuple[Mitigation, tuple[str, ...]], ...]  # each with figures on what it buys


@dataclass(frozen=True)
class Dossier:
    """Runs of one system."""

    system: str
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, folders: Sequence[Path], system: str | None = None) -> "Dossier":
        """The runs in some folders. Raises GmiError where they are not of one system, or nothing says which it is."""
        parts = tuple(Part.of(folder) for folder in folders)
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise GmiError("A run is named twice: name each once.")
        named = {part.system: part for part in parts if part.system is not None}
        if len(named) > 1:
            first, second, *_ = named.values()
            raise GmiError(
                f"{first.folder} is of {first.system}, and {second.folder} of {second.system}: "
                "a dossier is of one system."
            )
        if system is not None and not system.strip():
            raise GmiError("--system must say something: name the system.")
        known = next(iter(named), None)
        if system is not None and known not in (None, system):
            raise GmiError(f"{named[known].folder} is of {known}, and not of {system}: a dossier is of one system.")
        if system is None and (known is None or any(part.system is None for part in parts)):
            nameless = next(part for part in parts if part.system is None)
            raise GmiError(f"{nameless.folder} does not say which system it is of (authorisation): use --system NAME.")
        return cls(system or str(known), parts)

    @property
    def apart(self) -> str:
        """That the runs attacked different models, in a sentence; empty where they did not, or do not say.

        Of a model behind an interface nothing is known but how it was described.
        """
        models: dict[str, str] = {}
        for part in self.parts:
            if part.model is not None:
                models.setdefault(part.model, part.name)
        if len(models) < 2:
            return ""
        return (
            f"The runs attacked {len(models)} different models, or one by interfaces that were described in different "
            f"ways ({', '.join(models.values())}): what one of them does not find is said of its own model alone."
        )

    @property
    def words(self) -> list[Term]:
        """What the words of the figures mean, each once."""
        return [*dict.fromkeys(term for part in self.parts for term in brief(part.report).words)]

    @property
    def tested(self) -> Iterator[tuple[Attack, Part, str]]:
        """Every attack that was made, the run that made it, and the attack's key, by attack."""
        for key, attack in standards().attacks.items():
            for part in self.parts:
                if key in part.report["attacks"]:
                    yield attack, part, key

    @property
    def missing(self) -> list[Attack]:
        """Attacks that no run made."""
        made = {key: reaches for part in self.parts for key, reaches in part.report["attacks"].items()}
        return [row.attack for row in coverage(made) if not row.made]

    @property
    def risks(self) -> Iterator[Risk]:
        """Attacks with their findings, and the measures against them that reach what was attacked."""
        for key, attack in standards().attacks.items():
            parts = [part for part in self.parts if key in part.report["attacks"]]
            reaches = {reach for part in parts for reach in part.report["attacks"][key]}
            if parts:
                watches = [part for part in self.parts if not part.report["attacks"]]  # of measures against any attack
                measures = tuple(
                    (each, tuple(_told(each.measured, [*parts, *watches])))
                    for each in standards().mitigations
                    if key in each.against and (each.reach == "both" or "api" in reaches)
                )
                yield Risk(attack, tuple(dict.fromkeys(part.found(key) for part in parts)), measures)

    @property
    def requirements(self) -> Iterator[tuple[Requirement, Document, tuple[str, ...]]]:
        """Every requirement, and the figures of these runs that bear on it; none where no run has any."""
        for requirement in standards().requirements:
            document = standards().documents[requirement.document]
            yield requirement, document, tuple(_told(requirement.figures, self.parts))


def _told(figures: Sequence[Figure], parts: Sequence[Part]) -> Iterator[str]:
    """Each figure that a run has, with the run's name."""
    for figure in figures:
        for part in parts:
            if group := figure.of(part.report):
                yield f"{part.name}: {told(figure, group, part.report.get('subject', 'faces'))}"
