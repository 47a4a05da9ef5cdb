"""The whole way of retraining in a short form, on synthetic patients: ``make clinic``.

Archive of DICOM CT and RTSTRUCT, survey, ingest, quality control, lock, two fine-tunings, gate, first
promotion, shadow, promotion, a CT by DICOM each time, rollback. The last line sums it up; the exit status is
not 0 when a step fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.clinic.archive import ArchiveOptions, choose_patients, write_archive
from benchmarks.clinic.hospital import Hospital, open_hospital
from benchmarks.clinic.small_model import write_untrained
from benchmarks.clinic.steps import StepFailed, Steps, wait_until
from orgseg_training.datasets.synthetic import write_patients

_PATIENTS = 24
_NEW_SCANS = 3
_ROLLBACK_S = 60.0
_SHADOW_S = 240.0


def main() -> int:
    """Go the whole way; 0 if every step passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="empty folder in which everything stays")
    parser.add_argument("--iterations", type=int, default=300, help="steps of the second fine-tuning")
    given = parser.parse_args()
    folder = (given.keep or Path(tempfile.mkdtemp(prefix="orgseg-clinic-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    steps = Steps(folder, environment)
    started = time.monotonic()
    problem = ""
    try:
        _train(steps, folder, given.iterations)
        _use(steps, folder)
    except StepFailed as failed:
        problem = f" FAILED after {steps.done[-1][0] if steps.done else 'nothing'}"
        print(f"{failed}\nThe output of all commands is in {steps.log}", flush=True)
    else:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"clinic: {len(steps.done)} steps passed in {time.monotonic() - started:.0f} s{problem}")
    return 1 if problem else 0


def _train(steps: Steps, folder: Path, iterations: int) -> None:
    site, models, start = folder / "site", folder / "site" / "models", folder / "untrained"
    with steps.step("archive"):
        patients = folder / "patients"
        everybody = _PATIENTS + _NEW_SCANS
        write_patients(patients, patients=everybody, tests=everybody, varied=True)
        cases = choose_patients(patients, ())
        write_archive(cases[:_PATIENTS], folder / "archive", ArchiveOptions())
        write_archive(cases[_PATIENTS:], folder / "new", ArchiveOptions(first=_PATIENTS + 1))
        write_untrained(start, folder / "untrained-work")
    with steps.step("survey"):
        steps.train("site", "survey", str(folder / "archive"), "--out", str(site), "--name", "clinic")
    with steps.step("ingest"):
        steps.train("site", "ingest", str(site))
    with steps.step("qc"):
        steps.train("site", "qc", str(site))
    with steps.step("lock"):
        steps.train("site", "lock", str(site))
    organs = ("--organs", "mandible,larynx")
    with steps.step("tune the first version"):
        _tune(steps, site, str(start), "hn@1", *organs, "--iterations", "500")
    with steps.step("tune the second version"):
        _tune(steps, site, str(models / "hn@1"), "hn@2", *organs, "--iterations", str(iterations))


def _tune(steps: Steps, site: Path, start: str, name: str, *more: str) -> None:
    steps.train("site", "tune", str(site), "--from", start, "--name", name, "--threads", "2", *more)


def _use(steps: Steps, folder: Path) -> None:
    site, models = folder / "site", folder / "site" / "models"
    keys = {name: folder / f"{name[0]}.pem" for name in ("A. Physicist", "B. Physicist")}
    persons = {name: steps.node("models", "keygen", str(file)).split()[0] for name, file in keys.items()}
    hospital = open_hospital(folder / "hospital", models, persons, steps.environment)
    steps.environment["ORGSEG_CONFIG"] = str(hospital.config)
    scans = [sorted((patient / "CT").iterdir()) for patient in sorted((folder / "new").iterdir())]
    gate = site / "gate" / "gate.json"
    with steps.step("judge"):
        first = str(keys["A. Physicist"])
        live, candidate = str(models / "hn@1"), str(models / "hn@2")
        steps.train("site", "judge", str(site), live, candidate, "--key", first, "--threads", "2")
    with hospital.running():
        with steps.step("first promotion"):
            for key in keys.values():
                why = "the first version, commissioned"
                steps.node("models", "promote", "hn@1", "--key", str(key), "--override", "--why", why)
        with steps.step("a CT for the first version"):
            _contour(hospital, scans[0], "hn@1")
        with steps.step("shadow"):
            steps.node("models", "shadow", "hn@2", "--by", "A. Physicist", "--why", "before promotion")
            wait_until("a scan in the shadow", lambda: _shadow_scans(steps) >= 1, _SHADOW_S)
        with steps.step("promotion"):
            for key in keys.values():
                steps.node("models", "promote", "hn@2", "--key", str(key), "--gate", str(gate))
        with steps.step("a CT for the second version"):
            _contour(hospital, scans[1], "hn@2")
        with steps.step("rollback, with the next CT"):
            started = time.monotonic()
            steps.node("models", "rollback", "hn", "--by", "A. Physicist", "--why", "test")
            _contour(hospital, scans[2], "hn@1")
            if time.monotonic() - started > _ROLLBACK_S:
                raise StepFailed(f"The rollback took more than {_ROLLBACK_S:.0f} s.")
        with steps.step("history"):
            steps.node("models", "history")


def _contour(hospital: Hospital, images: list[Path], bundle: str) -> None:
    hospital.contour(images)
    if bundle not in hospital.received():
        raise StepFailed(f"The structure set in the TPS does not name {bundle}.")


def _shadow_scans(steps: Steps) -> int:
    return sum(one["scans"] for one in json.loads(steps.node("models", "shadow", "--json"))["shadows"])


if __name__ == "__main__":
    sys.exit(main())
