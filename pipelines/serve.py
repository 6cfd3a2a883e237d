"""Serves a target over the Open Inference Protocol, version 2, as an API would show it. Stop it with Ctrl+C.

python pipelines/serve.py configs/serve_orl.yaml --port 8080
"""

from collections.abc import Sequence

from gmi import cli
from gmi.assets import resolve
from gmi.errors import GmiError


def main(arguments: Sequence[str]) -> None:
    try:
        import uvicorn

        from gmi.serving.app import Serving, app
    except ImportError as error:
        raise GmiError(f"Serving needs more packages ({error.name} is missing): pip install -e '.[serve]'.") from error
    parser = cli.parser(__doc__ or "")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; others than this machine need keys")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--certificate", help="PEM file, for https")
    parser.add_argument("--private-key", help="PEM file, for https")
    options, plan = cli.configured(parser, arguments, Serving)
    if not plan.keys and options.host not in ("127.0.0.1", "localhost", "::1"):
        raise GmiError("keys: a target that other machines can reach is not served without any.")
    if plan.target.weights is not None and not resolve(plan.target.weights).exists():
        raise GmiError(f"There are no weights at {plan.target.weights} yet: train the target first.")
    device = cli.accelerator().device
    server = app(plan, plan.target.load(plan.data.load().names).to(device))
    print(f"{plan.name} on port {options.port} of {options.host}: /v2/models/{plan.name}", flush=True)
    uvicorn.run(
        server,
        host=options.host,
        port=options.port,
        log_level="warning",
        server_header=False,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.private_key,
    )


if __name__ == "__main__":
    cli.run(main)
