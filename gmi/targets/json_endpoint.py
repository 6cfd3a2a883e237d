"""A model behind an endpoint that takes and answers JSON in a form of its own, which the configuration describes."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal

import jmespath
import torch
from jmespath.exceptions import JMESPathError
from pydantic import JsonValue
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gmi.errors import GmiError
from gmi.settings import OPERATIONAL, settings
from gmi.targets.module import Input
from gmi.targets.remote import Connection, Session, pixels, refuse_scaling
from gmi.targets.served import Gives, Served, digest_of


@settings
class JsonTarget:
    """An endpoint that takes images in JSON and answers in JSON.

    body: what is posted; in it the string "$images" stands for the list of images, or "$image" for a single one (then
        connection.batch must be 1).
    encoding: png or jpeg: base64 of such a file; pixels: rows of pixels, 0 to 255, with 3 values each where in colour.
    answers: JMESPath (jmespath.org) to the list of answers, or to the one answer of "$image". Where the model gives
        scores, an answer is a list of numbers in the order of the classes, an object of numbers by class, or a list of
        [class, number], as `predictions[*].top[*].[label, score]` makes them; classes that are left out are hidden.
        Where it gives labels, a class.
    classes: the endpoint's names of the data's people, in the order of their folders; None: the folders' names.
        A class may also be told by its number.
    """

    networked: ClassVar = True
    type: Literal["json"] = "json"
    url: str
    body: JsonValue
    answers: str
    input: Input
    encoding: Literal["png", "jpeg", "pixels"] = "png"
    classes: tuple[str, ...] | None = None
    gives: Gives = "probabilities"
    trained_on: tuple[str, ...] = ()
    connection: Annotated[Connection, OPERATIONAL] = Connection()

    def __post_init__(self) -> None:
        refuse_scaling(self.input)
        text = json.dumps(self.body)
        if ('"$images"' in text) == ('"$image"' in text):
            raise ValueError('body must hold "$images" or "$image" where the images go')
        if '"$image"' in text and self.connection.batch != 1:
            raise ValueError('a body with "$image" takes one image: set connection.batch to 1')
        try:
            jmespath.compile(self.answers)
        except JMESPathError as error:
            raise ValueError(f"answers is no JMESPath ({error})") from error

    def load(self, classes: tuple[str, ...]) -> Served:
        """The served model; asks nothing. Raises GmiError where names and classes are not as many, or the block is odd."""
        names = classes if self.classes is None else self.classes
        if len(names) != len(classes):
            raise GmiError(f"target.classes names {len(names)} classes, and the data has {len(classes)} people.")
        service = _Json(self, names, Session(self.url, self.connection))
        return Served(
            service, self.gives, classes, digest_of(self), frozenset(self.trained_on), rate=self.connection.rate
        )


class _Json:
    """`Service` over a JSON endpoint."""

    def __init__(self, plan: JsonTarget, names: Sequence[str], wire: Session) -> None:
        self.requests = wire.requests
        self._plan, self._wire, self._answers = plan, wire, jmespath.compile(plan.answers)
        self._places = {name: place for place, name in enumerate(names)}
        self._single = '"$image"' in json.dumps(plan.body)

    def __call__(self, images: Tensor) -> Tensor:
        shown = [_encoded(image, self._plan.encoding) for image in pixels(images, self._plan.input)]
        body = _filled(self._plan.body, {"$images": shown, "$image": shown[0]})
        response = self._wire.post(json.dumps(body).encode(), {"Content-Type": "application/json"}, len(images))
        try:
            found = self._answers.search(self._wire.parsed(response.content))
        except JMESPathError as error:
            raise GmiError(
                f"target.answers fails ({error}) in {self._wire.quoted(response.content)}: correct it."
            ) from error
        answers = [found] if self._single else found
        if not isinstance(answers, list) or len(answers) != len(images) or None in answers:
            raise GmiError(
                f"target.answers finds no {len(images)} answers in {self._wire.quoted(response.content)}: look at what "
                "the endpoint answers, and correct it."
            )
        read = self._label if self._plan.gives == "labels" else self._row
        rows = [read(answer) for answer in answers]
        if len({len(row) for row in rows}) > 1:
            raise GmiError("target.answers finds lists of different lengths: it does not find each image's scores.")
        return torch.tensor(rows, dtype=torch.float64)

    def _label(self, answer: Any) -> list[float]:
        return [float(self._place(answer))]

    def _row(self, answer: Any) -> list[float]:
        if isinstance(answer, list) and answer and all(map(_is_number, answer)):
            return [float(value) for value in answer]
        pairs = list(answer.items()) if isinstance(answer, dict) else answer
        row = [float("nan")] * len(self._places)
        for pair in pairs if isinstance(pairs, list) else [pairs]:
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and _is_number(pair[1])):
                raise GmiError(f"target.answers finds {pair!r} where a class and its number should be.")
            row[self._place(pair[0])] = float(pair[1])
        return row

    def _place(self, told: Any) -> int:
        place = self._places.get(told) if isinstance(told, str) else None
        if place is None and (str(told).isdecimal() or (isinstance(told, float) and told.is_integer())):
            place = int(told)
        if place is None or not 0 <= place < len(self._places):
            raise GmiError(f"The endpoint speaks of a class {told!r}, which is none of the data's: set target.classes.")
        return place


def _encoded(image: Tensor, encoding: str) -> JsonValue:
    """Of bytes (C, H, W)."""
    if encoding == "pixels":
        return (image[0] if len(image) == 1 else image.permute(1, 2, 0)).tolist()
    to_pil_image(image).save(buffer := io.BytesIO(), encoding)
    return base64.b64encode(buffer.getvalue()).decode()


def _filled(tree: JsonValue, values: Mapping[str, JsonValue]) -> JsonValue:
    """The tree with these strings replaced."""
    if isinstance(tree, dict):
        return {key: _filled(part, values) for key, part in tree.items()}
    if isinstance(tree, list):
        return [_filled(part, values) for part in tree]
    return values.get(tree, tree) if isinstance(tree, str) else tree


def _is_number(value: object) -> bool:
    """A finite one: what JSON writes as NaN is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isfinite(value) if isinstance(value, float) else abs(value) < 2**53
