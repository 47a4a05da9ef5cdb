"""Posts messages with notices to a webhook as JSON.

This does not go through Apprise, which cannot sign a body (HMAC-SHA-256) and has no stable identifier for a
message that is sent again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.request
from typing import Any

from orgseg_node import __version__
from orgseg_node.node.config.alerts import WebhookSection
from orgseg_node.node.monitoring.alerts import SENTENCES, NoticeCode
from orgseg_node.node.monitoring.outbox import Message
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.tls.context import https_context


def body_of(node: str, message: Message) -> dict[str, Any]:
    """The message as a JSON object."""
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
    """The signature that a receiver compares.

    Parameters
    ----------
    secret : shared with the receiver
    timestamp : text of the header X-Orgseg-Timestamp
    body : the body as sent

    Returns
    -------
    HMAC-SHA-256 over time stamp, dot and body, in hexadecimal digits.
    """
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a signed message goes nowhere but to the configured address."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        del args, kwargs


def post(section: WebhookSection, node: str, message: Message, clock: Clock = utc_now) -> None:
    """Post a message.

    Parameters
    ----------
    section : address, secret and certificate authority
    node : AE title of the node
    message : what is sent
    clock : gives the time stamp

    Raises
    ------
    OSError
        If the server does not answer with 2xx (URLError, HTTPError).
    """
    body = json.dumps(body_of(node, message)).encode()
    timestamp = str(int(clock().timestamp()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"orgseg_node/{__version__}",
        "Idempotency-Key": message.message_id,
        "X-Orgseg-Timestamp": timestamp,
    }
    if section.secret_file is not None:
        secret = section.secret_file.read_text(encoding="utf-8").strip()
        headers["X-Orgseg-Signature"] = "sha256=" + signature(secret, timestamp, body)
    request = urllib.request.Request(section.url, data=body, headers=headers, method="POST")  # noqa: S310  # the configuration allows http and https only
    handlers: list[Any] = [_NoRedirect()]
    if section.url.startswith("https://"):
        handlers.append(urllib.request.HTTPSHandler(context=https_context(section.ca)))
    with urllib.request.build_opener(*handlers).open(request, timeout=section.timeout_s) as answer:
        answer.read(1024)
