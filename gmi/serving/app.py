"""A server that shows a target as an API would, over the Open Inference Protocol 2: the test bed of remote audits.

The configuration sets what the server shows, to which keys, how often and how much; it logs every image it answers.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Lock, Semaphore
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import Field
from torch import Tensor

from gmi.data.people import Faces, People
from gmi.errors import GmiError, visible
from gmi.oracles.guards import AnyGuard, guard
from gmi.oracles.shape import Shape
from gmi.serving.gate import Gate, Key, Log, Refused
from gmi.serving.watch import Stream, Watch, Watcher
from gmi.serving.wire import CLAIMS, HEADER, INPUT, Query, parse, respond
from gmi.settings import settings
from gmi.targets import LocalTarget
from gmi.targets.module import Target
from gmi.targets.templates import Matcher, TemplateTarget
from gmi.training.targets import Head, Scratch

_BYTES = 64 * 2**20  # largest size of a request
_PATIENCE = 60  # seconds in which a request must have come
_READERS = 2  # requests that are read at once: numbers in JSON take much more memory than their text
_WORDS = 500  # characters of a refusal


@settings
class ShowScores:
    """The server shows probabilities in the output `scores`, and with `shape.top` their classes in `classes`.

    A recogniser shows how alike the image and each enrolled person are, not probabilities.

    The randomness of defences is a function of the 8-bit image and of a secret that is drawn at the start: repeated
    queries do not average it away, but queries about very similar images do, and queries after another start.
    """

    type: Literal["scores"] = "scores"
    shape: Shape = Shape()  # the probabilities that are shown
    defences: tuple[AnyGuard, ...] = ()  # changes to the output before it is shown


@settings
class ShowLabels:
    """The server shows the predicted class in the output `labels`."""

    type: Literal["labels"] = "labels"
    defences: tuple[AnyGuard, ...] = ()  # changes to the output before it is shown, as with scores


@settings
class ShowDecisions:
    """A recogniser accepts or rejects: 1 or 0 in the output `decisions`, for the person in the input `claims`."""

    type: Literal["decisions"] = "decisions"
    defences: Annotated[tuple[AnyGuard, ...], Field(max_length=0)] = ()  # always empty: nothing guards decisions


@settings
class Serving:
    """One target, and what an API shows of it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]  # name of the model, in its address
    data: Faces  # the people, as in an audit
    target: LocalTarget  # the target, as in an audit; a recogniser is FaceNet
    training: Annotated[Head | Scratch | None, Field(discriminator="type")] = None  # the target's, as in an audit
    # what the API shows
    shows: Annotated[ShowScores | ShowLabels | ShowDecisions, Field(discriminator="type")] = ShowScores()
    keys: tuple[Key, ...] = ()  # clients that may query; empty: anybody, on this machine only
    watch: Watch | None = None  # looks for searches in the queries of each key; None: nobody looks
    log: str = "runs/serve/log.sqlite"  # SQLite file of queries: time, key, SHA-256 of the image, predicted class

    def __post_init__(self) -> None:
        if len({key.name for key in self.keys}) < len(self.keys):
            raise ValueError("keys: two have one name")
        if isinstance(self.shows, ShowDecisions) and not isinstance(self.target, TemplateTarget):
            raise ValueError("shows: only a target of type templates accepts or rejects a claimed person")

    def load(self, people: People) -> Target:
        """The target of these people. Raises GmiError as it does, and for a recogniser that is no network."""
        if not isinstance(self.target, TemplateTarget):
            return self.target.load(people.names)
        target = self.target.load(people.names, people.training)
        if not isinstance(target, Target):
            raise GmiError(f"target.recogniser: gmi serves facenet alone, and not {self.target.recogniser.type}.")
        return target


class Answer(NamedTuple):
    """The answer to one batch of images."""

    outputs: dict[str, Tensor]  # by name
    labels: list[int]  # predicted class of each image
    features: Tensor | None  # unit features (N, D), for a watch; None: nobody watches


class Shown:
    """The part of a target that the configuration shows."""

    def __init__(
        self, target: Target, shows: ShowScores | ShowLabels | ShowDecisions, secret: bytes, watched: bool = False
    ) -> None:
        """Raises GmiError if a defence does not suit the target."""
        self.target, self.shows, self._watched = target, shows, watched
        self._guard = guard(shows.defences, target, secret)
        self._matcher = target.module if isinstance(target.module, Matcher) else None

    @torch.no_grad()
    def __call__(self, images: Tensor, claims: Tensor | None = None) -> Answer:
        """The answer for images (N, C, H, W), given as bytes or as floats in [0, 1], and claimed people (N,).

        Raises Refused where decisions are asked for without claims of enrolled people.
        """
        device = self.target.device
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        coarse = (pixels * 255).round().byte()  # else a change too small for a pixel would draw new noise
        if self._watched:
            logits, penultimate = self.target.activations(pixels.to(device))
            unit = F.normalize(penultimate).cpu()
        else:
            logits, unit = self.target(pixels.to(device)), None
        logits = self._guard(logits.double().cpu(), coarse)
        labels = logits.argmax(1, keepdim=True)
        return Answer(self._outputs(logits, labels, claims), labels[:, 0].tolist(), unit)

    def _outputs(self, logits: Tensor, labels: Tensor, claims: Tensor | None) -> dict[str, Tensor]:
        """The outputs by name, from guarded logits (N, K), labels (N, 1) and claims (N,)."""
        if isinstance(self.shows, ShowLabels):
            return {"labels": labels}
        if isinstance(self.shows, ShowDecisions):
            return {"decisions": self._decisions(logits, claims)}
        shape = self.shows.shape
        scores = shape(logits) if self._matcher is None else shape.cut(logits / self._matcher.scale)
        if self.shows.shape.top is None:
            return {"scores": scores.float()}
        best = scores.nan_to_num(-torch.inf).topk(min(self.shows.shape.top, scores.shape[1]), dim=1)
        return {"scores": best.values.float(), "classes": best.indices}

    def _decisions(self, logits: Tensor, claims: Tensor | None) -> Tensor:
        """1 (N, 1) where an image is accepted as the claimed person, else 0."""
        assert self._matcher is not None
        if claims is None or not ((claims >= 0) & (claims < logits.shape[1])).all():
            raise Refused(
                400, f"{CLAIMS}: the number of an enrolled person, 0 to {logits.shape[1] - 1}, for each image"
            )
        similar = logits.gather(1, claims[:, None]) / self._matcher.scale
        return (similar >= self._matcher.threshold).long()


def app(plan: Serving, target: Target, watcher: Watcher | None = None) -> FastAPI:
    """The server. watcher: made by `plan.watch` from real traffic.

    Raises GmiError as `Gate` and `Shown` do, and if there is a watcher without `plan.watch` or the reverse.
    """
    if (watcher is None) != (plan.watch is None):
        raise GmiError("watch: the server needs a watcher exactly where the configuration has one.")
    gate, shown, turn = Gate(plan.keys), Shown(target, plan.shows, os.urandom(32), watcher is not None), Lock()
    streams: dict[str, Stream] = {}
    reading = Semaphore(_READERS)
    log, signature = Log(Path(plan.log)), _signature(plan, len(target.classes))
    names = [output["name"] for output in signature["outputs"]]

    @asynccontextmanager
    async def life(server: FastAPI) -> AsyncIterator[None]:
        yield
        log.close()

    server = FastAPI(title=plan.name, docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)

    @server.exception_handler(Refused)
    async def refused(request: Request, reason: Refused) -> JSONResponse:
        return JSONResponse({"error": visible(str(reason))[:_WORDS]}, reason.status, reason.headers)

    def asking(request: Request, model: str) -> Key:
        """The key of a request. Raises Refused without one, and then if there is no such model."""
        key = gate.key(request.headers.get("Authorization"))
        if model != plan.name:
            raise Refused(404, "there is no such model")
        return key

    def refuse_searching(key: Key) -> None:
        """Raises Refused where the watch has had enough of a key."""
        patience = None if plan.watch is None else plan.watch.refuse
        if patience is not None and log.alarms[key.name] >= patience:
            raise Refused(403, "this key has asked as a search asks: speak to the owner of the model")

    @server.get("/v2")
    async def about() -> dict[str, Any]:
        return {"name": "gmi", "version": "2", "extensions": ["binary_tensor_data"]}

    @server.get("/v2/health/live")
    @server.get("/v2/health/ready")
    async def live() -> Response:
        return Response()

    @server.get("/v2/models/{model}/ready")
    async def ready(request: Request, model: str) -> Response:
        asking(request, model)
        return Response()

    @server.get("/v2/models/{model}")
    async def metadata(request: Request, model: str) -> dict[str, Any]:
        asking(request, model)
        return {"name": plan.name, "versions": ["1"], "platform": "gmi"} | signature

    @server.post("/v2/models/{model}/infer")
    @server.post("/v2/models/{model}/versions/1/infer")
    async def infer(request: Request, model: str) -> Response:
        key, body = asking(request, model), bytearray()
        gate.pass_(key, 0)
        try:
            async with asyncio.timeout(_PATIENCE):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > _BYTES:
                        gate.pass_(key, 1)
                        raise Refused(413, f"a request of more than {_BYTES} bytes")
        except TimeoutError as error:
            gate.pass_(key, 1)
            raise Refused(408, f"a request that takes longer than {_PATIENCE} seconds to send") from error

        def query() -> Query:
            """The content of the request; what makes no sense counts as an image for the key's rate."""
            try:
                with reading:
                    query = parse(bytes(body), request.headers.get(HEADER))
                if unknown := (query.outputs or {}).keys() - names:
                    raise Refused(400, f"no output {', '.join(sorted(unknown))}: there are {', '.join(names)}")
            except Refused:
                gate.pass_(key, 1)
                raise
            return query

        def answer() -> Response:
            asked = query()
            gate.pass_(key, len(asked.raw))
            with log.charged(key, asked.raw) as classes:
                with turn:  # one batch after another: the model has all cores
                    refuse_searching(key)
                    result = shown(asked.images, asked.claims)
                    if watcher is not None and result.features is not None:
                        stream = streams.setdefault(key.name, Stream(watcher))
                        for flags in stream.see(result.features, torch.tensor(result.labels)):
                            log.alarm(key, flags)
                    refuse_searching(key)  # the images with which the last alarm came are not answered
                classes.extend(result.labels)
            return respond(plan.name, asked, result.outputs)

        return await run_in_threadpool(answer)

    return server


def _signature(plan: Serving, people: int) -> dict[str, Any]:
    """The inputs and outputs in the model's metadata."""
    if isinstance(plan.shows, ShowLabels):
        outputs = [("labels", "INT64", 1)]
    elif isinstance(plan.shows, ShowDecisions):
        outputs = [("decisions", "INT64", 1)]
    else:
        top = plan.shows.shape.top
        width = people if top is None else min(top, people)
        outputs = [("scores", "FP32", width)] + ([] if top is None else [("classes", "INT64", width)])
    colours = 3 if isinstance(plan.target, TemplateTarget) or plan.target.input.colour == "rgb" else 1
    images = {"name": INPUT, "datatype": "UINT8", "shape": [-1, colours, -1, -1]}
    claims = {"name": CLAIMS, "datatype": "INT64", "shape": [-1, 1]}
    return {
        "inputs": [images, claims] if isinstance(plan.shows, ShowDecisions) else [images],
        "outputs": [{"name": name, "datatype": kind, "shape": [-1, width]} for name, kind, width in outputs],
    }
