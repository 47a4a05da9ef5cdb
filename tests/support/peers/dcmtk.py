"""DCMTK as a real peer; pynetdicom installs programs of the same names, which are none."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

# Below the ports that systems give to outgoing connections, and other ones for each worker of pytest-xdist:
# a port that one found free is not taken by another before it listens. Each process begins at another port.
_PORTS = 1000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 12
_ports = (20000 + _PORTS * _WORKER + (7 * os.getpid() + n) % _PORTS for n in itertools.count())


@functools.cache
def _find(name: str) -> str | None:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(name, path=folder)
        if found is None:
            continue
        version = subprocess.run([found, "--version"], capture_output=True, check=False, text=True)
        if "$dcmtk" in version.stdout:
            return found
    return None


def dcmtk(name: str) -> str:
    """Path of a DCMTK program; the test is skipped where it is not installed."""
    found = _find(name)
    if found is None:
        pytest.skip(f"DCMTK's {name} is not installed")
    return found


def free_port() -> int:
    """A port nobody listens at just now; it comes again only when all of this worker's were given out."""
    for port in itertools.islice(_ports, _PORTS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def storescu(port: int, files: Sequence[Path], *options: str) -> subprocess.CompletedProcess[str]:
    """Push files to a port of this machine with DCMTK's storescu."""
    command = [dcmtk("storescu"), "-v", *options, "127.0.0.1", str(port), *map(str, files)]
    return subprocess.run(command, capture_output=True, check=False, text=True, timeout=60)


def echoscu(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Ask a port of this machine with DCMTK's echoscu."""
    command = [dcmtk("echoscu"), "-v", *options, "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False, text=True, timeout=30)


@contextlib.contextmanager
def storescp(folder: Path, port: int, *options: str) -> Iterator[Path]:
    """DCMTK's storescp, receiving into a folder; it listens when the block begins."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [dcmtk("storescp"), "-od", str(folder), *options, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert time.monotonic() < end, "storescp did not start"
            time.sleep(0.05)
        yield folder
    finally:
        process.kill()
        process.wait()
