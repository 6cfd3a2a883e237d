"""Audits an API that speaks otherwise than gmi does: forms in place of JSON, a token that expires, a certificate.

TOKEN_COMMAND="..." python examples/audit_your_api.py api.yaml runs/api

`api.yaml` is as in docs/api.md, with `target: {type: json, ...}`: its url, its `input` and its authorisation hold; of
`body` and `answers` any will do, as `Forms` takes their place. Change that to what your API needs. TOKEN_COMMAND prints
a token, and is run again when the API says that the last one has expired. Who audits a system that decides about a
claimed person replaces `verifier`, too, by an object with `decide(images, claims)`.
"""

import io
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx2
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from gmi import Audit, GmiError, audit, load, read
from gmi.targets.json_endpoint import JsonTarget
from gmi.targets.remote import pixels
from gmi.targets.served import Busy, Requests


class Forms:
    """A service that takes one photograph as a form, and answers with a score for each person."""

    requests = Requests(batch=1, concurrency=4, retries=5)

    def __init__(self, plan: JsonTarget, client: httpx2.Client) -> None:
        self._plan, self._client, self._token = plan, client, _token()

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (1, K), float64, of a photograph (1, C, H, W), given as bytes."""
        file = io.BytesIO()
        to_pil_image(pixels(images, self._plan.input)[0]).save(file, "PNG")
        answer = self._sent(file.getvalue())
        if answer.status_code == 401:
            self._token = _token()
            answer = self._sent(file.getvalue())
        if answer.status_code == 429 or answer.status_code >= 500:
            raise Busy(f"status {answer.status_code}")  # it is asked again later
        if not answer.is_success:
            raise GmiError(f"The API refuses a photograph with status {answer.status_code}.")
        return torch.tensor([answer.json()["scores"]], dtype=torch.float64)

    def _sent(self, photograph: bytes) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            return self._client.post(
                self._plan.url, files={"photo": ("face.png", photograph, "image/png")}, headers=headers
            )
        except httpx2.RequestError as error:
            raise Busy(type(error).__name__) from None


def _token() -> str:
    command = shlex.split(os.environ["TOKEN_COMMAND"])
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main(configuration: str, out: str) -> Path:
    """The report of an audit of that API: all else is as the configuration says."""
    plan = read(configuration, Audit)
    assert isinstance(plan.target, JsonTarget)
    inputs = load(plan)
    with httpx2.Client(timeout=60) as client:  # cert=("client.pem", "client.key"): a certificate of the client
        target = replace(inputs.target, service=Forms(plan.target, client))
        return audit(plan, out, replace(inputs, target=target))


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2]))
