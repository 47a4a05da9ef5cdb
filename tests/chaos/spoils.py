"""Promises broken on purpose after a run, so that the checker shows that it can fail."""

from __future__ import annotations

import contextlib
import io
import sqlite3
from collections.abc import Callable
from typing import Final

from pydicom import dcmread, dcmwrite

from orgseg_node.node.store.store import DATABASE
from tests.chaos.sender import read_acks
from tests.chaos.world import World
from tests.support.ct.phantom import uid

SECOND_UID: Final = uid("duplicate")


def lost_file(world: World) -> None:
    """An acknowledged instance is gone from the disk."""
    next(iter((world.data / "inbox").glob("*/*.dcm"))).unlink()


def changed_file(world: World) -> None:
    """An acknowledged instance has other bytes than were sent."""
    path = next(iter((world.data / "inbox").glob("*/*.dcm")))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def duplicate(world: World) -> None:
    """A structure set lies at the archive a second time under another UID."""
    dataset = dcmread(next(iter((world.data / "jobs").glob("*/out/RTSTRUCT.dcm"))))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = SECOND_UID
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset)
    world.orthanc.upload(buffer.getvalue())


def stuck_job(world: World) -> None:
    """A job says for ever that it is being contoured."""
    _sql(world, "UPDATE job SET state = 'INFERRING' WHERE job_id = (SELECT min(job_id) FROM job)")


def stuck_delivery(world: World) -> None:
    """A delivery says for ever that it is on its way."""
    _sql(world, "UPDATE delivery SET state = 'SENDING' WHERE rowid = (SELECT min(rowid) FROM delivery)")


def lost_row(world: World) -> None:
    """The database forgot an acknowledged instance."""
    file, _ = read_acks(world.ack_logs[0])[0]
    sop_uid = next(sent.sop_uids[file] for sent in world.series if file in sent.sop_uids)
    _sql(world, f"DELETE FROM instance WHERE sop_uid = '{sop_uid}'")  # noqa: S608 (a UID of this test's own)


def _sql(world: World, statement: str) -> None:
    """Change the database behind its rules."""
    with contextlib.closing(sqlite3.connect(world.data / DATABASE)) as connection, connection:
        connection.execute("DROP TRIGGER IF EXISTS job_guard")
        connection.execute("DROP TRIGGER IF EXISTS delivery_guard")
        assert connection.execute(statement).rowcount == 1


SPOILS: Final[dict[str, Callable[[World], None]]] = {
    "lost-file": lost_file,
    "changed-file": changed_file,
    "duplicate": duplicate,
    "stuck-job": stuck_job,
    "stuck-delivery": stuck_delivery,
    "lost-row": lost_row,
}
"""By name: what `python -m tests.chaos --spoil` can break."""
