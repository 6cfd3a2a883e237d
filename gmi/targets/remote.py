"""Connections to a model behind an API: one address, a token from the environment, retries, a pace."""

import json
import os
import ssl
import time
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from math import isfinite
from threading import Lock
from typing import Annotated, Any, NamedTuple

import httpx2
from pydantic import Field
from torch import Tensor

from gmi.errors import GmiError, because, visible
from gmi.settings import Count, Positive, Whole, settings
from gmi.targets.module import Input
from gmi.targets.served import Busy, Requests, Unreached, Unsent

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"  # name of an environment variable; a secret itself would be kept on disk
_HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
_LATER = {408, 425, 429, *range(500, 600)}  # statuses after which the same request may succeed
_MOST = 256 * 2**20  # bytes of an answer
_PATIENCE = 20  # times `timeout` that a whole answer may take


class Answer(NamedTuple):
    """What a server sent."""

    status: int
    headers: httpx2.Headers
    content: bytes


@settings
class Connection:
    """The connection to a model. It changes neither the model's answers nor the identity of a run."""

    batch: Count = 32  # images in one request
    concurrency: Count = 4  # requests at the same time
    rate: Positive | None = None  # most images per second, of one process; None: no limit
    retries: Whole = 5  # of an unanswered request; each is charged, and waits as the server asks, or ever longer
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 30.0  # seconds without a byte after which a request fails
    token: Annotated[str, Field(pattern=_VARIABLE)] | None = None  # name of the environment variable that holds it
    # the token's header: Authorization sends "Bearer TOKEN", others the token alone
    header: Annotated[str, Field(pattern=_HEADER)] = "Authorization"
    ca: str | None = None  # file with the certificates to trust; None: the system's


class Session:
    """Posts to one address, at its pace. Transient errors are `Busy`, others GmiError; they hold no secret."""

    def __init__(self, url: str, plan: Connection) -> None:
        """Raises GmiError for an unusable address or one with a password, a missing token, a bad certificate."""
        self.requests = Requests(plan.batch, plan.concurrency, plan.retries)
        try:
            self._url = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise GmiError(f"target.url: {url} is no http or https address ({because(error)}).") from error
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise GmiError(f"target.url: {url} is no http or https address.")
        if self._url.userinfo:
            raise GmiError("target.url holds a name or password, which would be recorded: use connection.token.")
        self._variable = plan.token
        self._secret = "" if plan.token is None else self._token(plan.token)
        # an answer that is not compressed is as long as it says: it cannot fill the memory
        headers = {"Accept-Encoding": "identity"} | ({} if plan.token is None else {plan.header: self._secret})
        if plan.header.lower() == "authorization" and self._secret:
            headers[plan.header] = f"Bearer {self._secret}"
        try:
            trust = ssl.create_default_context(cafile=plan.ca)
        except (OSError, ValueError) as error:
            raise GmiError(f"target.connection.ca: {plan.ca} cannot be read ({because(error)}).") from error
        limits = httpx2.Limits(max_connections=plan.concurrency)
        self._client = httpx2.Client(
            headers=headers, timeout=plan.timeout, verify=trust, limits=limits, trust_env=not self._local
        )
        weakref.finalize(self, self._client.close)
        self._rate, self._free, self._lock = plan.rate, 0.0, Lock()
        self._patience = _PATIENCE * plan.timeout

    @property
    def _local(self) -> bool:
        return self._url.host in ("localhost", "127.0.0.1", "::1")

    def _token(self, variable: str) -> str:
        secret = secret_in(variable, "target.connection.token")
        if not (secret.isascii() and secret.isprintable()):
            raise GmiError(
                f"target.connection.token: the environment variable {variable} holds a line end or a letter that no "
                "header can: export the token alone."
            )
        if self._url.scheme == "http" and not self._local:
            raise GmiError("target.url: a token is only sent over https: use it, or leave connection.token out.")
        return secret

    def post(self, content: bytes, headers: Mapping[str, str], images: int, also: Collection[int] = ()) -> Answer:
        """The answer, with a status from 200 to 299 or one of those in `also`, to a request about this many images.

        Raises Busy if the server may answer later, GmiError for another status, and for an answer without an end.
        """
        self._wait(images)
        try:
            response = self._exchange(content, headers)
        except httpx2.UnsupportedProtocol as error:
            raise Unsent(f"target.url: {self.quoted(str(error))}: it begins with http:// or https://.") from None
        except httpx2.RequestError as error:
            if _distrusted(error):
                raise Unsent(
                    f"The certificate of {self._url.host} is not trusted: name a file with that of its authority in "
                    "target.connection.ca."
                ) from None
            fault = Unreached if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout) else Busy
            raise fault(self.quoted(f"{type(error).__name__}: {error}")) from None  # the cause could show the token
        if response.status in also:
            return response
        if response.status in _LATER:
            raise Busy(f"status {response.status}", _after(response.headers.get("Retry-After")))
        if not 200 <= response.status < 300:
            expired = "if it has expired, export another and start the same command again"
            token = f" (the token is that in {self._variable}: {expired})"
            token = token if self._variable else " (if it takes a token, name its variable in target.connection.token)"
            moved = response.headers.get("Location")
            hint = {401: token, 403: token, 404: ": target.url or target.model is wrong"}.get(response.status, "")
            hint = f": it has moved to {self.quoted(moved)}, set target.url" if moved else hint
            address = f"{self._url.scheme}://{self._url.netloc.decode()}{self._url.path}"
            raise GmiError(
                f"{address} refuses the request with status {response.status}{hint}. It says "
                f"{self.quoted(response.content)}"
            )
        return response

    def _exchange(self, content: bytes, headers: Mapping[str, str]) -> Answer:
        """The whole answer. Raises GmiError for one that is compressed, too large or too slow."""
        address, end = f"{self._url.scheme}://{self._url.netloc.decode()}", time.monotonic() + self._patience
        with self._client.stream("POST", self._url, content=content, headers=dict(headers)) as response:
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise Busy("a compressed answer, which was not asked for")
            parts, size = [], 0
            for part in response.iter_raw():
                parts.append(part)
                size += len(part)
                if size > _MOST:
                    raise GmiError(
                        f"{address} sends an answer of more than {_MOST // 2**20} MB: that is none to images."
                    )
                if time.monotonic() > end:
                    raise Busy(f"an answer that took more than {self._patience:.0f} seconds")
            return Answer(response.status_code, response.headers, b"".join(parts))

    @contextmanager
    def reading(self, body: bytes) -> Iterator[None]:
        """A border: messages about what a server sent have neither the token nor control characters.

        What is raised within becomes a GmiError without its cause, which could show the token; Busy stays Busy.
        """
        try:
            yield
        except Busy as error:
            raise Busy(self.clean(str(error)), error.after) from None
        except GmiError as error:
            raise GmiError(self.clean(str(error))) from None
        except Exception as error:
            words = f"The answer cannot be read ({self.clean(repr(error))}): {self.quoted(body)}"
            raise GmiError(words) from None

    def clean(self, text: str) -> str:
        """Text without the token, as it is or as Python and JSON write it, and with control characters spelt out."""
        for form in {self._secret, repr(self._secret)[1:-1], json.dumps(self._secret)[1:-1]} - {""}:
            text = text.replace(form, "***")
        return visible(text)

    def parsed(self, body: bytes) -> Any:
        """The JSON in a body. Raises Busy if it is not JSON: half an answer, or the page of a proxy."""
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Busy(f"an answer that is no JSON: {self.quoted(body)}") from error

    def quoted(self, text: bytes | str) -> str:
        """The start of an answer, for a message, without the token, which servers may repeat."""
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        for form in {self._secret, json.dumps(self._secret)[1:-1]} - {""}:
            shown = shown.replace(form, "***")
        return repr(shown[:300])

    def _wait(self, images: int) -> None:
        if self._rate is None:
            return
        with self._lock:
            start = max(self._free, time.monotonic())
            self._free = start + images / self._rate
        time.sleep(max(0.0, start - time.monotonic()))


def secret_in(variable: str, key: str) -> str:
    """The secret in an environment variable that the setting `key` names. Raises GmiError where it is not set.

    A name that does not look like a variable's is not repeated: it may be the secret itself.
    """
    secret = os.environ.get(variable, "")
    if not secret:
        fault = f"{variable}, which is not set" if variable.isupper() else "that holds it, and none of that name is set"
        raise GmiError(f"{key} names the environment variable {fault}: export it.")
    return secret


def pixels(images: Tensor, input: Input) -> Tensor:
    """Images (N, C, H, W) as bytes, in the size and colour that the model expects."""
    return (input(images.float() / 255).clamp(0, 1) * 255).round().byte().contiguous()


def refuse_scaling(input: Input) -> None:
    """Raises ValueError if the input has a mean or std, which images sent as pixels cannot have."""
    if any(input.mean) or any(value != 1 for value in input.std):
        raise ValueError("input.mean and input.std cannot be sent with pixels of 0 to 255: leave them out")


def _distrusted(error: BaseException | None) -> bool:
    """Whether an error goes back to a certificate that cannot be verified, which no retry mends."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _after(header: str | None) -> float | None:
    """The seconds, at least 0, that a Retry-After header asks for, as a number or a date; None if it is illegible."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return None
    return max(0.0, seconds) if isfinite(seconds) else None
