"""Servers for tests: ours in a thread, and one that answers each request as a test says."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn

from gmi import toy
from gmi.serving.app import Serving, app
from gmi.serving.watch import Watcher
from gmi.targets.module import Input, ModuleTarget, Target
from gmi.targets.open_inference import OpenInferenceTarget
from gmi.targets.templates import TemplateTarget

SIDES = Input(size=(16, 16), colour="grey")


NAMES = tuple(f"p{one}" for one in range(6))


NOWHERE = ModuleTarget(factory="gmi.toy:target", input=SIDES)


@contextmanager
def serving(
    target: Target,
    folder: Path,
    watcher: Watcher | None = None,
    config: ModuleTarget | TemplateTarget = NOWHERE,
    **settings: Any,
) -> Iterator[str]:
    """Our server in a thread, at a port of its own: its address."""
    plan = Serving(name="toy", data=toy.plan().data, target=config, log=str(folder / "log.sqlite"), **settings)
    server = uvicorn.Server(uvicorn.Config(app(plan, target, watcher), port=0, log_level="error"))
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def client(url: str, **settings: Any) -> OpenInferenceTarget:
    given = {"output": "scores", "datatype": "UINT8"} | settings
    return OpenInferenceTarget(url=url, model="toy", input=SIDES, tensor="images", **given)


class Handler(BaseHTTPRequestHandler):
    """Answers each POST as the test says."""

    protocol_version = "HTTP/1.1"
    answer: Callable[["Handler", bytes], None]

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def say(self, status: int, content: Any, **headers: str) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        ending = {"Connection": "close"} if self.close_connection else {}
        for name, value in ({"Content-Length": str(len(raw))} | ending | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(answer: Callable[[Handler, bytes], None]) -> Iterator[str]:
    """A server of the test's own: its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"answer": answer}))
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
