"""Conflicts: images that share a UID and differ. Of these one counts and the others are set aside.

No file is deleted: the images that do not count are moved to quarantine. A file is moved before its row is
deleted, so after a crash between the two the conflict still exists, and the same command finishes it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from orgseg_node import durable
from orgseg_node.errors import DiskFull, SeriesRefuses, StorageError
from orgseg_node.node.intake.file_reader import FileReader
from orgseg_node.node.store.data_folder import INBOX, QUARANTINE
from orgseg_node.node.store.model import Instance, SeriesState
from orgseg_node.node.store.series_states import open_revision, resolve_conflict
from orgseg_node.node.store.store import Store

COMPARED: Final = ".compared"
"""Beginning of the names of images in the inbox that are only compared; deleted at the start."""


class Keep(StrEnum):
    """Which of the images that contradict each other counts, by the time of arrival."""

    FIRST = "first"
    LAST = "last"


def compare_content(
    data: Path, copies: Sequence[Instance], content: Iterable[bytes], reader: FileReader
) -> tuple[Instance | None, str]:
    """As `compare_with_copies`, for an image that is not stored yet.

    Parameters
    ----------
    data : the node's data folder
    copies : images with the same SOP Instance UID
    content : a DICOM part 10 file, in pieces
    reader : reads the files

    Raises
    ------
    DiskFull
        If the temporary file for the comparison cannot be written.
    """
    if not copies:
        return None, ""
    try:
        with tempfile.NamedTemporaryFile(dir=data / INBOX, prefix=COMPARED, suffix=durable.PART) as file:
            file.writelines(content)
            file.flush()
            return compare_with_copies(data, copies, Path(file.name), reader)
    except OSError as error:
        raise DiskFull(f"{error.strerror}.") from error


def compare_with_copies(
    data: Path, copies: Sequence[Instance], path: Path, reader: FileReader
) -> tuple[Instance | None, str]:
    """Compare an image with those that are here under its UID, by meaning and not by encoding.

    Parameters
    ----------
    data : the node's data folder
    copies : images with the same SOP Instance UID
    path : the file of the image
    reader : reads the files

    Returns
    -------
    The copy that is the same image, or None; and in what the image differs from the others, in words
    """
    found = []
    for copy in copies:
        if (data / copy.path).is_file():
            kinds = reader.differences(data / copy.path, path)
            if not kinds:
                return copy, ""
            found += [kind.value for kind in kinds]
    return None, " and ".join(dict.fromkeys(found))


def resolve(store: Store, data: Path, series_uid: str, keep: Keep, note: str) -> int:
    """Resolve every contradiction in a series, which is then judged again as a new revision.

    Parameters
    ----------
    store : the node's database
    data : the node's data folder
    series_uid : Series Instance UID
    keep : which image counts
    note : who decided it, and why

    Returns
    -------
    How many files were set aside

    Raises
    ------
    SeriesRefuses
        If the series is not in CONFLICT.
    StorageError
        If a file cannot be moved.
    """
    state = store.one_series(series_uid).state
    if state is not SeriesState.CONFLICT:
        raise SeriesRefuses(f"It is {state}, not in CONFLICT.")
    aside = [
        loser
        for sop_uid in sorted({instance.sop_uid for instance in store.instances_of(series_uid)})
        for loser in _losers(store.copies(sop_uid), keep)
    ]
    for instance in aside:
        _set_aside(data, instance)
    _forget(store, series_uid, aside, f"kept the {keep} of {len(aside)}; {note}")
    return len(aside)


def _losers(copies: list[Instance], keep: Keep) -> list[Instance]:
    in_order = sorted(copies, key=lambda one: (one.received_at, one.sha256))
    return in_order[1:] if keep is Keep.FIRST else in_order[:-1]


def _set_aside(data: Path, instance: Instance) -> None:
    source = data / instance.path
    place = data / QUARANTINE
    durable.make_folder(place)
    try:
        if source.exists():
            name = f"{instance.series_uid}_{instance.sop_uid}~{instance.sha256[:16]}.dcm"
            durable.move_durably(source, place / name)
    except StorageError as error:
        raise StorageError(f"A file cannot be set aside: {error.detail}") from error


def _forget(store: Store, series_uid: str, aside: Sequence[Instance], note: str) -> None:
    """Delete the rows of the files set aside; start a new revision of every series without contradictions."""
    losing = {one.series_uid for one in aside}
    concerned = {series_uid}
    with store.database.write() as tx:
        for one in aside:
            tx.run("DELETE FROM instance WHERE sop_uid = ? AND sha256 = ?", (one.sop_uid, one.sha256))
            concerned.add(one.series_uid)
            rows = tx.rows("SELECT series_uid FROM instance WHERE sop_uid = ?", (one.sop_uid,))
            concerned |= {str(uid) for (uid,) in rows}
        for uid in sorted(concerned):
            tx.append_event("series", uid, "settle", note)
            if uid in losing:  # a series that was not in CONFLICT has lost images to another one
                open_revision(tx, uid, f"settled: {note}")
                store.supersede_within(tx, uid)
            contradicting = tx.rows(
                "SELECT i.sop_uid FROM instance i WHERE i.series_uid = ? AND"
                " (SELECT count(*) FROM instance o WHERE o.sop_uid = i.sop_uid) > 1",
                (uid,),
            )
            if contradicting:
                continue
            resolve_conflict(tx, uid, f"settled: {note}")
