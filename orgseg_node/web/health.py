"""Liveness and readiness of the node, for a supervisor and a load balancer."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from orgseg_node.errors import OrgsegError
from orgseg_node.node.parts import Parts
from orgseg_node.node.scheduler import FailingTick
from orgseg_node.node.store.clock import stamp, utc_now


def liveness_problems(parts: Parts) -> list[str]:
    """List periodic tasks that are overdue; a supervisor should then restart the node."""
    return [f"tick {name} overdue" for name in parts.watchdog.overdue()]


def readiness_problems(parts: Parts) -> list[str]:
    """List what keeps the node from receiving and contouring, without any details.

    A periodic task that fails again and again is such a problem, unless only single items of it fail.
    """
    checks: tuple[tuple[str, Callable[[Parts], bool]], ...] = (
        ("database not writable", _database),
        ("disk below watermark", _disk),
        ("receiver not listening", lambda p: p.receiver is None or p.receiver.listening),
        ("engine not alive", _engine),
    )
    failing = [_failing(one) for one in parts.watchdog.failing() if not one.is_partial]
    wrong = [problem for problem, check in checks if not _works(check, parts)]
    return wrong + failing + liveness_problems(parts)


def readiness_warnings(parts: Parts) -> list[str]:
    """List periodic tasks of which single items fail again and again, while the node does all else."""
    return [_failing(one) for one in parts.watchdog.failing() if one.is_partial]


def _failing(tick: FailingTick) -> str:
    detail = f" ({tick.detail})" if tick.is_partial else ""
    return f"tick {tick.name} fails: {tick.code}, {tick.times} times{detail}"


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
