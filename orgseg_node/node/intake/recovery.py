"""Recovery at the start: files in the inbox without a row are adopted, or set aside if incomplete."""

from __future__ import annotations

from pathlib import Path

import structlog

from orgseg_node import durable
from orgseg_node.dicom.reading import part10
from orgseg_node.errors import DatabaseUnreachable, NotDurable, OrgsegError
from orgseg_node.node.dimse.received_dataset import RECEIVED
from orgseg_node.node.intake.conflicts import COMPARED, compare_with_copies
from orgseg_node.node.intake.file_reader import FileReader
from orgseg_node.node.store.clock import Clock
from orgseg_node.node.store.data_folder import INBOX, QUARANTINE
from orgseg_node.node.store.model import Instance
from orgseg_node.node.store.store import Store

_log = structlog.get_logger("orgseg.inbox")


def adopt_files(data: Path, store: Store, reader: FileReader, *, clock: Clock) -> tuple[int, int]:
    """Adopt files of the inbox that have no row in the database, and set incomplete files aside.

    Parameters
    ----------
    data : the node's data folder
    store : the node's database
    reader : reads the files
    clock : source of the time

    Returns
    -------
    How many files were adopted, and how many were moved to quarantine
    """
    _delete_temporary(data / INBOX)
    adopted = quarantined = 0
    for folder in sorted(p for p in (data / INBOX).iterdir() if p.is_dir()):
        known = {instance.path for instance in store.instances_of(folder.name)}
        for path in sorted(folder.iterdir()):
            if str(path.relative_to(data)) in known:
                continue
            try:
                if path.suffix == durable.PART or not path.is_file():
                    raise NotDurable("It is not complete.")  # noqa: TRY301
                instance = _instance(path, data, clock)
                copies = [copy for copy in store.copies(instance.sop_uid) if copy.path != instance.path]
                same, differs = compare_with_copies(data, copies, path, reader)
                if same is not None:  # in another encoding; its sender got no answer
                    path.unlink()
                    continue
                store.accept(instance, differs=differs)
                adopted += 1
            except DatabaseUnreachable:
                raise  # the files stay where they are
            except Exception:  # noqa: BLE001  # whatever is in the file, the node starts
                quarantined += _quarantine(path, data)
    if adopted or quarantined:
        _log.warning("inbox scanned", adopted=adopted, quarantined=quarantined)
    return adopted, quarantined


def _delete_temporary(inbox: Path) -> None:
    """Delete files that were only compared, and datasets that had not arrived completely."""
    for name in (COMPARED, RECEIVED):
        for path in inbox.glob(f"{name}*"):
            path.unlink(missing_ok=True)


def _instance(path: Path, data: Path, clock: Clock) -> Instance:
    encoded, syntax = part10.open_part10(path)
    header = part10.read_header(encoded, syntax)
    part10.require_match(header, header.sop_class_uid, path.stem.split("~")[0])
    if header.series_uid != path.parent.name:
        raise NotDurable("It is in the folder of another series.")
    return Instance(
        sop_uid=header.sop_uid,
        series_uid=header.series_uid,
        sha256=part10.content_hash(encoded, syntax),
        size=path.stat().st_size,
        path=str(path.relative_to(data)),
        transfer_syntax=syntax,
        calling_ae="(found at start)",
        received_at=clock(),
    )


def _quarantine(path: Path, data: Path) -> bool:
    """Move a file to quarantine; whether it was moved."""
    place = data / QUARANTINE
    try:
        durable.make_folder(place)
        durable.move_durably(path, place / f"{path.parent.name}_{path.name.lstrip('.')}")
    except (OrgsegError, OSError) as error:
        kind = type(error).__name__
        _log.error("file not set aside", series=path.parent.name, kind=kind)
        return False
    return True
