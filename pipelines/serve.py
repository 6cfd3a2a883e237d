"""Serves a target over the Open Inference Protocol, version 2, as an API would show it. Stop it with Ctrl+C.

python pipelines/serve.py configs/serve_orl.yaml --port 8080
"""

import socket
from collections.abc import Sequence

import torch

from gmi import cli
from gmi.errors import GmiError
from gmi.inversion.inputs import refuse_unfit, refuse_untrained


def main(arguments: Sequence[str]) -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise GmiError(f"Serving needs {error.name}: pip install -e '.[serve]'.") from error
    from gmi.serving.app import Serving, app

    parser = cli.parser(__doc__ or "")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than this machine need keys")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--certificate", help="PEM file, for https")
    parser.add_argument("--private-key", help="PEM file, for https")
    options, plan = cli.configured(parser, arguments, Serving)
    if options.host not in ("127.0.0.1", "localhost", "::1"):
        if not plan.keys:
            raise GmiError("keys: a target that other machines can reach is not served without any.")
        if options.certificate is None:
            raise GmiError("--certificate: keys are not taken from other machines over plain http.")
    people = plan.data.load()
    if plan.training is not None:
        refuse_untrained(plan.target, plan.training, people)
    target = plan.target.load(people.names).to(cli.accelerator().device)
    refuse_unfit(target, people, plan.watch is not None)
    watcher = None
    if plan.watch is not None:
        photographs = torch.cat([people.training.pixels, people.enrolment.pixels])
        watcher = plan.watch.learn(target, photographs)
    server = app(plan, target, watcher)
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        door = socket.create_server((options.host, options.port), family=family)
    except (OSError, OverflowError) as error:
        raise GmiError(f"Port {options.port} of {options.host} cannot be had ({error}): choose another.") from error
    print(f"{plan.name} on port {door.getsockname()[1]} of {options.host}: /v2/models/{plan.name}", flush=True)
    config = uvicorn.Config(
        server,
        log_level="warning",
        server_header=False,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.private_key,
    )
    uvicorn.Server(config).run(sockets=[door])


if __name__ == "__main__":
    cli.run(main)
