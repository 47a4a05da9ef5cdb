"""Configuration sections ``web``, ``watch`` and ``notices``: monitoring, and where notices are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from orgseg_node.node.config.channels import ChannelSection, channel_problems
from orgseg_node.node.config.section import Port, Section, tables


def _address(value: str) -> str:
    name, at, host = value.rpartition("@")
    if not (at and name and host) or any(c.isspace() or c in ",;<>" or not c.isprintable() for c in value):
        raise ValueError("not an e-mail address such as physics@clinic.example")
    return value


def _url(value: str) -> str:
    if not value.startswith(("https://", "http://")) or any(c.isspace() for c in value):
        raise ValueError("a webhook's address begins with https:// or http://")
    return value


EmailAddress = Annotated[str, AfterValidator(_address)]


class WebSection(Section):
    """The HTTP server for monitoring and STOW-RS; it runs only if a port is given.

    Attributes
    ----------
    host, port : where it listens; port 0 takes any free port
    certificate, key : PEM files; with them it uses HTTPS
    """

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    certificate: Path | None = None
    key: Path | None = None


class WatchSection(Section):
    """What is checked periodically, and the limits from which on a notice is raised.

    Attributes
    ----------
    echo_minutes : interval of the C-ECHO to each destination; 0 for never
    delivery_late_h : a delivery that fails for longer raises a notice
    certificate_days : a certificate that expires sooner raises a notice
    """

    echo_minutes: Annotated[float, Field(ge=0, le=1440)] = 15.0
    delivery_late_h: Annotated[float, Field(gt=0, le=24 * 30)] = 2.0
    certificate_days: Annotated[float, Field(ge=0, le=365)] = 30.0


class EmailSection(Section):
    """Notices by e-mail.

    Attributes
    ----------
    security : ``starttls``, ``tls`` from the first byte, or ``none``
    sender, recipients : e-mail addresses
    user, password_file : for the login, if the server requires one
    ca : PEM file with the CA of the server's certificate; the CAs of the system when None
    timeout_s : limit for connecting and for each answer
    """

    host: Annotated[str, Field(min_length=1)]
    port: Port = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: EmailAddress
    recipients: Annotated[tuple[EmailAddress, ...], Field(min_length=1)]
    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 20.0


class WebhookSection(Section):
    """Notices as JSON to another program.

    Attributes
    ----------
    secret_file : key with which messages are signed (HMAC-SHA-256); without it they are not signed
    ca : PEM file with the CA of the server's certificate; the CAs of the system when None
    timeout_s : limit for connecting and for each answer
    """

    url: Annotated[str, AfterValidator(_url)]
    secret_file: Path | None = None
    ca: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 20.0


class NoticesSection(Section):
    """Where notices are sent; nowhere without e-mail, webhook or channel.

    Attributes
    ----------
    min_interval_s : at most one message in this time on each channel; later notices go into the next message
    give_up_after_h : a message that cannot be sent for so long is given up; its notices stay in the database
    email : a mail server
    webhook : an own program
    channels : services such as Teams, Slack or Matrix
    """

    min_interval_s: Annotated[float, Field(ge=0, le=86400)] = 300.0
    give_up_after_h: Annotated[float, Field(gt=0, le=24 * 30)] = 72.0
    email: EmailSection | None = None
    webhook: WebhookSection | None = None
    channels: tuple[ChannelSection, ...] = ()

    def resolved(self, base: Path) -> NoticesSection:
        """The same with absolute paths."""
        email = self.email and self.email.model_copy(update=_files(self.email, base))
        webhook = self.webhook and self.webhook.model_copy(update=_files(self.webhook, base))
        channels = tuple(channel.resolved(base) for channel in self.channels)
        return self.model_copy(update={"email": email, "webhook": webhook, "channels": channels})


def resolve_web(web: WebSection, base: Path) -> WebSection:
    """The same with absolute paths."""
    return web.model_copy(update=_files(web, base))


def _files(section: Section, base: Path) -> dict[str, Path]:
    values = {name: getattr(section, name) for name in type(section).model_fields}
    return {name: base / value.expanduser() for name, value in values.items() if isinstance(value, Path)}


def watch_contradictions(data: dict[str, Any]) -> list[str]:
    """List contradictions between these settings; also runs on a configuration with invalid fields."""
    sections = dict(tables(data))
    problems = []
    web = sections.get("web", {})
    if bool(web.get("certificate")) != bool(web.get("key")):
        problems.append("web: certificate and key belong together")
    email = dict(tables(sections.get("notices", {}))).get("email", {})
    if bool(email.get("user")) != bool(email.get("password_file")):
        problems.append("notices.email: user and password_file belong together")
    if email.get("user") and email.get("security") == "none":
        problems.append("notices.email.security: 'none' would send the password in the clear")
    return problems


def watch_file_problems(data: dict[str, Any], base: Path) -> list[str]:
    """List what is wrong with the files that these settings name."""
    sections = dict(tables(data))
    notices = dict(tables(sections.get("notices", {})))
    named = [
        (f"{setting}.{name}", section.get(name))
        for setting, section, names in (
            ("web", sections.get("web", {}), ("certificate", "key")),
            ("notices.email", notices.get("email", {}), ("password_file", "ca")),
            ("notices.webhook", notices.get("webhook", {}), ("secret_file", "ca")),
        )
        for name in names
    ]
    problems = []
    for setting, value in named:
        if isinstance(value, str) and value:
            try:
                (base / Path(value).expanduser()).read_bytes()
            except OSError as error:
                problems.append(f"{setting}: {value} cannot be read: {error.strerror}")
    return problems + channel_problems(data, base)
