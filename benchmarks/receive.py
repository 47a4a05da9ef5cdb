"""C-STORE per second: the node with durable accept, beside DCMTK's storescp, which syncs nothing.

    python benchmarks/receive.py [--slices 200] [--size 512] [--senders 1]

The same synthetic CT slices are pushed by DCMTK's storescu into both, in turn. The node answers 0x0000 only
after the file, its name and its row are on the disk; storescp answers after write(). DCMTK is run with
TCP_NODELAY=1 and the same PDU size: without it Nagle's algorithm holds storescp at about 20 images a second.
A third line gives the node's own path without network. Prints images and megabytes per second, and the ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from orgseg_node.node.config import NodeConfig
from orgseg_node.node.inbox import Inbox, Incoming
from orgseg_node.node.landing import split_part10
from orgseg_node.node.logs import configure_logs
from orgseg_node.node.receiver import Receiver
from orgseg_node.node.store import Store


def dcmtk(name: str) -> str:
    """The DCMTK program of this name; pynetdicom has programs of the same names."""
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"):
        if (Path(folder) / name).exists():
            return str(Path(folder) / name)
    raise SystemExit(f"DCMTK's {name} is not installed")


def make_slices(folder: Path, slices: int, size: int) -> list[Path]:
    """CT slices with headers no larger than needed and noise for pixels."""
    folder.mkdir()
    random = np.random.default_rng(0)
    series = generate_uid()
    paths = []
    for number in range(slices):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID = series, series
        ds.Modality, ds.PatientName, ds.PatientID = "CT", "Phantom", "1"
        ds.ImagePositionPatient = [0, 0, number]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows = ds.Columns = size
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation = 15, 0
        ds.PixelData = random.integers(0, 4096, (size, size), np.uint16).tobytes()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{number:04d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def push(port: int, paths: list[Path], senders: int) -> float:
    """Seconds until all slices are acknowledged, by so many storescu at once."""
    share = [[str(path) for path in paths[n::senders]] for n in range(senders)]
    begun = time.perf_counter()
    running = [
        subprocess.Popen([dcmtk("storescu"), "-aec", "ORGSEG", "127.0.0.1", str(port), *files])
        for files in share
    ]
    assert [process.wait() for process in running] == [0] * senders
    return time.perf_counter() - begun


@contextlib.contextmanager
def node(folder: Path) -> Iterator[int]:
    config = NodeConfig.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": 0, "data_dir": folder},
            "receiver": {"accept_any_calling_ae": True, "min_free_mb": 0},
        }
    )
    receiver = Receiver(config, Inbox(config, Store(folder)))
    port = receiver.start()
    try:
        yield port
    finally:
        receiver.stop()


@contextlib.contextmanager
def storescp(folder: Path) -> Iterator[int]:
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [dcmtk("storescp"), "--fork", "-pdu", "131072", "-aet", "ORGSEG", "-od", str(folder), str(port)]
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def land(folder: Path, paths: list[Path]) -> float:
    """Seconds of the node's accept alone, without the network."""
    config = NodeConfig.model_validate(
        {"node": {"data_dir": folder}, "receiver": {"accept_any_calling_ae": True, "min_free_mb": 0}}
    )
    inbox = Inbox(config, Store(folder))
    incoming = []
    for path in paths:
        encoded, syntax = split_part10(path.read_bytes())

        incoming.append(
            Incoming(
                sop_class_uid=CTImageStorage, sop_uid=_uid_of(path), transfer_syntax=syntax,
                calling_ae="BENCH", association=1, encoded=encoded,
            )
        )  # fmt: skip
    begun = time.perf_counter()
    for each in incoming:
        inbox.accept(each)
    return time.perf_counter() - begun


def _uid_of(path: Path) -> str:
    import pydicom  # noqa: PLC0415

    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--senders", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    configure_logs("text", "error")
    os.environ["TCP_NODELAY"] = "1"
    work = Path(tempfile.mkdtemp(prefix="orgseg-receive-"))
    try:
        paths = make_slices(work / "ct", arguments.slices, arguments.size)
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
        best: dict[str, float] = {}
        for repeat in range(arguments.repeats):
            with storescp(work / f"scp{repeat}") as port:
                peer = push(port, paths, arguments.senders)
            with node(work / f"node{repeat}") as port:
                own = push(port, paths, arguments.senders)
            alone = land(work / f"land{repeat}", paths)
            for name, seconds in (("storescp", peer), ("node", own), ("accept only", alone)):
                best[name] = min(best.get(name, seconds), seconds)
        for name, seconds in best.items():
            rate, speed = arguments.slices / seconds, megabytes / seconds
            print(f"{name:12s} {seconds:7.2f} s  {rate:7.1f} C-STORE/s  {speed:7.1f} MB/s")
        ratio = best["storescp"] / best["node"]
        print(f"ratio node / storescp: {ratio:.2f} (1 is as fast; the node syncs each image, storescp none)")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
