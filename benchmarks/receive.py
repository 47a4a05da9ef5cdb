"""C-STORE per second: the node with durable storage, DCMTK's storescp and Orthanc, in one run.

    python benchmarks/receive.py [--slices 200] [--size 512] [--senders 1 4]

DCMTK's storescu sends the same synthetic CT slices to each of them, one after the other. The node answers
0x0000 only after the file, its name and its database row are on the disk; Orthanc (SyncStorageArea, its
default) syncs the file before it answers, but not its index; storescp answers after write(). DCMTK runs with
TCP_NODELAY=1 and the same PDU size: otherwise Nagle's algorithm limits storescp to about 20 images per
second. The last line is the node's storage without network. The best of the repeats is printed, in images and
megabytes per second, with ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from orgseg_node.dicom.reading.part10 import split_part10
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.monitoring.logs import configure_logs
from orgseg_node.node.store.model import Incoming
from orgseg_node.node.store.store import Store


def dcmtk(name: str) -> str:
    """The DCMTK program of this name; pynetdicom has programs of the same names."""
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"):
        if (Path(folder) / name).exists():
            return str(Path(folder) / name)
    raise SystemExit(f"DCMTK's {name} is not installed")


def make_slices(folder: Path, slices: int, size: int) -> list[Path]:
    """CT slices with minimal headers and noise as pixels.

    Parameters
    ----------
    folder : new folder for the files
    slices : number of slices
    size : rows and columns
    """
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


def send(port: int, paths: list[Path], senders: int) -> float:
    """Seconds until all slices are acknowledged.

    Parameters
    ----------
    port : of the receiver
    paths : the slices
    senders : number of storescu processes that send at the same time
    """
    shares = [[str(path) for path in paths[n::senders]] for n in range(senders)]
    started = time.perf_counter()
    running = [
        subprocess.Popen([dcmtk("storescu"), "-aec", "ORGSEG", "127.0.0.1", str(port), *files])
        for files in shares
    ]
    assert [process.wait() for process in running] == [0] * senders
    return time.perf_counter() - started


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
    port = free_port()
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


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[int]:
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise SystemExit("Orthanc is not installed")
    folder.mkdir()
    port, http = free_port(), free_port()
    settings = folder / "orthanc.json"
    configuration = {
        "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"), "Plugins": [],
        "DicomAet": "ORGSEG", "DicomPort": port, "HttpPort": http, "DicomAlwaysAllowStore": True,
        "AuthenticationEnabled": False, "SyncStorageArea": True, "MaximumPduLength": 131072,
    }  # fmt: skip
    settings.write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(settings)], stdout=log, stderr=log)
    try:
        for _ in range(400):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{http}/system", timeout=5).close()
                break
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def store_without_network(folder: Path, paths: list[Path]) -> float:
    """Seconds in which the node stores the slices, without the network."""
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
    started = time.perf_counter()
    for each in incoming:
        inbox.accept(each)
    return time.perf_counter() - started


def _uid_of(path: Path) -> str:
    import pydicom  # noqa: PLC0415

    return str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--senders", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    configure_logs("text", "error")
    os.environ["TCP_NODELAY"] = "1"
    work = Path(tempfile.mkdtemp(prefix="orgseg-receive-"))
    try:
        paths = make_slices(work / "ct", arguments.slices, arguments.size)
        for senders in arguments.senders:
            print_rates(paths, senders, measure(work, paths, senders, arguments.repeats))
        print(f"load of the machine: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def measure(work: Path, paths: list[Path], senders: int, repeats: int) -> dict[str, float]:
    """Best time of each receiver; they take turns.

    Parameters
    ----------
    work : temporary folder
    paths : the slices
    senders : number of storescu processes that send at the same time
    repeats : number of runs of each receiver

    Returns
    -------
    seconds by name of the receiver
    """
    best: dict[str, float] = {}
    receivers = {"storescp": storescp, "Orthanc": orthanc, "node": node}
    for repeat in range(repeats):
        for name, receiver in receivers.items():
            folder = work / f"{name}-{senders}-{repeat}"
            with receiver(folder) as port:
                seconds = send(port, paths, senders)
            best[name] = min(best.get(name, seconds), seconds)
            shutil.rmtree(folder, ignore_errors=True)
        folder = work / f"alone-{senders}-{repeat}"
        best["node, no network"] = min(
            best.get("node, no network", 1e9), store_without_network(folder, paths)
        )
        shutil.rmtree(folder, ignore_errors=True)
    return best


def print_rates(paths: list[Path], senders: int, best: dict[str, float]) -> None:
    """Print rates and ratios.

    Parameters
    ----------
    paths : the slices
    senders : number of storescu processes that sent at the same time
    best : seconds by name of the receiver
    """
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    print(f"{len(paths)} slices, {senders} senders")
    for name, seconds in best.items():
        rate, speed = len(paths) / seconds, megabytes / seconds
        print(f"  {name:16s} {seconds:7.2f} s  {rate:7.1f} C-STORE/s  {speed:7.1f} MB/s")
    for name in ("storescp", "Orthanc"):
        print(f"  ratio node / {name}: {best[name] / best['node']:.2f} (above 1 the node is faster)")


if __name__ == "__main__":
    main()
