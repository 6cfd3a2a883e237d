"""The folder of one run: its configuration, and every finished piece of work, so that it can be killed and resumed.

    config.yaml            the resolved configuration, with the digest that every piece carries; when the run was begun,
                           and with whose authorisation
    shards/NAME.safetensors    tensors of one piece of work; with a vault NAME.safetensors.sealed
    error.log              where an error came from that ended the run
It is private to its user (mode 700): reconstructions are personal data.
"""

import json
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import yaml
from accelerate import PartialState
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm

from gmi import processes
from gmi.errors import Damaged, GmiError, because
from gmi.evidence.vault import SUFFIX, Vault
from gmi.files import private, put
from gmi.run.record import digest_of, is_record, other, whole
from gmi.settings.documents import parse_yaml

Tensors = Mapping[str, Tensor]

OUTPUTS = "outputs.txt"
"""Whom the outputs of a target stand for, as preflight found: the next run may name this file."""
LEFT = ("error.log", OUTPUTS)
"""Files that a run leaves which did not get far."""


@dataclass(frozen=True)
class Run:
    """A run folder that belongs to one configuration."""

    folder: Path
    digest: str  # SHA-256 of the configuration
    within: str = ""  # the folder of its pieces, as "seed-1/"
    vault: Vault | None = None  # what seals evidence; None: it lies in the clear
    finished: bool = False  # pieces are read, and none is computed

    @classmethod
    def open(cls, folder: Path, config: Mapping[str, JsonValue], vault: Vault | None = None) -> "Run":
        """Makes the folder, or resumes its run. Raises GmiError if it holds another run or other files."""
        config = whole(config, None if vault is None else vault.fingerprint)
        digest = digest_of(config)
        run = cls(folder, digest, vault=vault)
        record = folder / "config.yaml"
        # listed before the record is read: another process may be making the folder at this moment
        files = [path for path in folder.iterdir() if not _unfinished(path)] if folder.is_dir() else []
        try:
            tree = parse_yaml(record.read_text("utf-8")) if record.exists() else None
        except ValueError:
            tree = None
        except OSError as error:
            raise GmiError(f"{record} cannot be read ({because(error)}): choose another --out.") from error
        previous = tree if is_record(tree) else None
        if previous and (previous["digest"] == digest or files != [record]):  # a run that was refused may be replaced
            if previous["digest"] != digest:
                what = other(previous["config"], dict(config))
                raise GmiError(f"{folder} holds {what}: choose another --out, or remove it.")
            if not previous.get("begun"):
                raise GmiError(f"{folder} holds a run of an earlier gmi: choose another --out, or remove it.")
            return run
        if folder.exists() and not folder.is_dir():
            raise GmiError(f"{folder} is a file, and a run needs a folder: choose another --out.")
        if files and not previous:
            raise GmiError(f"{folder} is not empty and holds no run: choose another --out.")
        try:
            private(folder)
            folder.chmod(0o700)
        except OSError as error:
            raise GmiError(f"{folder} cannot be made a run folder ({because(error)}): choose another --out.") from error
        run._write_record({"digest": digest, "begun": _now(), "config": dict(config)})
        return run

    @property
    def begun(self) -> str:
        """When it was begun, in ISO 8601."""
        return self._record()["begun"]

    def authorise(self, by: Mapping[str, JsonValue] | None) -> str | None:
        """Keeps who allowed it, and says when that was entered; it may be prolonged. None: nobody had to.

        Raises GmiError where it was allowed before, and the configuration says so no more.
        """
        record = self._record()
        former = record.get("authorisation")
        if by is None and former is not None:
            raise GmiError(
                f"{self.folder} was made with an authorisation of {former['allowed_by']}, and the configuration has "
                "none: put it back, or choose another --out."
            )
        if by is None or by == former:
            return record.get("authorised")
        prolonged = former is not None and {**former, "until": None} == {**by, "until": None}
        entered = record["authorised"] if prolonged else _now()
        self._write_record({**record, "authorisation": dict(by), "authorised": entered})
        return entered

    def _record(self) -> dict[str, Any]:
        """What config.yaml holds."""
        return parse_yaml((self.folder / "config.yaml").read_text("utf-8"))

    def _write_record(self, record: Mapping[str, JsonValue]) -> None:
        self.write("config.yaml", yaml.safe_dump(dict(record), sort_keys=False).encode())

    @contextmanager
    def logging_errors(self) -> Iterator[None]:
        """Keeps what Python tells of an error that ends the run in error.log, for those who look into its cause."""
        log = self.folder / "error.log"
        log.unlink(missing_ok=True)
        try:
            yield
        except Exception as error:
            with suppress(GmiError):  # a full disk may be the error
                self.write(log.name, "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
            raise

    def void(self) -> None:
        """Deletes what preflight left, but for `LEFT`: a run of another configuration may have the folder then.

        Where anything else lies in it, all stays as it is: a ledger, too, as it knows what was sent. Every process must
        call this.
        """
        processes.wait()  # until all have read what is deleted
        if PartialState().is_main_process:
            record, pieces = self.folder / "config.yaml", self.folder / "shards" / "answers" / "target" / "enrolment"
            files = {path for path in self.folder.rglob("*") if path.is_file() and not _unfinished(path)}
            if all(path == record or path.parent == pieces for path in files):
                shutil.rmtree(self.folder / "shards", ignore_errors=True)
                record.unlink(missing_ok=True)
        processes.wait()  # before any ends, and with it the others

    def part(self, name: str) -> "Run":
        """The same run, with pieces in a folder of their own."""
        return replace(self, within=f"{self.within}{name}/")

    def forget_lost(self) -> None:
        """Deletes the pieces that are there if they are sealed with a key that is gone."""
        try:
            for path in islice((self.folder / "shards").rglob(f"*{SUFFIX}"), 1):
                self.kept(path.relative_to(self.folder).as_posix().removesuffix(SUFFIX))
        except GmiError:
            shutil.rmtree(self.folder / "shards", ignore_errors=True)

    def pieces(self) -> dict[str, float]:
        """When each finished piece was written, by its path in the folder, in seconds since 1970."""
        found = [path for path in (self.folder / "shards").rglob("*") if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.stat().st_mtime for path in found}

    def keep(self, name: str, content: bytes) -> Path:
        """Puts a file that shows people in place: as it is, or sealed under a name that says so."""
        if self.vault is None:
            return self.write(name, content)
        return self.write(f"{name}{SUFFIX}", self.vault.seal(content, self._label(name)))

    def kept(self, name: str) -> bytes:
        """What `keep` put there. Raises GmiError if it is sealed with another key, and OSError if it is not there."""
        if self.vault is None:
            return (self.folder / name).read_bytes()
        return self.vault.open((self.folder / f"{name}{SUFFIX}").read_bytes(), self._label(name))

    def write(self, name: str, content: bytes) -> Path:
        """Puts a file in place whole, or not at all."""
        return put(self.folder / name, content)

    def write_json(self, name: str, tree: Any) -> Path:
        """Puts a JSON file in place whole. Raises ValueError for NaN and infinity."""
        return self.write(name, (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode())

    def has(self, name: str) -> bool:
        """True if the piece is finished."""
        return self._shard(name).exists()

    def read(self, name: str) -> dict[str, Tensor]:
        """The tensors of a finished piece. Raises GmiError if it is damaged or of another run."""
        path = self._shard(name)
        try:
            if self.vault is not None:  # it opens for this run alone
                return load(self.kept(f"shards/{self.within}{name}.safetensors"))
            with safe_open(path, "pt") as shard:
                if (shard.metadata() or {}).get("digest") != self.digest:
                    raise SafetensorError("it belongs to another run")
                return {key: shard.get_tensor(key) for key in shard.keys()}  # noqa: SIM118 - it is no dict
        except (SafetensorError, OSError, GmiError) as error:
            raise Damaged(
                f"{path} cannot be read ({because(error)}): remove it and run the same command again."
            ) from error

    def save(self, name: str, tensors: Tensors) -> None:
        """Stores the tensors of a finished piece, for `read`."""
        self.keep(f"shards/{self.within}{name}.safetensors", save(dict(tensors), {"digest": self.digest}))

    def each(
        self, names: Iterable[str], compute: Callable[[list[str]], Iterable[Tensors]], title: str, group: int = 1
    ) -> Iterator[dict[str, Tensor]]:
        """Computes the named pieces that are missing, split over the processes, and then reads all in their order, each
        when it is asked for.

        `compute` gets `group` names at once, always the same ones: whether one process or many compute them, at once or
        resumed, the pieces are the same (on a GPU up to rounding), except for the seconds that each took ("seconds",
        float64). Under accelerate or torchrun every process must call this, and gets all pieces.
        """
        names = list(names)
        groups = [names[start : start + group] for start in range(0, len(names), group)]
        state = PartialState()
        mine = groups[state.process_index :: state.num_processes]
        missing = [batch for batch in mine if not all(map(self.has, batch))]
        if missing and self.finished:
            raise GmiError(f"{missing[0][0]} is not among the pieces in {self.folder}.")
        for batch in tqdm(missing, desc=title, disable=not missing or not state.is_main_process):
            start = perf_counter()
            pieces = [
                {key: value.detach().cpu().contiguous() for key, value in piece.items()} for piece in compute(batch)
            ]
            seconds = torch.tensor((perf_counter() - start) / len(batch), dtype=torch.float64)
            for name, piece in zip(batch, pieces, strict=True):
                self.save(name, piece | {"seconds": seconds})
        processes.wait()
        return map(self.read, names)

    def _shard(self, name: str) -> Path:
        return self.folder / "shards" / f"{self.within}{name}.safetensors{SUFFIX if self.vault else ''}"

    def _label(self, name: str) -> str:
        return f"{self.digest}/{name}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _unfinished(path: Path) -> bool:
    """True for what a run leaves that did not get far: a process that was killed, an error, or preflight."""
    drafts = tuple(f".{name}-" for name in ("config.yaml", *LEFT))
    return path.name.startswith(drafts) or path.name in LEFT
