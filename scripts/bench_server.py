"""Times a served target: images a second against the bare model's, and how long a request takes.

python scripts/bench_server.py configs/serve_orl.yaml

Starts pipelines/serve.py on a free port of this machine and sends it a bounded number of requests, in turns with the
same batches through the model alone. Exits with 1 where the server makes less than 80 % of the model's images a second.
"""

import argparse
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import httpx2
import numpy as np
import torch
import yaml
from torch import Tensor

from gmi import cli
from gmi.cli.options import configuring
from gmi.errors import GmiError
from gmi.metrics.statistics import jackknife
from gmi.serving.app import Serving, ShowLabels
from gmi.settings import plain
from gmi.targets.module import Input, Target
from gmi.targets.open_inference import OpenInferenceTarget
from gmi.targets.remote import Connection
from gmi.targets.served import Served

LEAST = 0.8


def main(arguments: Sequence[str]) -> None:
    parser = configuring(__doc__ or "")
    parser.add_argument("--batch", type=int, default=32, help="images of a request")
    parser.add_argument("--concurrency", type=int, default=2, help="requests at once")
    parser.add_argument("--requests", type=int, default=8, help="of one round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--side", type=int, default=64, help="pixels of the images sent")
    options, plan = cli.configured(parser, arguments, Serving)
    with tempfile.TemporaryDirectory() as folder:
        # The same model without limits of rate and budget, which would be what is measured.
        keys = tuple(replace(key, token="GMI_BENCH", rate=None, budget=None) for key in plan.keys)
        plan = replace(plan, keys=keys, log=str(Path(folder, "log.sqlite")))
        os.environ["GMI_BENCH"] = secrets.token_hex()
        people = plan.data.load()
        target = plan.load(people).to(cli.accelerator().device)
        noise = torch.randint(0, 256, (options.batch, 1, options.side, options.side), dtype=torch.uint8)
        port = _free()
        path = Path(folder, "serve.yaml")
        path.write_text(yaml.safe_dump(plain(plan)))
        command = [sys.executable, "pipelines/serve.py", str(path), "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                _wait(port, server)
                measure(options, served(plan, port, options, people.names), target, noise)
            finally:
                server.terminate()


def measure(options: argparse.Namespace, remote: Served, target: Target, images: Tensor) -> None:
    bare(target, images, 1)
    ask(remote, images, 1, 1)  # both are warm
    ratios, latencies, speeds = [], [], []
    for _ in range(options.rounds):
        alone = bare(target, images, options.requests)
        start = perf_counter()
        latencies += ask(remote, images, options.requests, options.concurrency)
        through = options.requests * len(images) / (perf_counter() - start)
        ratios.append(through / alone)
        speeds.append((through, alone))
    ratio = np.array(ratios)
    without = (ratio.sum() - ratio) / (len(ratio) - 1)
    speed = jackknife(without, float(ratio.mean()), len(ratio))
    through, alone = np.mean(speeds, 0)
    p50, p95 = np.percentile(latencies, (50, 95))
    print(f"{cli.accelerator().device}, {torch.get_num_threads()} threads, batches of {len(images)}")
    print(f"model alone {alone:.1f} images/s, server {through:.1f} images/s")
    print(f"server / model {speed.value:.3f} [{speed.low:.3f}, {speed.high:.3f}] over {speed.n} rounds in turns")
    many = f"{len(latencies)} requests, {options.concurrency} at once"
    print(f"{many}: p50 {p50 * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms")
    if speed.value < LEAST:
        raise SystemExit(1)


@torch.no_grad()
def bare(target: Target, images: Tensor, requests: int) -> float:
    """Images a second of the model alone."""
    device = next(iter(target.weights())).device
    start = perf_counter()
    for _ in range(requests):
        target(images.to(device).float() / 255).cpu()
    return requests * len(images) / (perf_counter() - start)


def ask(remote: Served, images: Tensor, requests: int, concurrency: int) -> list[float]:
    """Seconds of each request."""

    def request(_: int) -> float:
        start = perf_counter()
        remote.service(images)
        return perf_counter() - start

    with ThreadPoolExecutor(concurrency) as threads:
        return list(threads.map(request, range(requests)))


def served(plan: Serving, port: int, options: argparse.Namespace, names: tuple[str, ...]) -> Served:
    labels = isinstance(plan.shows, ShowLabels)
    token = "GMI_BENCH" if plan.keys else None
    connection = Connection(batch=options.batch, concurrency=options.concurrency, token=token, timeout=120.0)
    return OpenInferenceTarget(
        url=f"http://127.0.0.1:{port}",
        model=plan.name,
        input=Input(size=(options.side, options.side), colour="grey"),
        tensor="images",
        datatype="UINT8",
        gives="labels" if labels else "probabilities",
        connection=connection,
    ).load(names)


def _free() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(1200):
        try:
            httpx2.get(f"http://127.0.0.1:{port}/v2/health/ready")
            return
        except httpx2.TransportError as error:
            if server.poll() is not None:
                raise GmiError("The server ended before it answered: start pipelines/serve.py to see why.") from error
            time.sleep(0.1)
    raise GmiError("The server did not answer within two minutes.")


if __name__ == "__main__":
    cli.run(main)
