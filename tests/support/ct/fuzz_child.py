"""Reads damaged series under limits and tells what became of each, a line of JSON before and after.

It does what `orgseg info` and the node do with a series: survey, describe, decode, and write an object that
carries its patient and study. Every case follows from seed and number alone:

    python -m tests.support.ct.fuzz_child FOLDER SEED FIRST STOP
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from random import Random

import gdcm
import numpy as np
import structlog

from orgseg_node.cli import main
from orgseg_node.core.contours import trace
from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.reading.reader import read_slices, read_volume
from orgseg_node.dicom.reading.series import CtSeries, files_in, survey
from orgseg_node.errors import OrgsegError
from orgseg_node.shipped import shipped_config
from tests.support.ct.fuzz import MEMORY_MB, Outcome
from tests.support.ct.mutations import mutate
from tests.support.ct.objects import PROVENANCE


def damaged_series(bases: Path, folder: Path, seed: int, case: int) -> tuple[str, str]:
    """Write the series of a case, with one or all of its files damaged; the names of its base and damage."""
    random = Random(f"{seed}/{case}")
    base = random.choice(sorted(path for path in bases.iterdir()))
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    paths = sorted(folder.iterdir())
    damage = random.getrandbits(64)
    # the same damage to every file keeps the series consistent, so that it gets as far as the decoder
    for path in paths if random.random() < 0.5 else [random.choice(paths)]:
        mutant = mutate(path.read_bytes(), Random(damage))
        path.write_bytes(mutant.data)
    return base.name, mutant.kind


def read_everything(folder: Path) -> str:
    """What the node does with a folder; "accepted", a code, or how it went wrong."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as printed:
        try:
            main(["info", str(folder), "--json"])
        except SystemExit as end:
            if end.code not in {0, 1} or "UNEXPECTED" in printed.getvalue():
                return f"UNCODED in info: {' '.join(printed.getvalue().split())}"
    inventory = survey(files_in(folder))
    codes = {refusal.error.code for refusal in inventory.refused}
    for series in inventory.accepted:
        try:
            read_volume(series)
            read_slices(series)
            _write(series)
        except OrgsegError as error:
            codes.add(error.code)
    return min(codes, default="accepted")


def _write(series: CtSeries) -> None:
    """A structure set, which takes patient and study from the damaged header."""
    labels = np.zeros((len(series.slices), series.rows, series.columns), dtype=np.uint8)
    labels[: len(series.slices) // 2 + 1, : series.rows // 2 + 1, : series.columns // 2 + 1] = 1
    organ = load_organs(shipped_config("organs.toml"))["liver"]
    label_map = LabelMap(grid=series.geometry, labels=labels, organs={1: organ})
    dataset = write_rtstruct(trace(label_map), series, PROVENANCE)
    dataset.save_as(io.BytesIO(), enforce_file_format=True)


def _run(folder: Path, seed: int, cases: range) -> None:
    limit = _address_space() + MEMORY_MB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scratch = folder / "case"
    for case in cases:
        base, kind = damaged_series(folder / "bases", scratch, seed, case)
        _tell(Outcome(case=case, base=base, kind=kind, end=""))
        _die_if_told(case)
        start = time.monotonic()
        try:
            end = read_everything(scratch)
        except Exception as error:  # noqa: BLE001  # this is what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            end = f"UNCODED {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        peak_mb = _peak_mb()
        seconds = time.monotonic() - start
        _tell(Outcome(case=case, base=base, kind=kind, end=end, seconds=seconds, peak_mb=peak_mb))


def _die_if_told(case: int) -> None:
    """Come to grief at a case, so that the parent can be tested: ``ORGSEG_FUZZ_DIES="3 hang"``."""
    match os.environ.get("ORGSEG_FUZZ_DIES", "").split():
        case [number, "kill"] if int(number) == case:
            os.kill(os.getpid(), signal.SIGSEGV)
        case [number, "hang"] if int(number) == case:
            time.sleep(1000)
        case [number, "exit"] if int(number) == case:
            os._exit(7)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _peak_mb() -> float:
    """Most memory this program has held; what getrusage tells counts that of the program which started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def _tell(outcome: Outcome) -> None:
    print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201


if __name__ == "__main__":
    gdcm.Trace.WarningOff()
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    _run(Path(sys.argv[1]), int(sys.argv[2]), range(int(sys.argv[3]), int(sys.argv[4])))
