"""The command that serves a target."""

import socket
import ssl
from collections.abc import Sequence

import torch
import uvicorn

from gmi import cli
from gmi.cli.options import flags_of
from gmi.errors import GmiError, because
from gmi.serving.app import Serving, app
from gmi.targets.module import ModuleTarget
from gmi.targets.quality import refuse_unfit
from gmi.training.weights import refuse_untrained

_CONNECTIONS = 32  # at once: each may hold a request of 64 MiB


def main(arguments: Sequence[str]) -> None:
    """Serves until it is stopped."""
    options, plan = cli.configured(flags_of("serve"), arguments, Serving)
    if options.host not in ("127.0.0.1", "localhost", "::1"):
        if not plan.keys:
            raise GmiError("keys: a target that other machines can reach is not served without any.")
        if options.certificate is None:
            raise GmiError("--certificate: keys are not taken from other machines over plain http.")
    _refuse_unreadable(options.certificate, options.private_key)
    people = plan.data.load()
    if plan.training is not None and isinstance(plan.target, ModuleTarget):
        with cli.naming_trainer(options, plan):
            refuse_untrained(plan.target, plan.training, people)
    target = plan.load(people).to(cli.accelerator().device)
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
        raise GmiError(
            f"Cannot listen on {options.host}:{options.port} ({because(error)}): choose another --port."
        ) from error
    print(f"{plan.name} on port {door.getsockname()[1]} of {options.host}: /v2/models/{plan.name}", flush=True)
    config = uvicorn.Config(
        server,
        log_level="warning",
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.private_key,
    )
    uvicorn.Server(config).run(sockets=[door])


def _refuse_unreadable(certificate: str | None, key: str | None) -> None:
    """Raises GmiError where the files for https cannot be used."""
    if certificate is None and key is not None:
        raise GmiError("--certificate is missing: a --private-key alone makes no https.")
    if certificate is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
        except OSError as error:
            raise GmiError(
                f"--certificate and --private-key: {certificate} and {key or 'the key in it'} cannot be used "
                f"({because(error)}): name two PEM files that belong together."
            ) from error
