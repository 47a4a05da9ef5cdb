"""The node's RTSTRUCT writer compared with rt-utils: CPU time, memory, volume error, and how readers read it.

    python benchmarks/contours.py            20 organs on 512 x 512 x 200
    python benchmarks/contours.py --small    the same on 256 x 256 x 60

Each writer runs three times, alternately and in a process of its own that imports nothing of the other, from
the CT series on disk and a label map to the saved file; the median counts. Both files are read by the same
reader: contours are filled by the even-odd rule at the pixel centres, volumes are computed from the areas of
the polygons. The node's file is also read by plastimatch and dcmrtstruct2nii. rt-utils gets the masks in the
memory order in which it is fastest. The exit status is 1 if one of the bounds below is exceeded.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.contours_phantom import NAMES, Labels, organ_labels, write_series
from orgseg_node.core.rasterise import Contour
from orgseg_node.core.volume import LabelMap

Masks = Mapping[str, NDArray[np.bool_]]

FULL_SIZE, SMALL_SIZE = (200, 512, 512), (60, 256, 256)
RUNS = 3
BOUNDS = {  # minimum (dice) or maximum (all others)
    "dice_node_min": 1.0,
    "dice_plastimatch_min": 1.0,
    "dice_dcmrtstruct2nii_min": 1.0,
    "volume_error_mean": 0.0002,
    "volume_error_worst": 0.001,
    "cpu_ratio": 0.45,
    "memory_ratio": 0.40,
    "largest_contour_bytes": 59_999,
    "longest_number": 16,
}
ONLY_FULL_SIZE = {"volume_error_mean", "volume_error_worst", "cpu_ratio", "memory_ratio"}


def peak_mb() -> float:
    """Peak memory of this process; getrusage would also count the memory of its parent before exec."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024


def with_node(folder: Path) -> dict[str, float]:
    from orgseg_node.core.contours import trace  # noqa: PLC0415
    from orgseg_node.dicom.objects.provenance import ModelVersion, Provenance  # noqa: PLC0415
    from orgseg_node.dicom.objects.rtstruct import prove, write_rtstruct  # noqa: PLC0415
    from orgseg_node.dicom.reading.series import read_series  # noqa: PLC0415
    from orgseg_node.dicom.tps.tps import GENERIC, require_valid  # noqa: PLC0415

    provenance = Provenance(
        job_id="benchmark",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        models=(ModelVersion(name="benchmark", version="1", sha256="0" * 64),),
    )
    label_map = load_label_map(folder)
    start = time.process_time()
    series = read_series(folder / "ct")
    read = time.process_time()
    structure_set = trace(label_map)
    traced = time.process_time()
    dataset = write_rtstruct(structure_set, series, provenance)
    dataset.save_as(folder / "node.dcm", enforce_file_format=True)
    written = time.process_time()
    peak = peak_mb()  # before proof and check, which rt-utils does not do
    prove(dataset, label_map, series)
    proven = time.process_time()
    require_valid(dataset, GENERIC)
    return {
        "read_cpu_s": read - start,
        "contours_cpu_s": traced - read,
        "write_cpu_s": written - traced,
        "total_cpu_s": written - start,
        "proof_cpu_s": proven - written,
        "check_cpu_s": time.process_time() - proven,
        "peak_mb": peak,
    }


def with_rt_utils(folder: Path) -> dict[str, float]:
    from rt_utils import RTStructBuilder  # noqa: PLC0415

    labels = np.load(folder / "labels.npy")
    start = time.process_time()
    structure_set = RTStructBuilder.create_new(dicom_series_path=str(folder / "ct"))
    read = time.process_time()
    for label, name in enumerate(NAMES, start=1):
        structure_set.add_roi(mask=np.moveaxis(np.equal(labels, label), 0, 2), name=name)
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


WRITERS: dict[str, Callable[[Path], dict[str, float]]] = {"node": with_node, "rt-utils": with_rt_utils}


def load_label_map(folder: Path) -> LabelMap:
    from orgseg_node.core.organs import load_organs  # noqa: PLC0415
    from orgseg_node.dicom.reading.series import read_series  # noqa: PLC0415
    from orgseg_node.shipped import shipped_config  # noqa: PLC0415

    table = load_organs(shipped_config("organs.toml"))
    organs = {label: table[name] for label, name in enumerate(NAMES, start=1)}
    return LabelMap(
        grid=read_series(folder / "ct").geometry, labels=np.load(folder / "labels.npy"), organs=organs
    )


def area_px(contours: Iterable[Contour]) -> float:
    """Enclosed area under the even-odd rule: a contour inside an odd number of others is a hole."""
    from matplotlib.path import Path as Polygon  # noqa: PLC0415

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


def read_back(folder: Path, writer: str, names: Mapping[int, str], labels: Labels) -> dict[str, float]:
    """Read a file with the node's own reader and compare it with the label map.

    Parameters
    ----------
    folder : with the series and the file
    writer : name of the writer, and of its file
    names : ROI name of each label number
    labels : (K, J, I) uint8, the label map

    Returns
    -------
    Dice, volume errors, number of points and sizes, by name
    """
    from orgseg_node.core.contours import rasterise  # noqa: PLC0415
    from orgseg_node.dicom.objects.rtstruct import read_rtstruct  # noqa: PLC0415
    from orgseg_node.dicom.reading.series import read_series  # noqa: PLC0415

    series = read_series(folder / "ct")
    found = read_rtstruct(dcmread(folder / f"{writer}.dcm"), series)
    masks = {name: rasterise(contours, series.geometry) for name, contours in found.items()}
    errors = [abs(area_px(found[name]) / np.equal(labels, label).sum() - 1) for label, name in names.items()]
    mean, lowest = overlaps(masks, names, labels)
    return {
        "dice_node_mean": mean,
        "dice_node_min": lowest,
        "volume_error_mean": float(np.mean(errors)),
        "volume_error_worst": float(np.max(errors)),
        "points": sum(len(c.points) for contours in found.values() for c in contours),
        "size_mb": (folder / f"{writer}.dcm").stat().st_size / 1e6,
    } | sizes(dcmread(folder / f"{writer}.dcm"))


def sizes(dataset: Dataset) -> dict[str, float]:
    """The largest Contour Data and the longest number in it, as stored."""
    texts = [
        bytes(contour.get_item("ContourData").value)
        for roi in dataset.ROIContourSequence
        for contour in roi.ContourSequence
    ]
    longest = max(len(word.strip()) for text in texts for word in text.split(b"\\"))
    return {"largest_contour_bytes": max(map(len, texts)), "longest_number": longest}


def overlaps(masks: Masks, names: Mapping[int, str], labels: Labels) -> tuple[float, float]:
    """Mean and lowest Dice of masks with the label map; a missing mask counts as 0.

    Parameters
    ----------
    masks : (K, J, I) bool by ROI name
    names : ROI name of each label number
    labels : (K, J, I) uint8, the label map
    """
    from orgseg_node.core.metrics import dice  # noqa: PLC0415

    found = [
        dice(masks[name], np.equal(labels, label)) if name in masks else 0.0 for label, name in names.items()
    ]
    return float(np.mean(found)), float(np.min(found))


def plastimatch_masks(folder: Path) -> Masks:
    command = ["plastimatch", "convert", "--input", str(folder / "node.dcm"), "--prefix-format", "mha"]
    command += ["--referenced-ct", str(folder / "ct"), "--output-prefix", str(folder / "plastimatch")]
    subprocess.run(command, check=True, capture_output=True)
    return _masks_in(folder / "plastimatch", ".mha", "")


def dcmrtstruct2nii_masks(folder: Path) -> Masks:
    program = "import sys, pydicom; pydicom.read_file = pydicom.dcmread; "  # the name it had until pydicom 3
    program += "from dcmrtstruct2nii import dcmrtstruct2nii as convert; "
    program += "convert(*sys.argv[1:4], gzip=False, convert_original_dicom=False)"
    paths = [str(folder / "node.dcm"), str(folder / "ct"), str(folder / "dcmrtstruct2nii")]
    subprocess.run([sys.executable, "-c", program, *paths], check=True, capture_output=True)
    return _masks_in(folder / "dcmrtstruct2nii", ".nii", "mask_")


def _masks_in(folder: Path, suffix: str, prefix: str) -> Masks:
    import SimpleITK  # noqa: PLC0415

    return {
        path.name.removesuffix(suffix).removeprefix(prefix): SimpleITK.GetArrayFromImage(
            SimpleITK.ReadImage(str(path))
        )
        > 0
        for path in sorted(folder.glob(f"*{suffix}"))
    }


READERS: dict[str, Callable[[Path], Masks]] = {
    "plastimatch": plastimatch_masks,
    "dcmrtstruct2nii": dcmrtstruct2nii_masks,
}


def run_writers(folder: Path) -> dict[str, dict[str, float]]:
    """Run the writers alternately; the median of each number."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in WRITERS}
    for _ in range(RUNS):
        for name in WRITERS:
            command = [sys.executable, __file__, "--one", name, "--folder", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: {key: statistics.median(run[key] for run in of_one) for key in of_one[0]}
        for name, of_one in runs.items()
    }


def report(results: dict[str, dict[str, float]]) -> None:
    node, rt_utils = results["node"], results["rt-utils"]
    print(f"{'':26}{'node':>12}{'rt-utils':>12}{'node / rt-utils':>18}")
    for key, value in node.items():
        other = rt_utils.get(key)
        ratio = f"{value / other:18.2f}" if other else ""
        print(f"{key:26}{value:12.5g}{'' if other is None else f'{other:12.5g}'}{ratio}")


def exceeded(numbers: Mapping[str, float], *, is_full_size: bool) -> list[str]:
    """Print each measured number with its bound; the names of the bounds that are exceeded."""
    wrong = []
    for key, bound in BOUNDS.items():
        if key in ONLY_FULL_SIZE and not is_full_size:
            print(f"{key:26}{numbers[key]:12.5g}  not checked on a small series")
            continue
        sign, holds = "<=", numbers[key] <= bound
        if key.startswith("dice"):
            sign, holds = ">=", numbers[key] >= bound
        print(f"{key:26}{numbers[key]:12.5g}  {sign} {bound:<8g} {'' if holds else 'EXCEEDED'}")
        wrong += [] if holds else [key]
    return wrong


def compare(folder: Path, shape: tuple[int, int, int]) -> list[str]:
    (folder / "ct").mkdir()
    write_series(folder / "ct", shape)
    labels = organ_labels(shape)
    np.save(folder / "labels.npy", labels)
    organs = load_label_map(folder).organs
    written = {label: organ.name for label, organ in organs.items()}
    print(f"{len(NAMES)} organs, {np.count_nonzero(labels)} voxels, {shape}, median of {RUNS} runs")
    results = run_writers(folder)
    results["node"] |= read_back(folder, "node", written, labels)
    results["rt-utils"] |= read_back(folder, "rt-utils", dict(enumerate(NAMES, start=1)), labels)
    for name, masks_of in READERS.items():
        mean, lowest = overlaps(masks_of(folder), written, labels)
        results["node"] |= {f"dice_{name}_mean": mean, f"dice_{name}_min": lowest}
    report(results)
    node, rt_utils = results["node"], results["rt-utils"]
    ratios = {
        "cpu_ratio": node["total_cpu_s"] / rt_utils["total_cpu_s"],
        "memory_ratio": node["peak_mb"] / rt_utils["peak_mb"],
    }
    return exceeded(node | ratios, is_full_size=shape == FULL_SIZE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="256 x 256 x 60 instead of 512 x 512 x 200")
    parser.add_argument("--one", choices=WRITERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(WRITERS[arguments.one](arguments.folder)))
        return 0
    if shutil.which("plastimatch") is None:
        print("plastimatch is not installed; its bound cannot be checked.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        wrong = compare(Path(temporary), SMALL_SIZE if arguments.small else FULL_SIZE)
    print(f"Bounds exceeded: {', '.join(wrong)}" if wrong else "All bounds hold.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
