"""What all pages share: the parts of the node, accounts, sessions, templates and opened cases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2

from orgseg_node import __version__
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.parts import Parts
from orgseg_node.node.store.store import Store
from orgseg_node.node.users.accounts import Accounts
from orgseg_node.node.users.lockout import Lockout
from orgseg_node.node.users.sessions import Sessions
from orgseg_node.web.case_content.images import OpenCases
from orgseg_node.web.case_content.trials import Trials
from orgseg_node.web.pages.assets import assets
from orgseg_node.web.pages.identities import Identities
from orgseg_node.web.pages.live import LiveFeed


@dataclass(slots=True, kw_only=True)
class Site:
    """What all pages share.

    Attributes
    ----------
    parts : of the running node
    accounts, sessions, lockout : who may log in, and has
    live : reports changes to open pages
    cases : images and contours of the cases that are being looked at
    identities : whose images the series have
    trials : the last protocols that were tried
    is_https : whether the pages are reached by HTTPS; by a proxy they always are
    templates : of the pages; every text in them is escaped
    """

    parts: Parts
    accounts: Accounts
    sessions: Sessions
    lockout: Lockout
    live: LiveFeed
    cases: OpenCases
    identities: Identities
    trials: Trials
    is_https: bool
    templates: jinja2.Environment

    @property
    def config(self) -> NodeConfig:
        """The configuration in force."""
        return self.parts.config.config

    @property
    def store(self) -> Store:
        """The node's database."""
        return self.parts.store

    def render(self, template: str, content: dict[str, Any]) -> str:
        """A page, with every text escaped."""
        return self.templates.get_template(template).render(content)


def make_site(parts: Parts) -> Site:
    """What the pages of a running node share."""
    config = parts.config.config
    limits = config.pages
    return Site(
        parts=parts,
        accounts=Accounts(parts.store.database),
        sessions=Sessions(limits.idle_minutes * 60.0, limits.longest_hours * 3600.0),
        lockout=Lockout(),
        live=LiveFeed(parts.store.database),
        cases=OpenCases(),
        identities=Identities(config.node.data_dir, parts.store),
        trials=Trials(),
        is_https=config.web.certificate is not None or limits.proxy is not None,
        templates=_environment(),
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orgseg_node.web.pages", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["local"] = _local
    environment.filters["clock"] = _clock
    environment.globals.update(asset=assets().path, version=__version__)
    return environment


def _local(moment: datetime | None) -> str:
    """Date and time in the time zone of the node."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment else "–"


def _clock(moment: datetime | None) -> str:
    """The time with seconds, and the date."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment else "–"
