"""What a run of the tests makes once, whichever of its processes needs it first."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

RUN_FOLDER = "ORGSEG_TEST_RUN"
"""Environment variable with the folder that all processes of a run share; set by ``conftest.py``."""


def run_folder() -> Path:
    """The folder that all processes of this run share; nothing in it is changed once it is there."""
    return Path(os.environ[RUN_FOLDER])


def owner() -> int:
    """The process that runs as long as the run does."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


def once(name: str, make: Callable[[Path], object]) -> Path:
    """A file or folder of the run, made by whoever asks first.

    Parameters
    ----------
    name : of the file or folder
    make : writes it to the path it is given
    """
    place = run_folder() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            part = place.with_name(f"{place.name}.part")
            if part.is_dir():  # of an attempt that failed
                shutil.rmtree(part)
            make(part)
            part.rename(place)
    return place
