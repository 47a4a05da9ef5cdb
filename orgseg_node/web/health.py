"""Liveness and readiness of the node, for a supervisor and a load balancer."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from orgseg_node.errors import OrgsegError
from orgseg_node.node.parts import Parts
from orgseg_node.node.store.clock import stamp, utc_now


def liveness_problems(parts: Parts) -> list[str]:
    """List periodic tasks that are overdue; a supervisor should then restart the node."""
    return [f"tick {name} overdue" for name in parts.watchdog.overdue()]


def readiness_problems(parts: Parts) -> list[str]:
    """List what keeps the node from receiving and contouring, without any details."""
    checks: tuple[tuple[str, Callable[[Parts], bool]], ...] = (
        ("database not writable", _database),
        ("disk below watermark", _disk),
        ("receiver not listening", lambda p: p.receiver is None or p.receiver.listening),
        ("engine not alive", _engine),
    )
    return [problem for problem, check in checks if not _works(check, parts)] + liveness_problems(parts)


def _works(check: Callable[[Parts], bool], parts: Parts) -> bool:
    try:
        return check(parts)
    except Exception:  # noqa: BLE001  # any error is a problem, and the response must not give details
        return False


def _database(parts: Parts) -> bool:
    try:
        with parts.store.database.write() as tx:
            tx.run(
                "INSERT INTO probe (name, at) VALUES ('ready', ?)"
                " ON CONFLICT (name) DO UPDATE SET at = excluded.at",
                (stamp(utc_now()),),
            )
    except OrgsegError:
        return False
    return True


def _disk(parts: Parts) -> bool:
    config = parts.config.config
    return shutil.disk_usage(config.node.data_dir).free >= config.receiver.min_free_mb * 1_000_000


def _engine(parts: Parts) -> bool:
    if parts.engine is not None:
        parts.engine.state("readiness-probe")
    return True
