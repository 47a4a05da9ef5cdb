"""Backup and restore of a node, while it runs.

A backup contains the database as it is at one moment (SQLite's online backup), every received file that the
database names, the folders of jobs that are not being processed, and the configuration. It does not contain
the workflows of the engine, which are submitted again from the database when the node starts, nor private
keys and passwords.

Received files never change. On the same file system they are hard links, which take no space but are lost
with the disk. Nothing that was accepted after the moment of the backup is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from orgseg_node import __version__
from orgseg_node.durable import atomic_folder
from orgseg_node.errors import BackupInvalid, BackupRefused, DiskFull, NotDurable
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.feedback.rows import FeedbackRows
from orgseg_node.node.routing.revision import content_of
from orgseg_node.node.store.canonical import short_hash
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.data_folder import FEEDBACK, JOBS
from orgseg_node.node.store.model import NEEDS_WORKER, JobState
from orgseg_node.node.store.store import DATABASE, Store

MANIFEST: Final = "manifest.json"
_DATA: Final = Path("data")
_CONFIG: Final = Path("config")
_SNAPSHOTS: Final = 5
_BUSY: Final = NEEDS_WORKER - {JobState.RETRY_WAIT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """The content of a backup.

    Attributes
    ----------
    created_at : when the database was copied
    version : of the program
    revision : of the configuration
    files : size in bytes and SHA-256 of each file, by its path in the backup
    """

    created_at: datetime
    version: str
    revision: str
    files: Mapping[str, tuple[int, str]]

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(size for size, _ in self.files.values())


def create_backup(
    config: NodeConfig, config_file: Path, target: Path, *, copy: bool = False, clock: Clock = utc_now
) -> Backup:
    """Make a backup of a node, which may be running.

    Parameters
    ----------
    config, config_file : the node's configuration, and its file
    target : a folder that does not exist; it appears when the backup is complete
    copy : whether received files are copied even if a hard link is possible
    clock : returns the time

    Raises
    ------
    BackupRefused
        If the folder exists, or the database is not a file in the data folder.
    """
    if target.exists():
        raise BackupRefused(f"{target} exists already.")
    data = config.node.data_dir
    if not (data / DATABASE).is_file():
        raise BackupRefused(
            f"There is no SQLite database in {data}; back up a database server with its tools (pg_dump)."
        )
    try:
        with atomic_folder(target, 0o700) as part:
            created = _fill(part, data, copy=copy, clock=clock)
            _copy_config(part / _CONFIG, config, config_file)
            revision = short_hash(content_of(config))
            backup = Backup(created_at=created, version=__version__, revision=revision, files=_hashes(part))
            text = json.dumps(_manifest(backup), indent=1)
            (part / MANIFEST).write_text(text + "\n", encoding="utf-8")
    except (DiskFull, NotDurable) as error:
        raise BackupRefused(error.detail) from error
    return backup


def _fill(part: Path, data: Path, *, copy: bool, clock: Clock) -> datetime:
    """Copy the database and the files that it names; again if retention deleted one meanwhile."""
    for _ in range(_SNAPSHOTS):
        shutil.rmtree(part / _DATA, ignore_errors=True)
        created = clock()
        _snapshot(data / DATABASE, part / _DATA / DATABASE)
        try:
            for name, link in _files_named_in(part / _DATA):
                _copy(data / name, part / _DATA / name, link=link and not copy)
        except FileNotFoundError:
            continue
        return created
    raise BackupRefused("Files that the database names are missing in the data folder.")


def _snapshot(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, mode=0o700)
    try:
        live = sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)
        with closing(live), closing(sqlite3.connect(target)) as copy:
            live.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise BackupRefused(f"The database cannot be read: {error}.") from error


def _files_named_in(data: Path) -> Iterator[tuple[Path, bool]]:
    """Files and folders that the database of a backup names, each with whether a hard link is enough."""
    store = Store(data, read_only=True)
    try:
        for series in store.series():
            for instance in store.instances_of(series.series_uid):
                yield Path(instance.path), True
        for job in store.jobs():
            if job.state not in _BUSY and job.purged_at is None:
                yield Path(JOBS) / job.job_id, False
        for feedback in FeedbackRows(store.database).all():
            if feedback.path.startswith(FEEDBACK):  # before, it is an instance
                yield Path(feedback.path), True
    finally:
        store.close()


def _copy(source: Path, target: Path, *, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not link:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("lock", "*.part", "tmp*"))
        return
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _copy_config(folder: Path, config: NodeConfig, config_file: Path) -> None:
    folder.mkdir(mode=0o700)
    shutil.copyfile(config_file, folder / config_file.name)
    protocol = Path(config.contours.protocol)
    if protocol.suffix == ".toml" and protocol.is_file():
        shutil.copyfile(protocol, folder / protocol.name)


def read_backup(folder: Path) -> Backup:
    """The content of a backup by its manifest. Raises BackupInvalid if that cannot be read."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Backup(
            created_at=datetime.fromisoformat(content["created_at"]),
            version=content["version"],
            revision=content["revision"],
            files={name: (entry["size"], entry["sha256"]) for name, entry in content["files"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupInvalid(f"{folder} has no manifest that can be read.") from error


def verify_backup(folder: Path) -> Backup:
    """Compare every file of a backup with its manifest, and check the integrity of the database.

    Raises
    ------
    BackupInvalid
        Naming a file that is missing, changed, or not in the manifest.
    """
    backup = read_backup(folder)
    found = _hashes(folder)
    for name in sorted(backup.files.keys() | found.keys()):
        if name not in found:
            raise BackupInvalid(f"{name} is missing.")
        if name not in backup.files:
            raise BackupInvalid(f"{name} is not in the manifest.")
        if backup.files[name] != found[name]:
            raise BackupInvalid(f"{name} was changed.")
    database = folder / _DATA / DATABASE
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as file:
            result = file.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.Error as error:
        raise BackupInvalid(f"The database cannot be read: {error}.") from error
    if result != "ok":
        raise BackupInvalid("The database is damaged.")
    return backup


def restore_backup(folder: Path, data_dir: Path) -> Backup:
    """Verify a backup and make a data folder from it, with which a node can be started.

    Parameters
    ----------
    folder : the backup
    data_dir : a folder that does not exist, or is empty

    Raises
    ------
    BackupInvalid
        If a file of the backup is missing or was changed.
    BackupRefused
        If the folder is not empty, or cannot be written.
    """
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise BackupRefused(f"{data_dir} is not empty.")
    backup = verify_backup(folder)
    expected = {str(Path(n).relative_to(_DATA)): v for n, v in backup.files.items() if _is_data(n)}
    try:
        with atomic_folder(data_dir, 0o700) as part:
            shutil.copytree(folder / _DATA, part, dirs_exist_ok=True)
            part.chmod(0o700)
            if _hashes(part) != expected:
                raise BackupInvalid("It changed while it was restored.")
    except (DiskFull, NotDurable) as error:
        raise BackupRefused(error.detail) from error
    return backup


def _is_data(name: str) -> bool:
    return Path(name).parts[0] == str(_DATA)


def _hashes(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of every file in a folder and its subfolders, except the manifest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            raise BackupInvalid(f"{name} is a link.")
        if path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                found[name] = (path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    return found


def _manifest(backup: Backup) -> dict[str, Any]:
    files = {name: {"size": size, "sha256": sha256} for name, (size, sha256) in backup.files.items()}
    created = backup.created_at.isoformat(timespec="seconds")
    return {"created_at": created, "version": backup.version, "revision": backup.revision, "files": files}
