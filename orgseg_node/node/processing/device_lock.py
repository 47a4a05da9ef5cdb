"""One inference at a time on each device, however many workers run on the machine."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orgseg_node.errors import StorageError


def device_name(device: str) -> str:
    """The device of a setting as part of a file name: the host, CPU or GPU, and which GPU.

    Parameters
    ----------
    device : ``auto``, ``cpu`` or ``cuda``
    """
    if device == "auto":
        device = "cuda" if Path("/dev/nvidiactl").exists() else "cpu"
    which = os.environ.get("CUDA_VISIBLE_DEVICES", "") if device == "cuda" else ""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join(filter(None, (socket.gethostname(), device, which))))


@contextmanager
def hold_device(folder: Path, device: str, while_busy: Callable[[], None]) -> Iterator[int]:
    """Lock a device; a descriptor for the child to inherit: the device is free when both have closed it.

    Parameters
    ----------
    folder : holds the lock files of all workers of the machine
    device : see `device_name`
    while_busy : called repeatedly while another process holds the device; what it raises ends the waiting
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o770)
        path = folder / f"{device_name(device)}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    except OSError as error:
        raise StorageError(f"The lock of the device cannot be opened: {error.strerror}.") from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                while_busy()
        yield descriptor
    finally:
        os.close(descriptor)
