"""The power of the body contour: what stays of injected objects, and what of the patient is lost with them.

Couches, boards, rests, tubes, masks, blankets, cushions and wedges are drawn around the patient of every CT
of the data folder. The body found without the object is the truth. Objects below 50 ml are not scored: they
lie mostly outside the image. On a voxel grid of 4 mm a mask and a blanket look like the skin, so
these two are scored only on CTs with finer pixels.

    python -m benchmarks.qa.body             # all CTs of the data folder, every 24th OpenKBP patient
    python -m benchmarks.qa.body --every 8   # every eighth OpenKBP patient
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.qa.foreign_objects import OBJECTS, Place, with_object
from benchmarks.qa.goals import Goal, conclude
from benchmarks.qa.patients import PIECES, data_folder
from orgseg_node.core.body import find_body
from orgseg_node.core.volume import Volume
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.errors import OrgsegError
from orgseg_training.datasets.nifti import read_volume as read_nifti

_SCORED_ML: Final = 50.0
_FINE_MM: Final = 2.0
_THIN: Final = ("mask", "blanket")  # touch the skin in many places
_STAYS: Final = {"mask": 0.40, "blanket": 0.40, "solid board": 0.06, "vacuum cushion": 0.03}
_STAYS_ELSE: Final = 0.03
_LOST: Final = 0.006  # of the patient, with any object
_DOUBTED: Final = 0.05  # of the CTs as they are


def volumes(data: Path, every: int) -> Iterator[tuple[str, Volume]]:
    """The CTs below a folder: archives and folders of DICOM files, NIfTI files, and OpenKBP patients.

    Parameters
    ----------
    data : the folder
    every : every so many OpenKBP patients are used
    """
    for archive in sorted(data.glob("dicom/*/ct.tar.gz")):
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            inner = next(path.parent for path in Path(folder).rglob("*.dcm"))
            yield archive.parent.name, read_volume(read_series(inner))
    for folder in sorted({path.parent for path in data.glob("dicom_small/**/*") if path.is_file()}):
        try:
            yield folder.name, read_volume(read_series(folder))
        except OrgsegError:
            continue  # not one CT series
    for path in sorted(data.glob("*/example_ct.nii.gz")):
        yield path.stem, read_nifti(path)
    for path in sorted(data.glob("openkbp*/imagesTr/*.nii.gz"))[::every]:
        name = path.name.removesuffix("_0000.nii.gz")
        if name not in PIECES:
            yield name, read_nifti(path)


def measure_body(every: int) -> list[Goal]:
    """Measure and print; the goals.

    Parameters
    ----------
    every : every so many OpenKBP patients are used
    """
    rows: dict[str, list[tuple[float, float, bool]]] = defaultdict(list)
    clean = warned = 0
    for name, volume in volumes(data_folder(), every):
        try:
            body = find_body(volume)
        except OrgsegError as error:
            print(f"{name}: {error.code}")
            continue
        clean += 1
        warned += any(finding.code == "BODY_OBJECT_DOUBTFUL" for finding in body.findings)
        place = Place.of(volume, body.mask)
        for kind in OBJECTS:
            if kind in _THIN and volume.grid.spacing_mm[2] > _FINE_MM:
                continue
            changed, drawn = with_object(place, kind)
            if drawn.sum() * volume.grid.voxel_ml < _SCORED_ML:
                continue
            after = find_body(changed)
            stays = float((after.mask & drawn).sum() / drawn.sum())
            lost = float((body.mask & ~after.mask).sum() / body.mask.sum())
            said = any(finding.code.startswith("BODY_OBJECT") for finding in after.findings)
            rows[kind].append((stays, lost, said))
            if stays > 2 * _STAYS.get(kind, _STAYS_ELSE) or lost > _LOST:
                print(f"  {name}, {kind}: {100 * stays:.1f} % stay, {100 * lost:.2f} % of the patient lost")
    print(f"{'object':16s}{'CTs':>5s}{'stays':>9s}{'worst':>9s}{'lost':>9s}{'worst':>9s}{'finding':>9s}")
    goals = []
    for kind, measured in rows.items():
        stays, lost, said = np.array(measured).T
        print(
            f"{kind:16s}{len(measured):5d}{stays.mean():9.2%}{stays.max():9.2%}"
            f"{lost.mean():9.3%}{lost.max():9.3%}{said.mean():9.0%}"
        )
        limit = _STAYS.get(kind, _STAYS_ELSE)
        goals += [
            Goal(
                text=f"{kind} left in the body, {len(measured)}",
                value=stays.mean(),
                limit=limit,
                at_most=True,
            ),
            Goal(
                text=f"patient lost with it, worst of {len(measured)}",
                value=lost.max(),
                limit=_LOST,
                at_most=True,
            ),
        ]
    print(f"CTs as they are: {clean}, with BODY_OBJECT_DOUBTFUL: {warned}")
    quiet = Goal(
        text=f"CTs without an object that are doubted, {clean}",
        value=warned / max(clean, 1), limit=_DOUBTED, at_most=True,
    )  # fmt: skip
    return [*goals, quiet]


def main() -> None:
    """Measure, print, and exit with the status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=24, help="use every n-th OpenKBP patient")
    sys.exit(conclude("qa body", measure_body(parser.parse_args().every)))


if __name__ == "__main__":
    main()
