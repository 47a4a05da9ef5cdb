"""The messages in which notices are sent: stored before they are sent, so that none is lost or doubled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orgseg_node.node.monitoring.alerts import Notice
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Several notices that are sent together.

    Attributes
    ----------
    message_id : the same at each attempt, so that a receiver can recognise a message that comes twice
    created_at : when it was made
    attempts : how often it was tried, this attempt included
    notices : what it holds
    """

    message_id: str
    created_at: datetime
    attempts: int
    notices: tuple[Notice, ...]


class Outbox:
    """The messages in which notices are sent.

    Parameters
    ----------
    database : of the node
    clock : gives the present time
    """

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._db = database
        self._clock = clock

    def gather(self, channel: str, min_interval_s: float) -> None:
        """Put what was not yet sent on a channel into one message, unless one waits or was made just now."""
        now = self._clock()
        since = stamp(now - timedelta(seconds=min_interval_s))
        with self._db.write() as tx:
            busy = tx.rows(
                "SELECT 1 FROM notice_message WHERE channel = ?"
                " AND (created_at > ? OR sent_at IS NULL) LIMIT 1",
                (channel, since),
            )
            keys = tx.rows(
                "SELECT notice_key FROM notice n WHERE NOT EXISTS (SELECT 1 FROM notice_in_message m"
                " WHERE m.notice_key = n.notice_key AND m.channel = ?)"
                " ORDER BY raised_at, notice_key LIMIT 1000",
                (channel,),
            )
            if busy or not keys:
                return
            message = message_id(channel, [str(key) for (key,) in keys])
            tx.run(
                "INSERT INTO notice_message (message_id, channel, created_at, next_attempt_at)"
                " VALUES (?, ?, ?, ?)",
                (message, channel, stamp(now), stamp(now)),
            )
            for (key,) in keys:
                tx.run(
                    "INSERT INTO notice_in_message (notice_key, channel, message_id) VALUES (?, ?, ?)",
                    (key, channel, message),
                )

    def claim(self, channel: str, busy_s: float) -> Message | None:
        """The message that is due on a channel, if any; for so many seconds no other process gets it."""
        now = self._clock()
        with self._db.write() as tx:
            rows = tx.rows(
                "SELECT message_id, created_at, attempts FROM notice_message WHERE channel = ?"
                " AND sent_at IS NULL AND next_attempt_at <= ? ORDER BY created_at LIMIT 1",
                (channel, stamp(now)),
            )
            if not rows:
                return None
            number, created, attempts = rows[0]
            tx.run(
                "UPDATE notice_message SET attempts = attempts + 1, next_attempt_at = ? WHERE message_id = ?",
                (stamp(now + timedelta(seconds=busy_s)), number),
            )
        notices = self._db.read(
            Notice,
            "SELECT n.* FROM notice n JOIN notice_in_message m ON m.notice_key = n.notice_key"
            " AND m.message_id = ? ORDER BY n.raised_at, n.notice_key",
            (number,),
        )
        return Message(
            message_id=str(number),
            created_at=datetime.fromisoformat(created),
            attempts=int(attempts) + 1,
            notices=tuple(notices),
        )

    def finish(self, message: Message) -> None:
        """Record that a message was sent, or that it is given up."""
        with self._db.write() as tx:
            tx.run(
                "UPDATE notice_message SET sent_at = ? WHERE message_id = ?",
                (stamp(self._clock()), message.message_id),
            )

    def retry_in(self, message: Message, seconds: float) -> None:
        """Record that a message was not sent and is tried again after a pause."""
        with self._db.write() as tx:
            tx.run(
                "UPDATE notice_message SET next_attempt_at = ? WHERE message_id = ?",
                (stamp(self._clock() + timedelta(seconds=seconds)), message.message_id),
            )


def message_id(channel: str, keys: Sequence[str]) -> str:
    """The number of a message: the same for the same notices on the same channel."""
    return hashlib.sha256("|".join((channel, *keys)).encode()).hexdigest()[:32]
