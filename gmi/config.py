"""The configuration of an audit: a YAML file and dotted overrides become one tree of frozen, validated objects."""

import json
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, cast

import tyro
import yaml
from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from gmi.controls import Controls
from gmi.data import Faces
from gmi.errors import GmiError
from gmi.judges.classifier import Probe
from gmi.judges.face import Dlib, FaceNet
from gmi.judges.perceptual import Lpips
from gmi.priors.gan import Gan
from gmi.search.gradient import Gradient
from gmi.selection import Selection
from gmi.target import TargetConfig
from gmi.training import Head, Scratch

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ReportConfig:
    """What the report shows."""

    images: bool = True  # reconstructions beside enrolment photographs: personal data


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Audit:
    """One target, one prior, one search, and how they are judged.

    training: how `pipelines/train_target.py` makes `target.weights`; None for a target of your own.
    judges: face recognisers; the verdict rests on the first.
    fmrs: false match rates at which matches are counted.
    batch: candidates at once in one process; the findings do not depend on it beyond rounding. Lower it where there are
        more processes than attacked people times candidates over batch: each takes whole batches.
    """

    name: str
    data: Faces
    target: TargetConfig
    training: Annotated[Head | Scratch | None, Field(discriminator="type")] = None
    prior: Gan
    search: Gradient = Gradient()
    selection: Selection = Selection()
    controls: Controls = Controls()
    judges: tuple[Annotated[Dlib | FaceNet, Field(discriminator="type")], ...] = (Dlib(),)
    perceptual: Lpips | None = Lpips()
    classifier: Probe | None = Probe()
    fmrs: tuple[Rate, ...] = (1e-2, 1e-3)
    batch: Count = 20
    seed: Annotated[int, Field(ge=0)] = 0
    report: ReportConfig = ReportConfig()

    def __post_init__(self) -> None:
        if not self.judges or not self.fmrs:
            raise ValueError("judges and fmrs need one or more each")

    def budget(self, attacked: int) -> tuple[range, range]:
        """Numbers of the samples that the attack selects from, and of those that best of N selects from beside them.

        They cost as many queries, two each, as the attack's searches: without optimising, the same budget buys this.
        """
        pool, searched = self.selection.pool, attacked * self.selection.candidates * self.search.queries
        return range(pool), range(pool, pool + searched // 2)


_AUDIT = TypeAdapter(Audit)


def read(path: Path) -> Audit:
    """The audit that a YAML file describes. Raises GmiError, one line a mistake, each with its place."""
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise GmiError(f"{path} cannot be read as a configuration: {error}") from error
    return validate(tree, path)


def validate(tree: JsonValue, path: Path) -> Audit:
    """The audit of a parsed file. Raises GmiError as `read`."""
    if not isinstance(tree, dict):
        raise GmiError(f"{path} holds no keys and values: start from a copy of configs/quickstart.yaml.")
    try:
        return _AUDIT.validate_python(tree)
    except ValidationError as error:
        mistakes = "; ".join(_sentence(tree, one["loc"], one["type"], one["msg"]) for one in error.errors())
        raise GmiError(f"{path}: {mistakes}.") from error


def override(audit: Audit, arguments: Sequence[str], prog: str) -> Audit:
    """The audit with dotted overrides such as `--search.steps 50`; `--help` lists them. Wrong ones exit with 2."""
    config = (tyro.conf.AvoidSubcommands,)
    return cast(
        "Audit", tyro.cli(Audit, default=audit, args=list(arguments), prog=prog, config=config, use_underscores=True)
    )


def plain(audit: Audit) -> dict[str, JsonValue]:
    """The whole tree as plain data, defaults included: what the run folder records."""
    return _AUDIT.dump_python(audit, mode="json")


def training_digest(audit: Audit) -> str:
    """Of what decides a trained target's weights, beside the images."""
    tree = cast("dict[str, dict[str, JsonValue]]", plain(audit))
    asked = [*(tree["target"][key] for key in ("factory", "arguments", "input")), tree["training"]]
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _sentence(tree: Any, place: tuple[int | str, ...], kind: str, message: str) -> str:
    parts = []
    for part in place:
        with suppress(KeyError, IndexError, TypeError):  # it is what pydantic calls the variant of a union
            tree = tree[part]
            parts.append(str(part))
    if kind == "missing":
        parts.append(str(place[-1]))
    key = ".".join(parts)
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"there is no key {key}"
    message = message.removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}" if key else message
