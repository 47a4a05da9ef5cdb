"""Sends the messages of the outbox by e-mail, to a webhook and through Apprise.

A message is tried until its server accepts it, with growing pauses. If the node stops between the server's
answer and the row that records it, the same message is sent again, under the same number.
"""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from orgseg_node.errors import ConfigError, NotNotified
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.isolation import Isolation
from orgseg_node.node.monitoring.apprise_transport import send_by_apprise
from orgseg_node.node.monitoring.email_transport import send_email
from orgseg_node.node.monitoring.outbox import Message, Outbox
from orgseg_node.node.monitoring.webhook_transport import post
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.database import Database

_FIRST_S: Final = 30.0
_LONGEST_S: Final = 1800.0
_BUSY_S: Final = 600.0  # longer than any time-out: meanwhile no other process tries the same message
_ERRORS: Final = (OSError, smtplib.SMTPException, ValueError, ConfigError)

Transport = Callable[[Message], None]
"""Sends one message, and raises one of `_ERRORS` if its server does not accept it."""

_log = structlog.get_logger("orgseg.notices")


class Notifier:
    """Sends what is in the outbox.

    Parameters
    ----------
    config : the configuration in force
    database : of the node
    clock : gives the present time
    """

    def __init__(
        self, config: NodeConfig | CurrentConfig, database: Database, *, clock: Clock = utc_now
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._outbox = Outbox(database, clock=clock)
        self._clock = clock

    def send(self) -> int:
        """Send what is due on each channel; the number of messages that were sent."""
        config = self._current.config
        isolation, sent = Isolation("notify"), 0
        for channel, send in self._transports(config):
            with isolation.item(f"channel {channel}"):
                sent += self._send(channel, send, config)
        isolation.finish()
        return sent

    def _transports(self, config: NodeConfig) -> Iterator[tuple[str, Transport]]:
        """Each configured channel and how to send a message on it."""
        section, node = config.notices, config.node.ae_title
        if section.email is not None:
            yield "email", partial(send_email, section.email, node)
        if section.webhook is not None:
            yield "webhook", partial(post, section.webhook, node, clock=self._clock)
        for channel in section.channels:
            yield f"apprise:{channel.name}", partial(send_by_apprise, channel, node)

    def _send(self, channel: str, send: Transport, config: NodeConfig) -> int:
        self._outbox.gather(channel, config.notices.min_interval_s)
        message = self._outbox.claim(channel, _BUSY_S)
        if message is None:
            return 0
        try:
            send(message)
        except _ERRORS as error:
            self._failed(channel, message, error, give_up_after_h=config.notices.give_up_after_h)
            return 0
        self._outbox.finish(message)
        _log.info("notices sent", channel=channel, notices=len(message.notices), attempt=message.attempts)
        return 1

    def _failed(self, channel: str, message: Message, error: Exception, *, give_up_after_h: float) -> None:
        """Record a failed attempt: try again later, or give up."""
        kind = type(error).__name__
        code = NotNotified(f"{channel}: {kind}.").code
        given_up = self._clock() - message.created_at > timedelta(hours=give_up_after_h)
        if given_up:
            self._outbox.finish(message)
            _log.error("notice not sent", code=code, channel=channel, kind=kind, given_up=True)
        else:
            wait_s = min(_LONGEST_S, _FIRST_S * 2.0 ** min(message.attempts - 1, 10))
            self._outbox.retry_in(message, wait_s)
            _log.warning("notice not sent", code=code, channel=channel, kind=kind, given_up=False)
