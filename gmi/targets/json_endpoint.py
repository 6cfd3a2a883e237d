"""A model behind an endpoint with JSON of its own form, which the configuration describes."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal

import jmespath
import torch
from jmespath.exceptions import JMESPathError
from pydantic import Field, JsonValue
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gmi.errors import GmiError
from gmi.settings import OPERATIONAL, settings
from gmi.targets.module import Input
from gmi.targets.outputs import Labels, Named, outputs
from gmi.targets.remote import Connection, Session, pixels, refuse_scaling
from gmi.targets.served import Gives, Served, digest_of, refuse_claims, verifier

_WITHIN = re.compile(r"\$(?:image|claim)\b")


@settings
class JsonTarget:
    """An endpoint that takes images in JSON and answers in JSON.

    An answer with scores is a list of numbers in the order of the classes, an object of numbers by class, or a list of
    [class, number], as from `predictions[*].top[*].[label, score]`; classes that it leaves out are hidden. An answer
    with labels is a class. A class is a name, or a number: its place from 0 on, or where classes are called by numbers,
    its name in `classes`. An answer with decisions, about a claimed person, is true or
    false, or 1 or 0; one with similarities to that person is a number.
    """

    networked: ClassVar = True
    type: Literal["json"] = "json"
    url: str  # address to which images are posted
    # JSON that is posted, in which the string "$images" stands for the list of images, or "$image" for a single image
    # (then connection.batch must be 1), also within a string; where the endpoint verifies a claim, "$claims" or
    # "$claim" for the names of the claimed people, and gives is decisions or similarities
    body: JsonValue
    answers: str  # JMESPath (jmespath.org) to the list of answers, or to the one answer for "$image"
    input: Input  # size and colour of the images that the endpoint takes; no mean and std
    # png or jpeg: base64 of such a file; pixels: rows of pixels, 0 to 255, in colour with 3 values each
    encoding: Literal["png", "jpeg", "pixels"] = "png"
    # the endpoint's names of its classes, in the order of its outputs; None: the same names as the folders
    classes: tuple[str, ...] | None = None
    # names of the outputs in the model's order, or a text file with one a line: a person's is the folder's, another
    # word stands for nobody (a background class) and is ignored; natural: the people, 2 before 10; None: the
    # people, sorted
    outputs: Named = None
    gives: Gives = "probabilities"  # meaning of the answers
    threshold: float | None = None  # of similarities to a claimed person: the least that the system accepts; else None
    # how the endpoint says that it sees nobody in an image, or no face: "empty", an answer that is null, [] or {}, or a
    # status, as 422; a decision is then no. Not for labels
    nobody: tuple[Literal["empty"] | Annotated[int, Field(ge=400, le=499)], ...] = ()
    trained_on: tuple[str, ...] = ()  # data sets besides the private one; judges trained on them are refused
    connection: Annotated[Connection, OPERATIONAL] = Connection()  # how the endpoint is reached

    def __post_init__(self) -> None:
        refuse_scaling(self.input)
        held = _placeholders(self.body)
        if ("$images" in held) == ("$image" in held):
            raise ValueError('body must hold "$images" or "$image" where the images go')
        refuse_claims(self.gives, self.claims, self.threshold)
        if "$image" in held and self.connection.batch != 1:
            raise ValueError('a body with "$image" takes one image: set connection.batch to 1')
        if self.encoding == "pixels" and "$image" in held and '"$image"' not in json.dumps(self.body):
            raise ValueError("a string takes an image as png or jpeg, and no rows of pixels: set encoding")
        if self.nobody and self.gives == "labels":
            raise ValueError("nobody: a label is always somebody's: leave it out")
        if set(self.nobody) - {"empty"} and self.connection.batch != 1:
            raise ValueError("nobody: a status is about one image: set connection.batch to 1")
        try:
            jmespath.compile(self.answers)
        except JMESPathError as error:
            raise ValueError(f"answers is no JMESPath ({error})") from error

    @property
    def claims(self) -> bool:
        """Whether a request names the people whom its images are said to show."""
        held = _placeholders(self.body)
        return ("$claims" if "$images" in held else "$claim") in held

    def load(self, classes: tuple[str, ...]) -> Served:
        """The served model for these people, without any query yet.

        Raises GmiError if `classes` has another number of names, or as `Session` does.
        """
        order = outputs(self.outputs, classes)
        service = _Json(self, Labels.of(order, self.classes), order.columns, Session(self.url, self.connection))
        digest, trained_on = order.digest(digest_of(self)), frozenset(self.trained_on)
        rate, silent = self.connection.rate, bool(self.nobody)
        asked = verifier(service, self.gives, self.threshold, silent)
        return Served(service, self.gives, classes, digest, trained_on, rate, order, (), asked, silent)


class _Json:
    """`Service` over a JSON endpoint."""

    def __init__(self, plan: JsonTarget, labels: Labels, columns: Sequence[int], session: Session) -> None:
        """labels: the endpoint's. columns: of the people among them."""
        self.requests = session.requests
        self._plan, self._session, self._answers = plan, session, jmespath.compile(plan.answers)
        self._claimed, self._labels = [labels.names[column] for column in columns], labels
        self._single = "$image" in _placeholders(plan.body)

    def decide(self, images: Tensor, claims: Tensor) -> Tensor:
        """What it says (N, 1) of images (N, C, H, W), given as bytes, and these people (N,)."""
        return self._asked(images, [self._claimed[person] for person in claims.tolist()])

    def __call__(self, images: Tensor) -> Tensor:
        return self._asked(images, [""])

    def _asked(self, images: Tensor, claims: Sequence[str]) -> Tensor:
        encoded = [_encoded(image, self._plan.encoding) for image in pixels(images, self._plan.input)]
        given = {"$images": encoded, "$image": encoded[0], "$claims": [*claims], "$claim": claims[0]}
        body = _filled(self._plan.body, given)
        statuses = {status for status in self._plan.nobody if status != "empty"}
        kind = {"Content-Type": "application/json"}
        response = self._session.post(json.dumps(body).encode(), kind, len(images), statuses)
        if response.status in statuses:
            return torch.tensor([self._nobody], dtype=torch.float64)
        with self._session.reading(response.content):
            return self._read(response.content, len(images))

    def _read(self, body: bytes, images: int) -> Tensor:
        """The numbers (N, K) in a response, or (N, 1) for labels and decisions. Raises GmiError for another answer."""
        try:
            result = self._answers.search(self._session.parsed(body))
        except JMESPathError as error:
            raise GmiError(f"target.answers fails ({error}) in {self._session.quoted(body)}: correct it.") from error
        answers = [result] if self._single else result
        empty = [None, [], {}] if "empty" in self._plan.nobody else []
        if not isinstance(answers, list) or len(answers) != images or (None in answers and not empty):
            raise GmiError(
                f"target.answers does not find {images} answers in {self._session.quoted(body)}: look "
                "at what the endpoint answers, and correct it."
            )
        kinds = {"labels": self._label, "decisions": self._decision}
        read = kinds.get(self._plan.gives, self._number if self._plan.claims else self._row)
        rows = [self._nobody if answer in empty else read(answer) for answer in answers]
        if len({len(row) for row in rows}) > 1:
            raise GmiError("target.answers finds lists of different lengths: it does not find each image's scores.")
        return torch.tensor(rows, dtype=torch.float64)

    @property
    def _nobody(self) -> list[float]:
        """What is read where the endpoint sees nobody: no, or nothing of any class."""
        if self._plan.gives == "decisions":
            return [0.0]
        return [float("nan")] * (1 if self._plan.claims else len(self._labels.names))

    def _label(self, answer: Any) -> list[float]:
        return [float(self._labels.number(answer))]

    def _decision(self, answer: Any) -> list[float]:
        if answer not in (0, 1):
            raise GmiError(f"target.answers finds {answer!r} where true or false should be.")
        return [float(answer)]

    def _number(self, answer: Any) -> list[float]:
        _refuse_infinite(answer)
        if not _is_number(answer):
            raise GmiError(f"target.answers finds {answer!r} where a similarity to the claimed person should be.")
        return [float(answer)]

    def _row(self, answer: Any) -> list[float]:
        if isinstance(answer, list) and answer and all(map(_is_number, answer)):
            return [float(value) for value in answer]
        pairs = list(answer.items()) if isinstance(answer, dict) else answer
        _refuse_infinite(pairs)
        row = [float("nan")] * len(self._labels.names)
        for pair in pairs if isinstance(pairs, list) else [pairs]:
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and _is_number(pair[1])):
                raise GmiError(f"target.answers finds {pair!r} where a class and its number should be.")
            row[self._labels.number(pair[0])] = float(pair[1])
        return row


def _encoded(image: Tensor, encoding: str) -> JsonValue:
    """JSON for an image (C, H, W), given as bytes."""
    if encoding == "pixels":
        return (image[0] if len(image) == 1 else image.permute(1, 2, 0)).tolist()
    to_pil_image(image).save(buffer := io.BytesIO(), encoding)
    return base64.b64encode(buffer.getvalue()).decode()


def _placeholders(tree: JsonValue) -> set[str]:
    """What stands for images and claims in the strings of the tree: "$image" and "$claim" also within one."""
    if isinstance(tree, dict | list):
        return {each for part in (tree.values() if isinstance(tree, dict) else tree) for each in _placeholders(part)}
    if not isinstance(tree, str):
        return set()
    return {tree} if tree in ("$images", "$claims") else set(_WITHIN.findall(tree))


def _filled(tree: JsonValue, values: Mapping[str, JsonValue]) -> JsonValue:
    """The tree with each string that is a key of `values` replaced by its value, and those within strings, too."""
    if isinstance(tree, dict):
        return {key: _filled(part, values) for key, part in tree.items()}
    if isinstance(tree, list):
        return [_filled(part, values) for part in tree]
    if not isinstance(tree, str) or tree in values:
        return values[tree] if isinstance(tree, str) else tree
    return _WITHIN.sub(lambda found: str(values[found[0]]), tree)


def _refuse_infinite(answer: Any) -> None:
    """Raises GmiError where a number is infinite, or none at all, as a broken model's is."""
    if isinstance(answer, list | tuple):
        for each in answer:
            _refuse_infinite(each)
    if isinstance(answer, float) and not isfinite(answer):
        raise GmiError(f"The model answered with numbers that are not finite ({answer}): see to what serves it.")


def _is_number(value: object) -> bool:
    """True for finite numbers; False for truth values, and for the NaN that some write in JSON."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isfinite(value) if isinstance(value, float) else abs(value) < 2**53
