"""Notices to Teams, Slack, Matrix and other services through Apprise: the configuration of such channels.

The URL of a channel holds its secrets. So it is read from a file that only the node's user can read, each
time it is used, and it is never logged or shown.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.secrets import read_secret
from orgseg_node.node.config.section import Section, tables

if TYPE_CHECKING:  # Apprise takes half a second and 50 MB, which a node without such channels does not need
    from apprise import AppriseAsset
    from apprise.plugins import NotifyBase

_SILENCED: Final = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib")
"""Loggers whose messages may quote parts of a URL."""


class ChannelSection(Section):
    """Notices to one service that Apprise knows, such as Teams, Slack or Matrix.

    Attributes
    ----------
    name : of the channel in the log and in the database; notices sent under another name are sent again
    url_file : file that holds the Apprise URL of the service, readable by the node's user only
    ca : PEM file with the certificates that sign that of the service; those of Apprise when None
    timeout_s : limit for each connection attempt and for each answer
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
    url_file: Path
    ca: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 20.0

    def resolved(self, base: Path) -> ChannelSection:
        """The same with absolute paths."""
        ca = None if self.ca is None else base / self.ca.expanduser()
        return self.model_copy(update={"url_file": base / self.url_file.expanduser(), "ca": ca})


def open_channel(section: ChannelSection, asset: AppriseAsset | None = None) -> NotifyBase:
    """Make the client of a channel; nothing is connected or sent yet.

    Parameters
    ----------
    section : the channel; its paths are absolute
    asset : Apprise's settings for all its services

    Raises
    ------
    ConfigError
        If the file or its URL cannot be used. The message does not quote the URL.
    """
    for name in _SILENCED:
        logging.getLogger(name).handlers = [logging.NullHandler()]
        logging.getLogger(name).propagate = False
    from apprise import Apprise, OverflowMode  # noqa: PLC0415  # only where a channel is configured

    client = Apprise.instantiate(read_secret(section.url_file), asset=asset, suppress_exceptions=True)
    if client is None:
        raise ConfigError(f"{section.url_file} does not hold the URL of a service that Apprise knows.")
    if not client.verify_certificate:
        raise ConfigError(f"The URL in {section.url_file} must not switch off the check of certificates.")
    if section.ca is not None:
        if not section.ca.is_file():
            raise ConfigError(f"{section.ca} cannot be read.")
        client.verify_certificate = str(section.ca)  # type: ignore[assignment]  # it becomes `verify` of requests
    client.socket_connect_timeout = client.socket_read_timeout = section.timeout_s
    client.overflow_mode = OverflowMode.TRUNCATE  # a text that is too long for the service arrives anyway
    return client


def channel_problems(data: dict[str, Any], base: Path) -> list[str]:
    """List what is wrong with the channels of a configuration file, whose fields may be invalid.

    Parameters
    ----------
    data : the file as read
    base : folder to which its paths are relative
    """
    problems, names = [], []
    channels = dict(tables(data)).get("notices", {}).get("channels")
    for number, table in tables(channels) if isinstance(channels, list) else ():
        here = f"notices.channels.{int(number) + 1}"
        name, url_file, ca = table.get("name"), table.get("url_file"), table.get("ca")
        if name is not None and name in names:
            problems.append(f"{here}.name: {name!r} is used twice")
        names.append(name)
        if not isinstance(url_file, str) or not isinstance(ca, str | None):
            continue
        section = ChannelSection(name="check", url_file=Path(url_file), ca=None if ca is None else Path(ca))
        try:
            open_channel(section.resolved(base))
        except ConfigError as error:
            problems.append(f"{here}: {error.detail}")
    return problems
