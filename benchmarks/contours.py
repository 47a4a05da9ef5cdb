"""Our RTSTRUCT writer beside rt-utils: CPU time, memory, volume bias and what comes back from the file.

    python benchmarks/contours.py            20 organs on 512 x 512 x 200
    python benchmarks/contours.py --small    the same on 256 x 256 x 60

Each writer runs in a process of its own, from the CT series on disk and a label map to the saved file. Both
files are read by the same reader: contours filled by the even-odd rule at the pixel centres, volumes from
the areas of the polygons. rt-utils gets the masks in the memory order in which it is fastest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from rt_utils import RTStructBuilder

from orgseg_node.core.contours import Contour, rasterise, trace
from orgseg_node.core.metrics import dice
from orgseg_node.core.organs import load_organs
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.provenance import ModelLine, Provenance
from orgseg_node.dicom.rtstruct import prove, read_rtstruct, write_rtstruct
from orgseg_node.dicom.series import read_series
from orgseg_node.dicom.uids import derive_uid
from orgseg_node.shipped import shipped_config

Labels = NDArray[np.uint8]

FIELD_MM = (500.0, 500.0, 500.0)  # (z, y, x) around the centre
BALLS = {  # organ: centre (z, y, x) and semi-axes in mm
    "brain": ((200, -10, 0), (45, 80, 70)),
    "eyeball_left": ((190, -120, 32), (12, 12, 12)),
    "eyeball_right": ((190, -120, -32), (12, 12, 12)),
    "brainstem": ((140, 10, 0), (14, 13, 15)),
    "parotid_left": ((120, 0, 60), (25, 18, 12)),
    "parotid_right": ((120, 0, -60), (25, 18, 12)),
    "lung_left": ((20, -20, 80), (70, 70, 50)),
    "lung_right": ((20, -20, -80), (75, 75, 55)),
    "heart": ((0, -60, 10), (40, 40, 22)),
    "liver": ((-95, -20, -70), (42, 70, 65)),
    "spleen": ((-90, 40, 95), (35, 30, 20)),
    "kidney_left": ((-120, 70, 55), (22, 25, 25)),
    "kidney_right": ((-140, 70, -55), (22, 25, 25)),
    "stomach": ((-95, -40, 40), (30, 25, 30)),
    "urinary_bladder": ((-215, -20, 0), (25, 30, 35)),
    "femoral_head_left": ((-225, 10, 90), (22, 22, 22)),
    "femoral_head_right": ((-225, 10, -90), (22, 22, 22)),
}
TUBES = {  # organ: centre (y, x), outer and inner radius in mm, from and to z
    "aorta": ((45, 25), 14.0, 0.0, -180, 60),
    "spinal_cord": ((75, 0), 5.5, 0.0, -180, 120),
    "esophagus": ((40, -5), 9.0, 5.0, -60, 100),
    "rectum": ((50, 0), 18.0, 12.0, -245, -190),
}


def organ_labels(shape: tuple[int, int, int], names: list[str]) -> Labels:
    labels = np.zeros(shape, dtype=np.uint8)
    axes = [((np.arange(n) + 0.5) / n - 0.5) * mm for n, mm in zip(shape, FIELD_MM, strict=True)]
    z, y, x = np.ix_(*axes)
    for label, name in enumerate(names, start=1):
        if name in BALLS:
            centre, radii = BALLS[name]
            inside = sum(((v - c) / r) ** 2 for v, c, r in zip((z, y, x), centre, radii, strict=True)) <= 1
        else:
            (cy, cx), outer, inner, low, high = TUBES[name]
            squared = (y - cy - 10 * np.sin(z / 60)) ** 2 + (x - cx) ** 2
            inside = (squared <= outer**2) & (squared >= inner**2) & (z >= low) & (z <= high)
        labels[inside & (labels == 0)] = label
    return labels


def write_series(folder: Path, shape: tuple[int, int, int]) -> None:
    dz, dy, dx = (mm / n for mm, n in zip(FIELD_MM, shape, strict=True))
    pixels = np.random.default_rng(0).integers(0, 2000, shape[1:], dtype=np.uint16).tobytes()
    for k in range(shape[0]):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        uid = derive_uid("benchmark", "slice", str(k))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
        dataset.StudyInstanceUID = derive_uid("benchmark", "study")
        dataset.SeriesInstanceUID = derive_uid("benchmark", "series")
        dataset.FrameOfReferenceUID = derive_uid("benchmark", "frame")
        dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Benchmark", "BENCH"
        dataset.PatientBirthDate = dataset.StudyDate = dataset.StudyTime = dataset.StudyID = ""
        dataset.PatientSex = dataset.AccessionNumber = ""
        dataset.SeriesDate = dataset.SeriesTime = dataset.StudyDescription = dataset.SeriesDescription = ""
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber, dataset.SeriesNumber = k + 1, 1
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [-250 + dx / 2, -250 + dy / 2, round(-250 + dz * (k + 0.5), 4)]
        dataset.PixelSpacing, dataset.SliceThickness = [dy, dx], dz
        dataset.Rows, dataset.Columns = shape[1:]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 0
        dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
        dataset.add_new("PixelData", "OW", pixels)
        dataset.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


def peak_mb() -> float:
    """Most memory this process has had; getrusage would also count its parent's before exec."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024


def with_ours(folder: Path, label_map: LabelMap) -> dict[str, float]:
    provenance = Provenance(
        job_id="benchmark",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        models=(ModelLine(name="benchmark", version="1", sha256="0" * 64),),
    )
    start = time.process_time()
    series = read_series(folder / "ct")
    read = time.process_time()
    structure_set = trace(label_map)
    traced = time.process_time()
    dataset = write_rtstruct(structure_set, series, provenance)
    dataset.save_as(folder / "ours.dcm", enforce_file_format=True)
    written = time.process_time()
    peak = peak_mb()  # before the proof, which rt-utils does not have
    prove(dataset, label_map, series)
    return {
        "read_cpu_s": read - start,
        "contours_cpu_s": traced - read,
        "write_cpu_s": written - traced,
        "total_cpu_s": written - start,
        "proof_cpu_s": time.process_time() - written,
        "peak_mb": peak,
    }


def with_rt_utils(folder: Path, label_map: LabelMap) -> dict[str, float]:
    start = time.process_time()
    structure_set = RTStructBuilder.create_new(dicom_series_path=str(folder / "ct"))
    read = time.process_time()
    for label, organ in label_map.organs.items():
        structure_set.add_roi(mask=np.moveaxis(label_map.mask(label), 0, 2), name=organ.name)
    traced = time.process_time()
    structure_set.save(str(folder / "rt-utils.dcm"))
    written = time.process_time()
    return {
        "read_cpu_s": read - start,
        "contours_cpu_s": traced - read,
        "write_cpu_s": written - traced,
        "total_cpu_s": written - start,
        "peak_mb": peak_mb(),
    }


WRITERS: dict[str, Callable[[Path, LabelMap], dict[str, float]]] = {
    "ours": with_ours,
    "rt-utils": with_rt_utils,
}


def load_label_map(folder: Path) -> LabelMap:
    table = load_organs(shipped_config("organs.toml"))
    names = json.loads((folder / "names.json").read_text())
    organs = {label: table[name] for label, name in enumerate(names, start=1)}
    series_grid = read_series(folder / "ct").grid
    return LabelMap(grid=series_grid, labels=np.load(folder / "labels.npy"), organs=organs)


def area_px(contours: tuple[Contour, ...]) -> float:
    """Enclosed area under the even-odd rule: a contour inside an odd number of others is a hole."""
    slices = defaultdict(list)
    for contour in contours:
        slices[contour.k].append(contour.points)
    total = 0.0
    for polygons in slices.values():
        for points in polygons:
            x, y = points.T
            area = 0.5 * abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)))
            around = sum(Polygon(o).contains_point(points[0]) for o in polygons if o is not points)
            total += area * (-1) ** around
    return total


def judge(folder: Path, name: str, label_map: LabelMap) -> dict[str, float]:
    found = read_rtstruct(dcmread(folder / f"{name}.dcm"), read_series(folder / "ct"))
    overlaps, biases = [], []
    for label, organ in label_map.organs.items():
        contours, mask = found[organ.name], label_map.mask(label)
        overlaps.append(dice(rasterise(contours, label_map.grid), mask))
        biases.append(abs(area_px(contours) / mask.sum() - 1))
    return {
        "dice_mean": float(np.mean(overlaps)),
        "dice_min": float(np.min(overlaps)),
        "volume_bias_mean": float(np.mean(biases)),
        "volume_bias_worst": float(np.max(biases)),
        "points": sum(len(c.points) for contours in found.values() for c in contours),
        "size_mb": (folder / f"{name}.dcm").stat().st_size / 1e6,
    }


def report(results: dict[str, dict[str, float]]) -> None:
    ours, theirs = results["ours"], results["rt-utils"]
    print(f"{'':24}{'ours':>12}{'rt-utils':>12}{'rt-utils / ours':>18}")
    for key in (*theirs, "proof_cpu_s"):
        other = theirs.get(key)
        ratio = f"{other / ours[key]:18.2f}" if other is not None and ours[key] > 1e-9 else ""
        print(f"{key:24}{ours[key]:12.4f}{'' if other is None else f'{other:12.4f}'}{ratio}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="256 x 256 x 60 instead of 512 x 512 x 200")
    parser.add_argument("--one", choices=WRITERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        label_map = load_label_map(arguments.folder)
        print(json.dumps(WRITERS[arguments.one](arguments.folder, label_map)))
        return
    shape = (60, 256, 256) if arguments.small else (200, 512, 512)
    names = [*BALLS, *TUBES]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "ct").mkdir()
        write_series(folder / "ct", shape)
        np.save(folder / "labels.npy", organ_labels(shape, names))
        (folder / "names.json").write_text(json.dumps(names))
        label_map = load_label_map(folder)
        print(f"{len(names)} organs, {np.count_nonzero(label_map.labels)} voxels, {shape}")
        results = {}
        for name in WRITERS:
            command = [sys.executable, __file__, "--one", name, "--folder", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results[name] = json.loads(done.stdout.splitlines()[-1]) | judge(folder, name, label_map)
        report(results)


if __name__ == "__main__":
    main()
