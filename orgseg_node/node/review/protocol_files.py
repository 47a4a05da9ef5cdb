"""The protocols of a node as files: which there are, who uses them, and how one is saved.

A protocol is read anew for each series that becomes a job, and a job keeps the protocol with which it was
made. So a saved one holds for the next jobs, and changes none that exists.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_node import durable
from orgseg_node.contouring.protocol import FOLDER, Protocol, protocol_names, protocol_of_text
from orgseg_node.contouring.protocol_text import differences
from orgseg_node.errors import (
    OrgsegError,
    ProtocolChanged,
    ProtocolInvalid,
    ProtocolReadOnly,
    StorageError,
)
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.routing.revision import protocols_of
from orgseg_node.node.store.data_folder import LOCKS, PROTOCOLS
from orgseg_node.node.store.store import Store
from orgseg_node.organ_table import organ_table
from orgseg_node.shipped import shipped_config

KIND: Final = "protocol"
_LONGEST_NOTE: Final = 2000
_SHIPPED: Final = "It comes with the program, and the next version replaces it."


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolFile:
    """A protocol of the node.

    Attributes
    ----------
    key : names it in addresses; no path
    name : as configuration and rules name it
    path : of its file
    used_by : ``contours`` for the node's own one, and the rules that name it
    is_shipped : whether it comes with the program
    """

    key: str
    name: str
    path: Path
    used_by: tuple[str, ...]
    is_shipped: bool

    @property
    def title(self) -> str:
        """What people call it."""
        return self.path.stem

    def read(self) -> tuple[str, str]:
        """Its text, and the SHA-256 of its bytes. Raises ProtocolInvalid if it cannot be read."""
        try:
            content = self.path.read_bytes()
            return content.decode("utf-8"), hashlib.sha256(content).hexdigest()
        except OSError as error:
            raise ProtocolInvalid(f"{self.path}: {error.strerror or error}.") from error
        except UnicodeDecodeError as error:
            raise ProtocolInvalid(f"{self.path} is not UTF-8.") from error

    def read_only(self) -> ProtocolReadOnly | None:
        """Why it cannot be changed here; None if it can."""
        if self.is_shipped:
            return ProtocolReadOnly(_SHIPPED)
        target = self.path.resolve()
        if not target.is_file():
            return ProtocolReadOnly(f"There is no file {target}.")
        if not os.access(target, os.W_OK):
            return ProtocolReadOnly(f"The node may not write the file {target}.")
        try:
            tempfile.TemporaryFile(dir=target.parent).close()  # a file is replaced, never written in place
        except OSError as error:
            why = error.strerror or "it cannot be written"
            return ProtocolReadOnly(f"The node may not write into the folder {target.parent}: {why}.")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewText:
    """Another text of a protocol.

    Attributes
    ----------
    text : of the whole file
    opened : SHA-256 of the file that was opened and changed; if it has another one now, nothing is saved
    note : who saves it, and why
    """

    text: str
    opened: str
    note: str


def protocol_files(config: NodeConfig) -> list[ProtocolFile]:
    """Every protocol that the configuration names, then those that come with the program."""
    names = dict.fromkeys((*protocols_of(config), *protocol_names()))
    return [_file_of(name, config) for name in names]


def _file_of(name: str, config: NodeConfig) -> ProtocolFile:
    is_shipped = not name.endswith(".toml")
    rules = tuple(rule.name for rule in config.rule if rule.protocol == name)
    return ProtocolFile(
        key=hashlib.sha256(name.encode()).hexdigest()[:16],
        name=name,
        path=shipped_config(FOLDER) / f"{name}.toml" if is_shipped else Path(name),
        used_by=(*(("contours",) if config.contours.protocol == name else ()), *rules),
        is_shipped=is_shipped,
    )


def protocol_file(config: NodeConfig, key: str) -> ProtocolFile:
    """The protocol with a key. Raises ProtocolInvalid if there is none."""
    for one in protocol_files(config):
        if one.key == key:
            return one
    raise ProtocolInvalid("There is no such protocol; the page of protocols lists them.")


def checked_text(text: str) -> Protocol:
    """The protocol that a text holds, by the same code that reads it for a job.

    Raises
    ------
    ProtocolInvalid
        With one line for each problem.
    """
    protocol = protocol_of_text(text, "The text")
    protocol.check_organs(organ_table())
    return protocol


def save_protocol(store: Store, data_dir: Path, file: ProtocolFile, new: NewText) -> tuple[str, ...]:
    """Save another text of a protocol, and write into the history who changed what.

    Parameters
    ----------
    store : the node's database
    data_dir : the node's data folder, where the texts before and after are kept
    file : the protocol
    new : its new text

    Returns
    -------
    What differs; empty if only comments do, or nothing

    Raises
    ------
    ProtocolInvalid
        If the text is no valid protocol.
    ProtocolReadOnly, ProtocolChanged
        If the file cannot be written, or was changed meanwhile.
    DiskFull, StorageError
        If it could not be written; the file is as it was.
    """
    protocol = checked_text(new.text)
    if (problem := file.read_only()) is not None:
        raise problem
    content = new.text.encode()
    sha256 = hashlib.sha256(content).hexdigest()
    with _locked(data_dir):
        before, was = file.read()
        if was != new.opened:
            raise ProtocolChanged
        changes = _changes(before, protocol)
        for digest, kept in ((was, before.encode()), (sha256, content)):
            _keep(data_dir, digest, kept)
        target = file.path.resolve()
        listed = "; ".join(changes) or ("only comments" if sha256 != was else "nothing")
        ends = f" sha256:{sha256[:12]} (was {was[:12]}); {new.note}"
        with store.database.write() as tx:
            tx.append_event(KIND, file.title, "saved", f"{listed[: _LONGEST_NOTE - len(ends)]};{ends}")
            durable.write_durably(target, content, mode=target.stat().st_mode & 0o777)
    return changes


def _changes(before: str, new: Protocol) -> tuple[str, ...]:
    try:
        old = protocol_of_text(before, "The text")
    except ProtocolInvalid:
        return ("it was no valid protocol before",)
    return differences(old, new)


def _keep(data_dir: Path, digest: str, content: bytes) -> None:
    folder = data_dir / PROTOCOLS
    durable.make_folder(folder)
    path = folder / f"{digest[:16]}.toml"
    if not path.exists():
        durable.write_durably(path, content)


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """The files of protocols, for one person at a time."""
    folder = data_dir / LOCKS
    try:
        durable.make_folder(folder)
        lock = (folder / "protocols").open("w")
    except (OSError, OrgsegError) as error:
        raise StorageError("The lock of the protocols cannot be opened.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
