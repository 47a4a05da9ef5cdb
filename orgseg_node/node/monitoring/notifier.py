"""Sends notices by e-mail and to a webhook.

A message is tried until its server took it, with growing pauses. If the node stops between the server's
answer and the row that remembers it, the same message goes out again, under the same ``Message-ID`` and
``Idempotency-Key``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import structlog

from orgseg_node import __version__
from orgseg_node.errors import NotNotified
from orgseg_node.node.config.alerts import EmailSection, WebhookSection
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.monitoring.alerts import SENTENCES, NoticeCode
from orgseg_node.node.monitoring.outbox import Message, Outbox
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.database import Database

_FIRST_S: Final = 30.0
_LONGEST_S: Final = 1800.0
_BUSY_S: Final = 600.0  # longer than any time-out: meanwhile no other process tries the same message
_NETWORK_ERRORS: Final = (OSError, smtplib.SMTPException, urllib.error.URLError, ValueError)

_log = structlog.get_logger("orgseg.notices")


class Notifier:
    """Sends what is in the outbox.

    Parameters
    ----------
    config : the configuration in force
    database : of the node
    clock : where the time comes from
    """

    def __init__(
        self, config: NodeConfig | CurrentConfig, database: Database, *, clock: Clock = utc_now
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._outbox = Outbox(database, clock=clock)
        self._clock = clock

    def send(self) -> int:
        """Send what is due on each channel; how many messages went out."""
        config = self._current.config
        section = config.notices
        ways: dict[str, Callable[[Message], None]] = {}
        if (email := section.email) is not None:
            ways["email"] = lambda message: send_email(email, config.node.ae_title, message)
        if (webhook := section.webhook) is not None:
            ways["webhook"] = lambda message: post(webhook, config.node.ae_title, message, self._clock)
        return sum(self._send(channel, way, config) for channel, way in ways.items())

    def _send(self, channel: str, way: Callable[[Message], None], config: NodeConfig) -> int:
        self._outbox.gather(channel, config.notices.min_interval_s)
        message = self._outbox.claim(channel, _BUSY_S)
        if message is None:
            return 0
        try:
            way(message)
        except _NETWORK_ERRORS as error:
            why = NotNotified(f"{channel}: {type(error).__name__}.")
            over = self._clock() - message.created_at > timedelta(hours=config.notices.give_up_after_h)
            wait = min(_LONGEST_S, _FIRST_S * 2.0 ** min(message.attempts - 1, 10))
            self._outbox.settle(message, retry_in_s=None if over else wait)
            told = _log.error if over else _log.warning
            told("notice not sent", code=why.code, channel=channel, kind=type(error).__name__, given_up=over)
            return 0
        self._outbox.settle(message, retry_in_s=None)
        _log.info("notices sent", channel=channel, notices=len(message.notices), attempt=message.attempts)
        return 1


def _context(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _secret(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def email_of(section: EmailSection, node: str, message: Message) -> EmailMessage:
    """A message as an e-mail: what happened, how often, to which job or series."""
    counts: dict[str, list[str]] = {}
    for notice in message.notices:
        counts.setdefault(notice.code, []).append(f"{notice.raised:%Y-%m-%d %H:%M} UTC  {notice.subject}")
    lines = [f"The DICOM node {node} needs somebody to look."]
    for code, subjects in counts.items():
        lines += [
            "",
            f"{code} ({len(subjects)}): {SENTENCES[NoticeCode(code)]}",
            *(f"  {s}" for s in subjects),
        ]
    email = EmailMessage()
    email["Subject"] = f"{node}: " + ", ".join(f"{code} ({len(s)})" for code, s in counts.items())
    email["From"], email["To"] = section.sender, ", ".join(section.recipients)
    email["Date"] = format_datetime(message.created_at)
    email["Message-ID"] = f"<{message.message_id}@orgseg.invalid>"
    email["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    email.set_content("\n".join(lines) + "\n")
    return email


def send_email(section: EmailSection, node: str, message: Message) -> None:
    """Send a message by SMTP. Raises OSError or SMTPException if the server did not take it for everybody."""
    email = email_of(section, node, message)
    if section.security == "tls":
        context = _context(section.ca)
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            section.host, section.port, timeout=section.timeout_s, context=context
        )
    else:
        client = smtplib.SMTP(section.host, section.port, timeout=section.timeout_s)
    with client:
        if section.security == "starttls":
            client.starttls(context=_context(section.ca))
        if section.password_file is not None:
            client.login(section.user, _secret(section.password_file))
        refused = client.send_message(email)
    if refused:
        _log.warning("notice refused for some recipients", recipients=len(refused))


def body_of(node: str, message: Message) -> dict[str, Any]:
    """A message as JSON."""
    return {
        "id": message.message_id,
        "node": node,
        "version": __version__,
        "notices": [
            {
                "code": notice.code,
                "sentence": SENTENCES[NoticeCode(notice.code)],
                "subject": notice.subject,
                "raised_at": notice.raised_at,
            }
            for notice in message.notices
        ],
    }


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a receiver compares: HMAC-SHA-256 over time stamp, dot and body, in hexadecimal digits."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that moves is a mistake in the configuration: what is signed goes nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs


def post(section: WebhookSection, node: str, message: Message, clock: Clock = utc_now) -> None:
    """Post a message. Raises OSError (URLError, HTTPError) if the server does not answer with 2xx."""
    body = json.dumps(body_of(node, message)).encode()
    timestamp = str(int(clock().timestamp()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"orgseg_node/{__version__}",
        "Idempotency-Key": message.message_id,
        "X-Orgseg-Timestamp": timestamp,
    }
    if section.secret_file is not None:
        headers["X-Orgseg-Signature"] = "sha256=" + signature(_secret(section.secret_file), timestamp, body)
    request = urllib.request.Request(section.url, data=body, headers=headers, method="POST")  # noqa: S310  # the configuration allows http and https only
    handlers: list[Any] = [_NoRedirect()]
    if section.url.startswith("https://"):
        handlers.append(urllib.request.HTTPSHandler(context=_context(section.ca)))
    with urllib.request.build_opener(*handlers).open(request, timeout=section.timeout_s) as answer:
        answer.read(1024)
