"""What a run of the tests makes once, whichever of its processes needs it first."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

RUN_FOLDER: Final = "ORGSEG_TEST_RUN"
"""Environment variable with the folder that all processes of a run share; set by ``conftest.py``."""

T = TypeVar("T")


def once(name: str, make: Callable[[Path], T]) -> T:
    """What a function made for the first who asked; nobody changes the files it wrote.

    Parameters
    ----------
    name : the same for all who ask for the same
    make : writes what it likes into the empty folder it is given; what it returns can be pickled
    """
    place = Path(os.environ[RUN_FOLDER]) / name
    place.parent.mkdir(parents=True, exist_ok=True)
    result = place.with_name(f"{place.name}.pickle")
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            shutil.rmtree(place, ignore_errors=True)  # of an attempt that failed
            place.mkdir()
            result.write_bytes(pickle.dumps(make(place)))
    made: T = pickle.loads(result.read_bytes())  # noqa: S301  # written above
    return made


def owner() -> int:
    """The process that runs as long as the run does."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
