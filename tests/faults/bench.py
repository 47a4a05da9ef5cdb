"""What the faults are tried on: a listening inbox in this process, or the real node in one of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE
from pynetdicom.association import Association

from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.store import Store
from tests.chaos.sender import hash_of
from tests.chaos.supervisor import SupervisedProcess, Supervisor, until
from tests.chaos.world import listening as has_come_up
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.peers.dcmtk import free_port


class NotRun(Exception):
    """This fault cannot be made on this machine; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One row of the table.

    Attributes
    ----------
    name, expected : said before anything is run
    trial : makes the fault in an empty folder and says what was seen; AssertionError if that was not expected
    slow : takes longer than a coffee
    """

    name: str
    expected: str
    trial: Callable[[Path], str]
    slow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A receiver with inbox and store, in this process."""

    port: int
    tls_port: int | None
    config: NodeConfig
    store: Store
    inbox: Inbox

    def push(self, path: Path) -> int:
        """Send one image; the DIMSE status, or -1 where there was no answer."""
        return push(self.port, path)

    def kept(self, paths: list[Path]) -> bool:
        """Whether images lie in the inbox as they were sent, with a row each, and nothing unfinished does."""
        folder = self.config.node.data_dir
        copies = [self.store.copies(uid_of(path)) for path in paths]
        whole = all(
            len(some) == 1 and hash_of(folder / some[0].path) == hash_of(path)
            for path, some in zip(paths, copies, strict=True)
        )
        return whole and not list(folder.rglob("*.part"))


@contextlib.contextmanager
def listening(data: Path, *, clock: Clock = utc_now, **sections: Any) -> Iterator[Listening]:
    """A receiver that takes what anybody sends, on a free port."""
    values: dict[str, Any] = {
        "node": {"host": "127.0.0.1", "port": 0, "data_dir": data},
        "receiver": {"min_free_mb": 0, "quiet_seconds": 0.2, "accept_any_calling_ae": True},
        "completeness": {"broken_wait_s": 0.5},
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    config = NodeConfig.model_validate(values)
    store = Store(data, clock=clock)
    inbox = Inbox(config, store, clock=clock)
    receiver = Receiver(config, inbox)
    port = receiver.start()
    try:
        yield Listening(port=port, tls_port=receiver.tls_port, config=config, store=store, inbox=inbox)
    finally:
        receiver.stop()
        store.close()


@contextlib.contextmanager
def node_process(
    folder: Path, receiver: str = "", *, archive_port: int = 9
) -> Iterator[tuple[int, SupervisedProcess]]:
    """The real node in a process of its own; its port and the process."""
    port = free_port()
    config = folder / "node.toml"
    config.write_text(
        f'[node]\nhost = "127.0.0.1"\nport = {port}\ndata_dir = "data"\nlog_format = "json"\n'
        f"[receiver]\nmin_free_mb = 1\nquiet_seconds = 1.0\naccept_any_calling_ae = true\n{receiver}\n"
        "[completeness]\nbroken_wait_s = 1.0\n"
        f'[destinations.tps]\nae_title = "TPS"\nhost = "127.0.0.1"\nport = {archive_port}\n',
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "tests.support.node.node_program", str(config), "0"]
    with Supervisor() as supervisor:
        node = supervisor.start(SupervisedProcess(name="node", command=command, log=folder / "node.log"))
        until(lambda: has_come_up(node), 60, "the node listens")
        yield port, node
        assert not node.own_deaths, "the node died of it"


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own of so many megabytes, in main memory. Raises NotRun where that is not allowed."""
    folder.mkdir()
    mount(f"-osize={megabytes}m", "-t", "tmpfs", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def mount(*words: str) -> None:
    """Mount something. Raises NotRun where that is not allowed."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotRun(f"mounting is not allowed here ({done.stderr.strip()[:60]})")


def associate(port: int) -> Association:
    """An association for CT images with whoever listens at a port."""
    ae = AE(ae_title="FAULTS")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    ae.add_requested_context("1.2.840.10008.1.1")
    ae.add_requested_context(pydicom.uid.CTImageStorage, pydicom.uid.ExplicitVRLittleEndian)
    return ae.associate("127.0.0.1", port, ae_title="ORGSEG")


def push(port: int, path: Path) -> int:
    """Send one image; the DIMSE status, or -1 where there was no answer."""
    association = associate(port)
    if not association.is_established:
        return -1
    try:
        return int(association.send_c_store(pydicom.dcmread(path)).get("Status", -1))
    finally:
        if association.is_established:
            association.release()


def echo(port: int) -> bool:
    """Whether the node answers an echo."""
    association = associate(port)
    if not association.is_established:
        return False
    answer = association.send_c_echo()
    association.release()
    return answer.get("Status") == 0


def images(folder: Path, count: int = 24) -> list[Path]:
    """So many slices of one small CT series."""
    return build_ct_series(folder / "ct", PhantomOptions(slices=count, slice_spacing_mm=72.0 / count))


def uid_of(path: Path) -> str:
    """SOP Instance UID of a file."""
    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
