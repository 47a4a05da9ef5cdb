"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog

from orgseg_node.core.organs import OrganTable, load_organs
from orgseg_node.shipped import shipped_config
from tests.support.ct.phantom import build_ct_series
from tests.support.node.leaks import collect
from tests.support.peers.postgres import Cluster, cluster
from tests.support.processes.once import RUN_FOLDER, once

_CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Python's garbage collector looks only at what the tests themselves make.

    Some 900,000 objects live as long as the run: modules and collected tests. To search them takes 0.6 s of
    CPU, which was spent after each test marked `LEAKS` too. They are frozen; garbage is collected before.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _logs_to_stderr() -> None:
    """Log lines never mix with what a program prints; each test starts from the same settings."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept from run to run stays with the tests; the programs they start inherit it.

    All workers of a run share one folder, so that what is expensive is made once.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "run"
    shared.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN_FOLDER, str(shared))
        patch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
        yield


@pytest.fixture
def sockets_collected() -> Iterator[None]:
    """Dropped sockets are reported in the test that dropped them; asked for by the marks `LEAKS`."""
    yield
    collect()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the collected real test data; the test is skipped where there is none."""
    named = os.environ.get("ORGSEG_TEST_DATA")
    folder = Path(named) if named else _CHECKOUT.parent / "shared" / "data"
    if not (folder / "dicom").is_dir():
        pytest.skip("the collected test data are not here (ORGSEG_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def organ_table() -> OrganTable:
    """The organ table that comes with the node."""
    return load_organs(shipped_config("organs.toml"))


@pytest.fixture(scope="session")
def ct(_own_cache: None) -> Path:
    """A folder with a small, clean phantom series that no test changes: 24 slices of 64 x 64 pixels."""
    return once("ct", lambda folder: build_ct_series(folder)[0].parent)


@pytest.fixture
def ct_folder(ct: Path, tmp_path: Path) -> Path:
    """A copy of that series which a test may change."""
    folder = tmp_path / "ct"
    shutil.copytree(ct, folder)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server of the tests' own; a test that asks for it is skipped where none is installed."""
    with cluster() as running:
        yield running
