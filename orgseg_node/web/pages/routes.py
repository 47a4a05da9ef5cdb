"""All addresses of the pages."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from orgseg_node.node.parts import Parts
from orgseg_node.web.pages.assets import serve_asset
from orgseg_node.web.pages.case import case_routes
from orgseg_node.web.pages.cases import cases_routes
from orgseg_node.web.pages.commands import command_routes
from orgseg_node.web.pages.configuration.node import node_routes
from orgseg_node.web.pages.configuration.protocols import protocol_routes
from orgseg_node.web.pages.configuration.rules import rules_routes
from orgseg_node.web.pages.login import login_routes
from orgseg_node.web.pages.models import models_routes
from orgseg_node.web.pages.quality import quality_routes
from orgseg_node.web.pages.site import Site, make_site
from orgseg_node.web.pages.today import today_routes


class Pages:
    """The pages of a node; they exist only if the configuration says so."""

    def __init__(self) -> None:
        self._site: Site | None = None

    def routes(self, parts: Parts) -> list[BaseRoute]:
        """The addresses; none unless ``[pages] enabled`` is set."""
        if not parts.config.config.pages.enabled:
            return []
        site = make_site(parts)
        self._site = site
        return [
            Route("/static/{digest}/{name}", serve_asset, methods=["GET"]),
            *login_routes(site),
            *today_routes(site),
            *cases_routes(site),
            *command_routes(site),
            *case_routes(site),
            *models_routes(site),
            *quality_routes(site),
            *node_routes(site),
            *rules_routes(site),
            *protocol_routes(site),
        ]

    def close(self) -> None:
        """End the streams of open pages, so that the server can stop at once."""
        if self._site is not None:
            self._site.live.close()
