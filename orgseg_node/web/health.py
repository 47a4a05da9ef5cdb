"""Whether the node lives, and whether it can do its work: for a supervisor and for a load balancer."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from orgseg_node.errors import OrgsegError
from orgseg_node.node.parts import Parts
from orgseg_node.node.store.clock import stamp, utc_now


def liveness_problems(parts: Parts) -> list[str]:
    """What stands still though the process runs; a supervisor should then start the node anew."""
    return [f"tick {name} overdue" for name in parts.watchdog.overdue()]


def readiness_problems(parts: Parts) -> list[str]:
    """What keeps the node from taking images and working on them, in words that tell nothing else."""
    checks: tuple[tuple[str, Callable[[Parts], bool]], ...] = (
        ("database not writable", _database),
        ("disk below watermark", _disk),
        ("receiver not listening", lambda p: p.receiver is None or p.receiver.listening),
        ("engine not alive", _engine),
    )
    return [said for said, check in checks if not _works(check, parts)] + liveness_problems(parts)


def _works(check: Callable[[Parts], bool], parts: Parts) -> bool:
    try:
        return check(parts)
    except Exception:  # noqa: BLE001  # whatever it is, it is not well, and the answer tells no details
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
        parts.engine.state("is-anybody-there")
    return True
