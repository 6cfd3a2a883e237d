"""A biometric system as the target: a face recogniser, and one template of each person, which leaked or is compared
with.

A class is a person whose template is sought; the target's logits are the similarities of an image to every template,
times a scale. So every level of access means what it does for a classifier, and is one that such systems have:
white-box, a copy of the recogniser (a public one will do, where only a list of templates leaked); scores, an interface
that answers how alike a face and each enrolled person are; labels, one that answers who it is; verification, one that
accepts or rejects a claimed person. `embeddings` is an interface that answers with the template itself, which the
adversary compares with those that leaked. Faces are aligned as the recogniser aligns them, also those of a search.

ISO/IEC 24745 calls the property that is tested irreversibility.
"""

import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from gmi.assets.catalogue import resolve
from gmi.assets.weights import digest, read_weights
from gmi.data.images import Images
from gmi.errors import GmiError, because
from gmi.judges.aligned import AlignedJudge, MobileFaceNet
from gmi.judges.face import Dlib, FaceNet, FaceNetJudge
from gmi.judges.own import ModuleRecogniser, OnnxRecogniser
from gmi.protocols import FaceJudge
from gmi.settings import Positive, Rate, settings
from gmi.targets.module import Target
from gmi.targets.served import Deciding, Requests, Served, Verifier
from gmi.views import at_least_single, single

AnyRecogniser = Annotated[
    Dlib | FaceNet | MobileFaceNet | OnnxRecogniser | ModuleRecogniser, Field(discriminator="type")
]
"""What a configuration's `recogniser:` block may be."""
_LARGEST = 4 * 2**30  # bytes of a list of templates
Differentiable = FaceNet | MobileFaceNet | ModuleRecogniser
"""The recognisers that gradients go through, as if the places of faces were given. The others are interfaces."""


class Matcher(nn.Module):
    """A recogniser with gradients, and the templates (K, D) that it compares with."""

    templates: Tensor

    def __init__(self, network: nn.Module, templates: Tensor, scale: float, threshold: float) -> None:
        super().__init__()
        self.network, self.scale, self.threshold = network, scale, threshold
        self.made = nn.Identity()  # takes the templates that the network makes
        self.register_buffer("templates", templates)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K), scale times the cosine, of aligned faces (N, C, H, W)."""
        made = self.made(at_least_single(self.network(images)))
        with single(images.device):
            return self.scale * nn.functional.normalize(made) @ nn.functional.normalize(self.templates).T


@dataclass(frozen=True)
class Matching:
    """A recogniser without gradients, as the service behind an interface: similarities (N, K)."""

    judge: FaceJudge
    templates: Tensor
    threshold: float  # least similarity that the system accepts

    @property
    def requests(self) -> Requests:
        return Requests()

    def __call__(self, images: Tensor) -> Tensor:
        return self.judge.similarity(self.judge.embed(images.float() / 255), self.templates).double()


@dataclass(frozen=True)
class Templates:
    """An interface that answers with templates, and those that leaked, as an adversary has them."""

    embed: Callable[[Tensor], Tensor]  # from images as bytes (N, C, H, W) to their templates (N, D) float64
    compare: Callable[[Tensor], Tensor]  # from templates (N, D) to their similarities to each person's (N, K)

    @property
    def requests(self) -> Requests:
        return Requests()

    def __call__(self, images: Tensor) -> Tensor:
        return self.embed(images)


def templates_of(target: Target | Served) -> Templates:
    """The interface of a recogniser. Raises GmiError where the target is none."""
    if isinstance(target, Target) and isinstance(target.module, Matcher):
        matcher, prepare, device = target.module, target.input, target.device

        @torch.no_grad()
        def embed(images: Tensor) -> Tensor:
            with single(device):
                return matcher.network(prepare(images.to(device).float() / 255)).double().cpu()

        leaked = nn.functional.normalize(matcher.templates).double().cpu()
        return Templates(embed, lambda made: nn.functional.normalize(made) @ leaked.T)
    if isinstance(target, Served) and isinstance(target.service, Matching):
        service = target.service
        return Templates(
            lambda images: service.judge.embed(images.float() / 255).double(),
            lambda made: service.judge.similarity(made.float(), service.templates).double(),
        )
    raise GmiError("access: {type: embeddings} is for a target of type templates: a classifier answers with scores.")


class Remembered:
    """A function of images that keeps its latest results: many claims in succession are of one image."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        """function: from images as bytes (N, C, H, W) to values (N, D)."""
        self._function = function
        self._latest: dict[bytes, Tensor] = {}  # by hash, those of the latest call

    def __call__(self, images: Tensor) -> Tensor:
        """The values (N, D) of images (N, C, H, W), given as bytes; those of the latest call are not computed again."""
        names = [sha256(image.numpy().tobytes()).digest() for image in images]
        rows = {name: row for row, name in enumerate(names) if name not in self._latest}
        made = self._function(images[[*rows.values()]]) if rows else ()
        known = self._latest | dict(zip(rows, made, strict=True))
        self._latest = {name: known[name] for name in names}
        return torch.stack([known[name] for name in names])


def verifier_of(target: Target | Served) -> Verifier:
    """The interface that accepts or rejects a claimed person. Raises GmiError where the target has none."""
    if isinstance(target, Served) and target.verifier is not None:
        return target.verifier
    if isinstance(target, Served) and isinstance(target.service, Matching):
        return _deciding(target.service, target.service.threshold)
    if isinstance(target, Target) and isinstance(target.module, Matcher):
        return _deciding(partial(_similar, target, target.module.scale), target.module.threshold)
    raise GmiError(
        "access: {type: verification} is for a target of type templates, or for an API whose target.claims names where "
        "the claimed person goes: a classifier says who it is."
    )


def _deciding(similar: Callable[[Tensor], Tensor], threshold: float) -> Deciding:
    """similar: from images as bytes (N, C, H, W) to their similarities to everybody (N, K)."""
    rows = Remembered(similar)
    requests = Requests(batch=1024)
    return Deciding(lambda images, claims: rows(images).gather(1, claims[:, None]), threshold, requests, silent=True)


@torch.no_grad()
def _similar(target: Target, scale: float, images: Tensor) -> Tensor:
    """Similarities (N, K), on the CPU, of images (N, C, H, W), given as bytes."""
    with single(target.device):
        return target(images.to(target.device).float() / 255).double().cpu() / scale


@settings
class TemplateTarget:
    """A recogniser and the templates that leaked from it."""

    networked: ClassVar = False
    type: Literal["templates"] = "templates"
    recogniser: AnyRecogniser  # the network that makes templates of faces
    # a .safetensors file with one tensor "templates" (K, D), in the order of the people's sorted names, or an .npz file
    # of arrays "names" and "templates", of which a person has one or several; None: templates are made of each person's
    # first training photograph
    leaked: str | None = None
    scale: Positive = 20.0  # factor from similarities to logits, where the adversary has the recogniser
    # least similarity at which the system accepts a claimed person; None: that which `fmr` of the comparisons between
    # different people's enrolled photographs reach
    threshold: float | None = None
    fmr: Rate = 0.01  # false match rate of the system, where no threshold is given

    def load(self, classes: tuple[str, ...], photographs: Images, judge: FaceJudge | None = None) -> Target | Served:
        """The system as a target. judge: the recogniser, where it is loaded already.

        Raises GmiError where weights or templates are missing, or are not the recogniser's.
        """
        judge = self.recogniser.load(torch.device("cpu")) if judge is None else judge
        made = judge.embed(photographs[first(photographs, len(classes))].pixels)
        templates = made if self.leaked is None else self._leaked(made.shape, classes)
        threshold = self.threshold
        if threshold is None:
            others = ~torch.eye(len(classes), dtype=torch.bool)
            threshold = float(judge.similarity(made, templates)[others].double().quantile(1 - self.fmr))
        return recogniser_of(judge, templates, classes, self.scale, threshold, made)

    def _leaked(self, shape: torch.Size, classes: tuple[str, ...]) -> Tensor:
        path = resolve(self.leaked or "")
        if path.suffix == ".npz":
            tensors = {"templates": _of_people(path, classes)}
        elif path.suffix == ".safetensors":
            tensors = read_weights(path)
        else:
            raise GmiError(
                f"target.leaked: save {path} with safetensors, as one tensor named templates, or with numpy.savez, as "
                "arrays names and templates."
            )
        templates = tensors.get("templates")
        if templates is None or templates.shape != shape:
            names = f"tensors named {', '.join(tensors)}"
            what = names if templates is None else f"templates of shape {tuple(templates.shape)}"
            raise GmiError(
                f"target.leaked: {path} holds {what}, where a tensor templates of shape {tuple(shape)} is expected: "
                "one a person, of the recogniser's length."
            )
        lengths = templates.float().norm(dim=1)
        if not templates.is_floating_point() or not (lengths.isfinite() & (lengths > 0)).all():
            raise GmiError(f"target.leaked: {path} must hold floating-point templates that are finite and not all 0.")
        return templates.float()


def recogniser_of(
    judge: FaceJudge,
    templates: Tensor,
    classes: tuple[str, ...],
    scale: float,
    threshold: float,
    made: Tensor | None = None,
) -> Target | Served:
    """A recogniser that compares with templates (K, D) as a target: with gradients where it has them.

    made: what it made of photographs (N, D), by which a run folder knows it; its weights are not all that it is.
    """
    if isinstance(judge, FaceNetJudge | AlignedJudge) and isinstance(judge.network, nn.Module):
        module = Matcher(judge.network, templates, scale, threshold)
        last = "network.last_linear" if isinstance(judge, FaceNetJudge) else "made"
        return Target(module, judge.inputs, classes, judge.trained_on, last)
    weights = tuple(judge.weights())
    parts = [*weights, templates] if made is None else [*weights, templates, made]
    known = digest((f"{judge.name} {threshold} {number}", part) for number, part in enumerate(parts))
    service = Matching(judge, templates, threshold)
    return Served(service, "similarities", classes, known, judge.trained_on, parameters=weights)


def _of_people(path: Path, classes: tuple[str, ...]) -> Tensor:
    """The mean template (K, D) of each person in an .npz file; people whom `classes` does not name are left out."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _LARGEST:
                raise GmiError(
                    f"target.leaked: {path} holds more than {_LARGEST // 2**30} GiB: that is no list of templates."
                )
        with np.load(path, allow_pickle=False) as arrays:
            names, templates = arrays["names"], arrays["templates"]
    except KeyError as error:
        raise GmiError(f"target.leaked: {path} needs arrays names and templates (numpy.savez).") from error
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise GmiError(f"target.leaked: {path} cannot be read as .npz ({because(error)}).") from error
    texts = [unicodedata.normalize("NFC", f"{name}") for name in names.ravel()]
    fits = names.ndim == 1 and templates.ndim == 2 and len(templates) == len(texts)
    if not fits or names.dtype.kind != "U" or templates.dtype.kind not in "fiu":
        raise GmiError(
            f"target.leaked: {path} has names of shape {names.shape} ({names.dtype}) and templates of shape "
            f"{templates.shape} ({templates.dtype}), where a text for each row of numbers is expected."
        )
    rows: dict[str, list[int]] = {name: [] for name in classes}
    for row, text in enumerate(texts):
        rows.get(text, []).append(row)
    if lacking := [name for name, its in rows.items() if not its]:
        raise GmiError(f"target.leaked: {path} has no template of {lacking[0]}: name each person as the folder is.")
    return torch.stack([torch.from_numpy(templates[its].mean(0, dtype=np.float64)) for its in rows.values()])


def is_recogniser(target: Target | Served) -> bool:
    """Whether the target compares with templates, in this process."""
    if isinstance(target, Served):
        return isinstance(target.service, Matching)
    return isinstance(target.module, Matcher)


def first(photographs: Images, people: int) -> list[int]:
    """The index of each person's first photograph."""
    return [int((photographs.classes == person).nonzero()[0]) for person in range(people)]
