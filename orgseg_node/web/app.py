"""The HTTP application: health, readiness, metrics, and further routes."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from orgseg_node.node.parts import Parts
from orgseg_node.web.health import liveness_problems, readiness_problems, readiness_warnings
from orgseg_node.web.metrics import render


def http_app(routes: Sequence[BaseRoute]) -> Starlette:
    """An application with these routes; errors are answered with the status only."""
    return Starlette(debug=False, routes=list(routes))


def monitoring_routes(parts: Parts) -> list[Route]:
    """``/healthz``, ``/readyz`` and ``/metrics``.

    The functions run in threads; each closes its database connection at the end.
    """

    def healthz(request: Request) -> Response:
        del request
        return _problems_response(liveness_problems(parts))

    def readyz(request: Request) -> Response:
        del request
        try:
            return _problems_response(readiness_problems(parts), readiness_warnings(parts))
        finally:
            parts.store.close()

    def metrics(request: Request) -> Response:
        del request
        try:
            return Response(render(parts), media_type=CONTENT_TYPE_LATEST)
        finally:
            parts.store.close()

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


def refusing_routes(problem: str) -> list[Route]:
    """``/healthz``, and 503 with a problem for everything else, while the node waits to start."""

    def healthz(request: Request) -> Response:
        del request
        return _problems_response([])

    def refuse(request: Request) -> Response:
        del request
        response = _problems_response([problem])
        response.headers["Retry-After"] = "60"
        return response

    methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS"]
    return [Route("/healthz", healthz), Route("/{path:path}", refuse, methods=methods)]


def _problems_response(problems: list[str], warnings: list[str] | None = None) -> Response:
    content = {"ok": not problems, "problems": problems} | ({"warnings": warnings} if warnings else {})
    return JSONResponse(content, status_code=503 if problems else 200)
