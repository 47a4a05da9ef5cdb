"""The measures of real patients beside independent programs.

CT and clinical contours of OpenKBP become a clinic's archive (`benchmarks.clinic.archive`). What the node
would have delivered are the same organs, warped, written by the node's own writer. The node measures the
archive's RTSTRUCT against it; plastimatch reads both RTSTRUCTs by code of its own, and surface-distance
measures its masks.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import SimpleITK
import surface_distance
from scipy.ndimage import gaussian_filter, map_coordinates

from benchmarks.clinic.archive import ArchiveOptions, choose_patients, write_archive
from orgseg_node.core.contours import trace
from orgseg_node.core.volume import LabelMap, Mask
from orgseg_node.dicom.objects.provenance import ModelVersion, Provenance
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.node.feedback.measuring import Comparison, measure
from orgseg_node.node.feedback.model import OrganFeedback
from orgseg_node.organ_table import organ_table
from orgseg_training.datasets.nifti import read_labels
from orgseg_training.datasets.openkbp import LABELS, Case

PATIENTS = 10
_ORGANS = frozenset({"brainstem", "spinal_cord", "parotid_left", "parotid_right", "mandible"})


def main(data: Path, work: Path) -> None:
    """Measure the first patients in whom all organs were drawn; print the largest differences."""
    cases = choose_patients(data, _ORGANS)[:PATIENTS]
    shutil.rmtree(work, ignore_errors=True)
    write_archive(cases, work / "archive", ArchiveOptions(organs=_ORGANS))
    worst: dict[str, float] = {}
    count = 0
    for number, case in enumerate(cases, 1):
        folder = work / "archive" / f"PAT{number:03d}"
        for organ, ours, theirs in compare_patient(case, folder, number):
            count += 1
            for name, value in theirs.items():
                difference = abs(getattr(ours, name) - value)
                worst[name] = max(worst.get(name, 0.0), difference)
            values = (f"{name} {getattr(ours, name):.4f} {value:.4f}" for name, value in theirs.items())
            print(f"{case.name} {organ}: {', '.join(values)}")
    print(f"{count} organs of {len(cases)} patients; largest differences: {worst}")


def compare_patient(case: Case, folder: Path, seed: int) -> list[tuple[str, OrganFeedback, dict[str, float]]]:
    """Each organ of a patient as the node measures it, and as the other programs do.

    Parameters
    ----------
    case : the patient
    folder : of the archive, with CT and RS.dcm
    seed : of the warp
    """
    series = read_series(folder / "CT")
    delivered = _delivered(case, series, folder / "delivered.dcm", seed)
    report = folder / "report.json"
    report.write_text(json.dumps({"organs": delivered, "models": []}), encoding="utf-8")
    comparison = Comparison(
        returned=folder / "RS.dcm",
        delivered=folder / "delivered.dcm",
        delivered_sha256=hashlib.sha256((folder / "delivered.dcm").read_bytes()).hexdigest(),
        images=tuple(image.path for image in series.slices),
        content_sha256=series.content_sha256,
        report=report,
    )
    rows = [row for row in measure(comparison, organ_table()).organs if row.is_measured]
    before = _plastimatch(folder / "delivered.dcm", folder / "CT", folder / "masks-delivered")
    after = _plastimatch(folder / "RS.dcm", folder / "CT", folder / "masks-returned")
    names = {row["key"]: row["name"] for row in delivered}
    spacing = series.grid.spacing_mm
    return [(row.organ, row, _independent(after[row.roi], before[names[row.organ]], spacing)) for row in rows]


def _delivered(case: Case, series: CtSeries, path: Path, seed: int) -> list[dict[str, str]]:
    """Write what a model might have delivered: the organs, warped; keys and names of them."""
    labels, table = read_labels(case.labels), organ_table()
    rng = np.random.default_rng(seed)
    shifts = [gaussian_filter(rng.normal(size=labels.shape), 6) for _ in range(3)]
    shifts = [shift / shift.std() * size for shift, size in zip(shifts, (0.4, 1.2, 1.2), strict=True)]
    places = [axis + shift for axis, shift in zip(np.indices(labels.shape), shifts, strict=True)]
    warped = np.zeros(labels.shape, np.uint8)
    organs = {}
    for number, key in enumerate(sorted(_ORGANS), 1):
        mask = (labels == LABELS[key]).astype(np.float32)
        warped[map_coordinates(mask, places, order=1) > 0.5] = number
        organs[number] = table[key]
    label_map = LabelMap(grid=series.grid, labels=warped, organs=organs)
    provenance = Provenance(
        job_id=f"job-{seed}",
        created=datetime(2026, 1, 5, tzinfo=UTC),
        models=(ModelVersion(name="warped", version="1", sha256="ab" * 32),),
    )
    write_rtstruct(trace(label_map), series, provenance).save_as(path, enforce_file_format=True)
    return [{"key": organ.key, "name": organ.name} for organ in organs.values()]


def _plastimatch(rtstruct: Path, ct: Path, scratch: Path) -> dict[str, Mask]:
    command = ["plastimatch", "convert", "--input", str(rtstruct), "--referenced-ct", str(ct)]
    command += ["--output-prefix", str(scratch), "--prefix-format", "mha"]
    subprocess.run(command, check=True, capture_output=True)
    return {
        path.stem: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) > 0
        for path in scratch.glob("*.mha")
    }


def _independent(reference: Mask, prediction: Mask, spacing: tuple[float, float, float]) -> dict[str, float]:
    """The measures by surface-distance; its mean and HD95 are of each direction."""
    found = surface_distance.compute_surface_distances(reference, prediction, spacing)
    areas = [found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()]
    means = surface_distance.compute_average_surface_distance(found)
    both = reference & prediction
    return {
        "dice": float(2 * both.sum() / (reference.sum() + prediction.sum())),
        "surface_dice_2mm": float(surface_distance.compute_surface_dice_at_tolerance(found, 2.0)),
        "hd95_mm": float(surface_distance.compute_robust_hausdorff(found, 95)),
        "mean_distance_mm": float(np.average(means, weights=areas)),
    }
