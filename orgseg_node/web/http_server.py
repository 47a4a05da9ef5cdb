"""The HTTP server of the node: uvicorn in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import uvicorn
from starlette.routing import BaseRoute

from orgseg_node.errors import ConfigError, EnvironmentFault, PortTaken
from orgseg_node.node.config.alerts import WebSection
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.parts import Parts
from orgseg_node.web.app import http_app, monitoring_routes, refusing_routes
from orgseg_node.web.connections import limited_protocol, raise_descriptor_limit

_START_S: Final = 20.0
_STOP_S: Final = 10

Routes = Sequence[BaseRoute]
RoutesOf = Callable[[Parts], Routes]

_log = structlog.get_logger("orgseg.web")


class HttpServer:
    """The HTTP server; it does nothing if the configuration gives no port.

    Parameters
    ----------
    more : functions that make further routes, such as those of DICOMweb and of the pages
    before_stop : ends requests that would not end by themselves
    """

    def __init__(self, *more: RoutesOf, before_stop: Callable[[], None] | None = None) -> None:
        self._before_stop = before_stop
        self._routes: tuple[RoutesOf, ...] = (monitoring_routes, *more)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.port: int | None = None

    def start(self, parts: Parts) -> None:
        """Open the port, and wait until requests are answered.

        Raises
        ------
        PortTaken, EnvironmentFault
            If the port cannot be opened.
        ConfigError
            If certificate or key cannot be used.
        """
        routes = [route for routes in self._routes for route in routes(parts)]
        self._serve(parts.config.config.web, routes)

    def start_refusing(self, config: NodeConfig, problem: str) -> None:
        """Answer ``/healthz``, report a problem in ``/readyz``, and refuse everything else with 503.

        Parameters
        ----------
        config : the checked configuration
        problem : in a few words, without details

        Raises
        ------
        PortTaken, EnvironmentFault, ConfigError
            As `start`.
        """
        self._serve(config.web, refusing_routes(problem))

    def _serve(self, section: WebSection, routes: Routes) -> None:
        if section.port is None:
            return
        raise_descriptor_limit()
        listener = _listen(section.host, section.port)
        app = http_app(routes)
        config = uvicorn.Config(
            app,
            log_config=None,  # uvicorn would log requested URLs
            access_log=False,
            log_level="critical",
            lifespan="off",
            server_header=False,
            ssl_certfile=section.certificate,
            ssl_keyfile=section.key,
            timeout_graceful_shutdown=_STOP_S,
            http=limited_protocol(),
            proxy_headers=False,  # a caller cannot say that it has another address
            ws="none",
        )
        try:
            config.load()
        except OSError as error:  # ssl.SSLError is one
            listener.close()
            raise ConfigError("web.certificate or web.key cannot be used.") from error
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="http", daemon=True
        )
        self._thread.start()
        if not self._server.started_event.wait(_START_S):
            raise EnvironmentFault("The HTTP server did not start.")
        self.port = int(listener.getsockname()[1])
        _log.info("http listening", host=section.host, port=self.port, tls=section.certificate is not None)

    def stop(self) -> None:
        """Finish open requests, and close the port."""
        if self._server is not None and self._thread is not None:
            if self._before_stop is not None:
                self._before_stop()
            self._server.should_exit = True
            self._thread.join(_STOP_S + 5.0)
        self._server = self._thread = None


class _Server(uvicorn.Server):
    """Sets an event when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.started_event = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.started_event.set()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PortTaken(f"Port {port} at {host}: {error.strerror}.") from error
