"""Faults of callers: too slow, too many, too long, and junk."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
import time
from pathlib import Path

import pydicom
from pynetdicom.association import Association

from orgseg_node.node.store.model import JobState
from orgseg_node.node.store.store import Store
from tests.chaos.supervisor import until
from tests.faults.bench import Fault, associate, echo, images, listening, node_process, push, uid_of
from tests.support.peers.dcmtk import free_port, storescp, storescu

_IDLE_S = 3.0
_JUNK_BYTES = 4_000_000_000
_LARGEST_MB = 64
_ASSOCIATIONS = 20  # the node's default


def slow_loris(scratch: Path) -> str:
    """Fifteen callers send an association request byte by byte; others want to be served meanwhile."""
    (image,) = images(scratch, 1)
    with node_process(scratch, f"idle_timeout_s = {_IDLE_S}") as (port, _):
        lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(15)]
        begun, closed, slowest = time.monotonic(), {}, 0.0
        for line in lines:
            line.settimeout(0)
            line.sendall(struct.pack(">BBL", 1, 0, 300))
        served = 0
        while len(closed) < len(lines):
            assert time.monotonic() - begun < 60, f"{len(lines) - len(closed)} are still open"
            for number, line in enumerate(lines):
                if number not in closed and _is_closed(line):
                    closed[number] = time.monotonic() - begun
            asked = time.monotonic()
            assert echo(port)
            assert push(port, image) == 0
            served, slowest = served + 1, max(slowest, time.monotonic() - asked)
            time.sleep(0.2)
        for line in lines:
            line.close()
        assert slowest < 5
        last = max(closed.values())
        assert last < 4 * _IDLE_S
    return (
        f"all 15 cut off within {last:.1f} s (limit {_IDLE_S:g} s); {served} others served,"
        f" the slowest in {slowest:.1f} s"
    )


def _is_closed(line: socket.socket) -> bool:
    """Send one more byte; whether the other side has had enough."""
    try:
        line.send(b"\0")
        return line.recv(100) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def fifty(scratch: Path) -> str:
    """Fifty senders at once, each with two images, where twenty are admitted."""
    paths = images(scratch, 100)
    turned_away, lock = [0], threading.Lock()
    failed: list[Path] = []

    def send(share: list[Path]) -> None:
        for path in share:
            end = time.monotonic() + 120
            while push(node.port, path) != 0:
                with lock:
                    turned_away[0] += 1
                if time.monotonic() > end:
                    failed.append(path)
                    return
                time.sleep(0.05 + random.random() / 2)

    with listening(scratch / "data") as node:
        threads = [threading.Thread(target=send, args=(paths[n::50],)) for n in range(50)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - begun
        assert not failed
        assert node.kept(paths)
    return f"all 100 images kept in {took:.0f} s; {turned_away[0]} times rejected until later"


def thousand(scratch: Path) -> str:
    """One series of a thousand slices, by DCMTK, to the delivered structure set."""
    paths, port = images(scratch, 1000), free_port()
    with (
        storescp(scratch / "tps", port, "-aet", "TPS") as tps,
        node_process(scratch, archive_port=port) as (own, _),
    ):
        begun = time.monotonic()
        for first in range(0, 1000, 250):
            assert storescu(own, paths[first : first + 250], "-aec", "ORGSEG").returncode == 0
        sent = time.monotonic() - begun
        store = Store(scratch / "data", read_only=True)
        until(lambda: any(job.state is JobState.DONE for job in store.jobs()), 280, "the job is done")
        took = time.monotonic() - begun
        (job,) = store.jobs()
        store.close()
        kinds = sorted(pydicom.dcmread(path, specific_tags=["Modality"]).Modality for path in tps.iterdir())
        assert (job.slices, kinds) == (1000, ["RTSTRUCT", "SEG"])
    return f"taken in {sent:.0f} s, structure set and segmentation there after {took:.0f} s"


def junk(scratch: Path) -> str:
    """Four gigabytes: random bytes, PDUs of 4 GiB, endless datasets, datasets that are none."""
    (image,) = images(scratch, 1)
    with node_process(scratch, f"max_instance_mb = {_LARGEST_MB}\nidle_timeout_s = 10.0") as (port, node):
        assert push(port, image) == 0
        before = _peak_mb(node.pid)
        block, sent, rounds = os.urandom(1 << 20), 0, 0
        kinds = (_random_bytes, _huge_pdu, _endless, _endless, _endless, _no_dicom)
        begun = time.monotonic()
        while sent < _JUNK_BYTES:
            sent += kinds[rounds % len(kinds)](port, block)
            rounds += 1
            assert time.monotonic() - begun < 1500
        assert echo(port)
        assert push(port, image) == 0
        after = _peak_mb(node.pid)
    store = Store(scratch / "data", read_only=True)
    known = len(store.copies(uid_of(image)))
    inbox = [path for path in (scratch / "data" / "inbox").rglob("*") if path.is_file()]
    store.close()
    assert (known, len(inbox)) == (1, 1), "nothing of the junk was kept"
    assert after < before + _ASSOCIATIONS * _LARGEST_MB, f"{before} MB before, {after} MB at the most"
    return (
        f"{sent / 1e9:.1f} GB in {rounds} connections; nothing kept; peak memory {before} MB before,"
        f" {after} MB at the most (largest image allowed: {_LARGEST_MB} MB); still answering"
    )


def _random_bytes(port: int, block: bytes) -> int:
    """Bytes without any sense, until the node has had enough."""
    return _pour(port, b"", block)


def _huge_pdu(port: int, block: bytes) -> int:
    """An association request that announces 4 GiB."""
    return _pour(port, struct.pack(">BBL", 1, 0, 0xFFFFFFF0), block)


def _pour(port: int, head: bytes, block: bytes) -> int:
    sent = 0
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(head)
        for _ in range(100):
            sent += line.send(block)
    return sent


def _endless(port: int, block: bytes) -> int:
    """An image whose dataset has no end."""
    association = _admitted(port)
    context = next(c for c in association.accepted_contexts if "5.1.4" in str(c.abstract_syntax))
    sent, piece = 0, block[: 1 << 17]
    line = _line(association)
    command = _store_command(context.context_id or 0)
    with contextlib.suppress(OSError):
        line.sendall(command)
        head = struct.pack(">BBLLBB", 4, 0, len(piece) + 6, len(piece) + 2, context.context_id, 0)
        while True:
            line.sendall(head + piece)
            sent += len(piece)
    with contextlib.suppress(OSError, RuntimeError):
        association.abort()
    return sent


def _admitted(port: int) -> Association:
    """An association; those that were just cut off may still hold the places for a moment."""
    end = time.monotonic() + 60
    while not (association := associate(port)).is_established:
        assert time.monotonic() < end, "nobody is let in any more"
        time.sleep(0.5)
    return association


def _line(association: Association) -> socket.socket:
    """The bare socket below an association."""
    assert association.dul.socket is not None
    assert association.dul.socket.socket is not None
    return association.dul.socket.socket


def _store_command(context_id: int) -> bytes:
    """A C-STORE request in one P-DATA-TF PDU (PS3.8 9.3.5), announcing a dataset."""

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0, number, len(value)) + value

    uid = pydicom.uid.CTImageStorage.encode() + b"\0"
    body = (
        element(0x0002, uid)
        + element(0x0100, struct.pack("<H", 1))
        + element(0x0110, struct.pack("<H", 7))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x1000, b"1.2.3.4\0")
    )
    body = element(0x0000, struct.pack("<L", len(body))) + body
    return struct.pack(">BBLLBB", 4, 0, len(body) + 6, len(body) + 2, context_id, 3) + body


def _no_dicom(port: int, block: bytes) -> int:
    """A whole C-STORE whose dataset is no DICOM; it must be refused, not kept."""
    association = _admitted(port)
    context = next(c for c in association.accepted_contexts if "5.1.4" in str(c.abstract_syntax))
    line, sent = _line(association), 0
    association._reactor_checkpoint.clear()  # as pynetdicom does while it waits for an answer itself
    piece = block[: 1 << 17]
    line.sendall(_store_command(context.context_id or 0))
    for number in range(200):
        control = 2 if number == 199 else 0
        line.sendall(
            struct.pack(">BBLLBB", 4, 0, len(piece) + 6, len(piece) + 2, context.context_id, control) + piece
        )
        sent += len(piece)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    assert answer is not None, "no answer to a dataset that is no DICOM"
    assert int(answer.Status) == 0xC000, answer
    association.release()
    return sent


def _peak_mb(pid: int | None) -> int:
    """VmHWM of a process: the most memory it ever had, in megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1000


FAULTS = (
    Fault(name="slow-loris callers", trial=slow_loris,
          expected="cut off after the idle time-out, however they trickle; others are served meanwhile"),
    Fault(name="50 associations at once", trial=fifty,
          expected="20 at a time, the rest rejected until later; every image kept in the end"),
    Fault(name="1,000 slices in one series", trial=thousand, slow=True,
          expected="one series, one job, one structure set and one segmentation"),
    Fault(name="4 GB of junk at the DICOM port", trial=junk, slow=True,
          expected="nothing kept; no more memory than associations times largest image; answers after it"),
)  # fmt: skip
