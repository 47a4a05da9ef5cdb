"""Orthanc as a real archive: started on free ports in a folder of its own, asked by DICOM and by REST."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.peers.dcmtk import free_port

AE_TITLE = "ARCHIVE"
_START_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Orthanc:
    """A running archive on this machine.

    Attributes
    ----------
    dicom_port, http_port : where it listens
    """

    dicom_port: int
    http_port: int

    def get(self, path: str) -> bytes:
        """What it answers to a GET."""
        with urllib.request.urlopen(self._url(path), timeout=30) as answer:  # noqa: S310
            content: bytes = answer.read()
        return content

    def ask(self, path: str) -> Any:
        """The same, as JSON."""
        return json.loads(self.get(path))

    def upload(self, data: bytes) -> str:
        """Store a file by REST; the archive's own name for the instance."""
        request = urllib.request.Request(self._url("/instances"), data=data, method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return str(json.load(answer)["ID"])

    def delete(self, sop_instance_uid: str) -> None:
        """Remove the instance with a UID."""
        url = self._url(f"/instances/{self.find(sop_instance_uid)}")
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=30):  # noqa: S310
            pass

    def post(self, path: str, said: Any) -> Any:
        """What it answers to JSON."""
        data = json.dumps(said).encode()
        request = urllib.request.Request(self._url(path), data=data, method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)

    def find(self, sop_instance_uid: str) -> str:
        """Its name for the instance with a UID."""
        request = urllib.request.Request(  # noqa: S310
            self._url("/tools/lookup"), data=sop_instance_uid.encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            (found,) = [one["ID"] for one in json.load(answer) if one["Type"] == "Instance"]
        return str(found)

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"


def _program() -> str:
    """Where it is installed; the test is skipped where it is not."""
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("Orthanc is not installed")
    return found


def _settings(folder: Path, dicom_port: int, http_port: int) -> dict[str, Any]:
    return {
        "Name": "Archive",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "DicomAet": AE_TITLE,
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "OverwriteInstances": True,
        # versions before 1.12 know no label map segmentations; PACS with a list of SOP classes need an entry
        "UnknownSopClassAccepted": True,
    }


@contextlib.contextmanager
def orthanc(folder: Path, **more: Any) -> Iterator[Orthanc]:
    """An archive that listens when the block begins, and is gone after it; ``more`` are its settings."""
    program = _program()
    folder.mkdir(parents=True, exist_ok=True)
    running = Orthanc(dicom_port=free_port(), http_port=free_port())
    settings = folder / "orthanc.json"
    said = _settings(folder, running.dicom_port, running.http_port) | more
    settings.write_text(json.dumps(said), "utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(settings)], stdout=log, stderr=log)
    try:
        end = time.monotonic() + _START_S
        while True:
            assert process.poll() is None, (folder / "log").read_text(errors="replace")
            with contextlib.suppress(urllib.error.URLError, OSError):
                running.ask("/system")
                break
            assert time.monotonic() < end, "Orthanc did not start"
            time.sleep(0.05)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
