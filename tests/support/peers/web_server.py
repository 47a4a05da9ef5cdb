"""A web application on a port of this machine, served as the node serves it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute


@contextlib.contextmanager
def serving(routes: Sequence[BaseRoute], **options: object) -> Iterator[int]:
    """The port while the routes are served."""
    settings = uvicorn.Config(
        Starlette(routes=list(routes)), host="127.0.0.1", port=0, log_config=None, lifespan="off",
        **options,  # type: ignore[arg-type]
    )  # fmt: skip
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
