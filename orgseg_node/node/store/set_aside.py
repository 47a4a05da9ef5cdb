"""Series that were set aside because they are no CT, and the deletion of their images by retention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from orgseg_node.node.store.clock import stamp
from orgseg_node.node.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAsideSeries:
    """A series that is set aside, and its revision when it was read."""

    series_uid: str
    revision: int


def set_aside_before(database: Database, reason: str, before: datetime) -> list[SetAsideSeries]:
    """The series that were set aside for a reason and still have images.

    Parameters
    ----------
    database : of the node
    reason : why they were set aside
    before : their last image came before this time
    """
    return database.read(
        SetAsideSeries,
        "SELECT s.series_uid, s.revision FROM series s WHERE s.state = 'IGNORED' AND s.reason = ?"
        " AND s.last_received_at < ? AND EXISTS (SELECT 1 FROM instance i WHERE i.series_uid = s.series_uid)"
        " ORDER BY s.series_uid",
        (reason, stamp(before)),
    )


def delete_images(database: Database, series: SetAsideSeries, delete: Callable[[str], None]) -> int:
    """Delete the images of a series that is set aside; one that arrives meanwhile stays.

    Parameters
    ----------
    database : of the node
    series : as it was read
    delete : deletes the file with a path relative to the data folder

    Returns
    -------
    How many images were deleted; none if the series changed since it was read
    """
    with database.write() as tx:
        now = tx.rows(
            "SELECT 1 FROM series WHERE series_uid = ? AND state = 'IGNORED' AND revision = ?",
            (series.series_uid, series.revision),
        )
        if not now:
            return 0
        images = tx.rows(
            "SELECT path, sop_uid, sha256 FROM instance WHERE series_uid = ?", (series.series_uid,)
        )
        for path, sop_uid, sha256 in images:
            delete(str(path))
            tx.run("DELETE FROM instance WHERE sop_uid = ? AND sha256 = ?", (sop_uid, sha256))
        tx.append_event("series", series.series_uid, "purged", "Its files were deleted after retention.")
    return len(images)
