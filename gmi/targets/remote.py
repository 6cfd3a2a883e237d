"""How a model behind an API is reached: one address, a token from the environment, patience, a pace."""

import json
import os
import ssl
import time
import weakref
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Annotated, Any

import httpx2
from pydantic import Field
from torch import Tensor

from gmi.errors import GmiError
from gmi.settings import Count, Positive, Whole, settings
from gmi.targets.module import Input
from gmi.targets.served import Busy, Requests

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"  # of the environment: a secret in its place would be kept with the settings
_LATER = {408, 425, 429, *range(500, 600)}  # statuses after which the same request may succeed


@settings
class Connection:
    """How the model is reached. None of this changes its answers, nor makes a run another one.

    batch: images of one request. concurrency: requests at once. rate: images a second at most, of one process.
    retries: of one request that was not answered, each charged; they wait as the server asks, or ever longer.
    token: name of the environment variable that holds it, sent as `Authorization: Bearer`, or as it is in `header`.
    ca: file with the certificates to trust in place of the system's.
    """

    batch: Count = 32
    concurrency: Count = 4
    rate: Positive | None = None
    retries: Whole = 5
    timeout: Positive = 30.0
    token: Annotated[str, Field(pattern=_VARIABLE)] | None = None
    header: str = "Authorization"
    ca: str | None = None


class Session:
    """Posts to one address, at its pace. Errors that may pass are `Busy`, others GmiError; no secret is in them."""

    def __init__(self, url: str, plan: Connection) -> None:
        """Raises GmiError for an address that is none or holds a password, a missing token, a bad certificate."""
        self.requests = Requests(plan.batch, plan.concurrency, plan.retries)
        try:
            self._url = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise GmiError(f"target.url: {url} is no http or https address ({error}).") from error
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise GmiError(f"target.url: {url} is no http or https address.")
        if self._url.userinfo:
            raise GmiError("target.url holds a name or password, which would be recorded: use connection.token.")
        self._variable = plan.token
        self._secret = "" if plan.token is None else self._token(plan.token)
        headers = {} if plan.token is None else {plan.header: self._secret}
        if plan.header.lower() == "authorization" and self._secret:
            headers[plan.header] = f"Bearer {self._secret}"
        try:
            trust = ssl.create_default_context(cafile=plan.ca)
        except OSError as error:
            raise GmiError(f"target.connection.ca: {plan.ca} cannot be read ({error}).") from error
        limits = httpx2.Limits(max_connections=plan.concurrency)
        self._client = httpx2.Client(
            headers=headers, timeout=plan.timeout, verify=trust, limits=limits, trust_env=not self._local
        )
        weakref.finalize(self, self._client.close)
        self._rate, self._free, self._lock = plan.rate, 0.0, Lock()

    @property
    def _local(self) -> bool:
        return self._url.host in ("localhost", "127.0.0.1", "::1")

    def _token(self, variable: str) -> str:
        secret = os.environ.get(variable, "")
        if not secret:
            raise GmiError(
                "target.connection.token: it names an environment variable, and none of that name is set: export it."
            )
        if not (secret.isascii() and secret.isprintable()):
            raise GmiError("target.connection.token: its variable holds a line end or a letter that no header can.")
        if self._url.scheme == "http" and not self._local:
            raise GmiError("target.url: a token is only sent over https: use it, or leave connection.token out.")
        return secret

    def post(self, content: bytes, headers: Mapping[str, str], images: int) -> httpx2.Response:
        """The answer, of status 200."""
        self._wait(images)
        try:
            response = self._client.post(self._url, content=content, headers=dict(headers))
        except httpx2.RequestError as error:
            raise Busy(self.quoted(f"{type(error).__name__}: {error}")) from None  # the cause could show the token
        if response.status_code in _LATER:
            raise Busy(f"status {response.status_code}", _after(response.headers.get("Retry-After")))
        if response.status_code != 200:
            token = f" (the token is that in {self._variable})" if self._variable else ""
            hint = {401: token, 403: token, 404: ": target.url or target.model is wrong"}.get(response.status_code, "")
            place = f"{self._url.scheme}://{self._url.netloc.decode()}{self._url.path}"
            raise GmiError(
                f"{place} refuses what it is asked with status {response.status_code}{hint}. It says "
                f"{self.quoted(response.content)}"
            )
        return response

    def parsed(self, body: bytes) -> Any:
        """Raises Busy for what is no JSON: half an answer, or a page of something in between."""
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Busy(f"an answer that is no JSON: {self.quoted(body)}") from error

    def quoted(self, text: bytes | str) -> str:
        """The start of what was answered, for a message; servers repeat tokens."""
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        shown = shown.replace(self._secret, "***") if self._secret else shown
        return repr(shown[:300])

    def _wait(self, images: int) -> None:
        if self._rate is None:
            return
        with self._lock:
            start = max(self._free, time.monotonic())
            self._free = start + images / self._rate
        time.sleep(max(0.0, start - time.monotonic()))


def pixels(images: Tensor, input: Input) -> Tensor:
    """Bytes (N, C, H, W) of the size and colours that the model wants."""
    return (input(images.float() / 255).clamp(0, 1) * 255).round().byte().contiguous()


def refuse_scaling(input: Input) -> None:
    if any(input.mean) or any(value != 1 for value in input.std):
        raise ValueError("input.mean and input.std cannot be sent with pixels of 0 to 255: leave them out")


def _after(header: str | None) -> float | None:
    """Positive that a Retry-After header asks for, given as such or as a date; None where it says nothing legible."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
