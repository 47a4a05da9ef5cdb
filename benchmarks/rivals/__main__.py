"""TotalSegmentator and our engine on the same CT with the same weights: labels that differ, time, memory.

With TotalSegmentator's weights, as a hospital has them, and a CT series:

    python -m benchmarks.rivals --weights ~/.totalsegmentator/nnunet/results --task total --ct CT_FOLDER

Where the package TotalSegmentator is installed, it is called; otherwise nnU-Net's predictor is called as
TotalSegmentator calls it, and the output says so. Without `--weights`, networks with random weights in
TotalSegmentator's folders and with its label maps are made, which measure time and memory. Their labels
change from voxel to voxel, so only the first part tells something about labels: on a CT that has the spacing
of the networks, where TotalSegmentator resamples nothing, no voxel may differ but where it has a label that
is no organ of the table. The exit status is 1 if one does.

Each program runs in processes of its own; the memory is that of all its processes together. TotalSegmentator
reads a NIfTI file and writes none; our engine reads the same voxels. Reading DICOM, contours and objects are
in neither.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from numpy.typing import NDArray

from benchmarks.inference.phantom import slices
from benchmarks.rivals.comparison import Difference, compare
from benchmarks.rivals.measured import Measured, run_measured
from benchmarks.rivals.networks import CHANNELS, SPACING_MM, trainer_of, write_random_weights
from orgseg_node.core.body import find_body
from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Volume
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.importing import ImportOptions, import_model, of_task
from orgseg_node.inference.bundles.totalsegmentator import TASKS
from orgseg_node.inference.orientation import reorientation_to
from orgseg_node.organ_table import organ_table

_FINE_MM: Final = (2.0, 0.977, 0.977)
_CLASSES: Final = 20
RIVAL: Final = "TotalSegmentator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What both programs get.

    Attributes
    ----------
    options : of the command line
    weights : folder of the data sets
    bundle : imported from it
    models : folder of each network, and the number added to its labels
    """

    options: argparse.Namespace
    weights: Path
    bundle: ModelBundle
    models: tuple[tuple[str, int], ...]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = _options().parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    inputs = _inputs(options)
    wrong = 0
    if options.weights is None and options.only != "ct":
        print("random weights: labels tell nothing but where both must be the same")
        same = _phantom(options.slices // 2, options.size // 4, (SPACING_MM[options.task],) * 3)
        wrong = _compare_on("same grid", same, inputs, bodies=False)
    if options.only != "same-grid":
        volume = _series(options.ct) if options.ct else _phantom_of(options)
        _compare_on("CT", volume, inputs, bodies=True)
    return int(wrong > 0)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rivals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", choices=list(SPACING_MM), default="total_fast")
    parser.add_argument(
        "--weights", type=Path, help="folder of TotalSegmentator's weights; otherwise random ones"
    )
    parser.add_argument("--ct", type=Path, help="folder with a CT series; otherwise a phantom")
    parser.add_argument("--network", choices=list(CHANNELS), default="full", help="size of random networks")
    parser.add_argument("--slices", type=int, default=100, help="of the phantom, 2 mm each")
    parser.add_argument("--size", type=int, default=448, help="rows and columns of the phantom")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--threads", type=int, help="of our engine; all cores if not given, as TotalSegmentator"
    )
    parser.add_argument("--only", choices=("same-grid", "ct"), help="one part; with random weights both run")
    parser.add_argument("--replica", action="store_true", help="do not call the package, even if installed")
    parser.add_argument(
        "--saving-processes", type=int, default=6, help="processes that TotalSegmentator saves with"
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "orgseg-bench-rivals")
    return parser


def _inputs(options: argparse.Namespace) -> Inputs:
    weights = options.weights or write_random_weights(
        options.work / f"weights-{options.network}", options.task, options.network
    )
    name = f"{options.task}-{'given' if options.weights else options.network}"
    folder = options.work / "bundles" / name
    if folder.is_dir():
        bundle = open_bundle(folder)
    else:
        wanted = ImportOptions(name=name, folder=folder.parent, table=organ_table(), known_only=True)
        bundle = import_model(weights, of_task(wanted, TASKS[options.task]))
    models, offset = [], 0
    for number in TASKS[options.task].datasets:
        pattern = f"Dataset{number}_*/{trainer_of(options.task)}__nnUNetPlans__3d_fullres"
        (model,) = weights.expanduser().glob(pattern)
        models.append((str(model), offset))
        labels = json.loads((model / "dataset.json").read_text())["labels"]
        offset += sum(1 for value in labels.values() if value)
    return Inputs(options=options, weights=weights, bundle=bundle, models=tuple(models))


def _series(folder: Path) -> Volume:
    volume = read_volume(read_series(folder))
    return reorientation_to(volume.grid).apply_to_volume(volume)


def _phantom_of(options: argparse.Namespace) -> Volume:
    return _phantom(options.slices, options.size, _FINE_MM)


def _phantom(count: int, size: int, spacing_mm: tuple[float, float, float]) -> Volume:
    z_mm = np.arange(count) * spacing_mm[0]
    hu, _ = slices(z_mm, size, spacing_mm[1], _CLASSES, 0)
    grid = Grid(shape=hu.shape, spacing_mm=spacing_mm, origin_mm=(0.0, 0.0, 0.0))
    return Volume(grid=grid, hu=hu)


def _compare_on(title: str, volume: Volume, inputs: Inputs, *, bodies: bool) -> int:
    """Run all on one CT and print what was measured; returns the voxels that must not differ and do."""
    shape, spacing = volume.grid.shape, volume.grid.spacing_mm
    print(
        f"\n{title}: {' x '.join(map(str, shape))} voxels of {' x '.join(f'{s:g}' for s in spacing)} mm, "
        f"task {inputs.options.task}, {len(inputs.models)} networks, {inputs.options.device}",
        flush=True,
    )
    work = inputs.options.work / title.replace(" ", "-")
    work.mkdir(exist_ok=True)
    np.save(work / "ct.npy", volume.hu)
    rival, facts = _run_rival(volume, inputs, work)
    _print(facts["by"], rival, rival, facts["stages"])
    labels = np.load(work / "rival.npy")
    theirs = _in_our_numbers(labels, inputs)
    known = (labels == 0) | (theirs > 0)
    wrong = 0
    ways: list[tuple[str, NDArray[np.bool_] | None]] = [("ours, whole image", None)]
    if bodies:
        started = time.perf_counter()
        ways.append(("ours, the patient alone", find_body(volume).mask))
        print(f"the body was found in {time.perf_counter() - started:.1f} s, which is in no row")
    for name, body in ways:
        ours, stages = _run_ours(volume, body, inputs, work)
        _print(name, ours, rival, stages)
        found = compare(np.load(work / "ours.npy"), theirs, known)
        print(f"{'':34s} {found}", flush=True)
        wrong += found.differ_known
        summary = _summary(title, name, ours, rival, found)
        print(summary, flush=True)
    return wrong


def _run_rival(volume: Volume, inputs: Inputs, work: Path) -> tuple[Measured, dict[str, Any]]:
    nibabel.save(nibabel.Nifti1Image(volume.hu.transpose(2, 1, 0), volume.grid.ras_affine), work / "ct.nii")
    request = {
        "ct": str(work / "ct.nii"),
        "task": inputs.options.task,
        "spacing_mm": SPACING_MM[inputs.options.task],
        "weights": str(inputs.weights),
        "models": inputs.models,
        "device": inputs.options.device,
        "saving_processes": inputs.options.saving_processes,
        "replica": inputs.options.replica,
        "home": str(inputs.options.work / "home"),
        "labels": str(work / "rival.npy"),
        "facts": str(work / "rival.json"),
    }
    (work / "rival-request.json").write_text(json.dumps(request))
    command = [sys.executable, "-m", "benchmarks.rivals.totalsegmentator", str(work / "rival-request.json")]
    measured = run_measured(command, work / "rival.log")
    return measured, json.loads((work / "rival.json").read_text())


def _run_ours(
    volume: Volume, body: NDArray[np.bool_] | None, inputs: Inputs, work: Path
) -> tuple[Measured, dict[str, float]]:
    if body is not None:
        np.save(work / "body.npy", body)
    settings = {"method": "streaming", "device": inputs.options.device, "threads": inputs.options.threads}
    request = {
        "ct": str(work / "ct.npy"),
        "body": None if body is None else str(work / "body.npy"),
        "spacing_mm": volume.grid.spacing_mm,
        "bundle": str(inputs.bundle.path),
        "settings": settings | {"skip_outside_body": body is not None},
        "parts": 0,
        "working_mm": SPACING_MM[inputs.options.task],
        "labels": str(work / "ours.npy"),
        "facts": str(work / "ours.json"),
    }
    (work / "ours-request.json").write_text(json.dumps(request))
    command = [sys.executable, "-m", "benchmarks.inference.run_one", str(work / "ours-request.json")]
    measured = run_measured(command, work / "ours.log")
    return measured, json.loads((work / "ours.json").read_text())["stages"]


def _in_our_numbers(labels: NDArray[np.uint8], inputs: Inputs) -> NDArray[np.uint8]:
    """TotalSegmentator's numbers as those of the bundle; organs that the import left out are 0."""
    manifest = inputs.bundle.manifest
    ours = {key: number for number, key in enumerate(manifest.priorities, start=1)}
    table = np.zeros(256, dtype=np.uint8)
    for part, (_, offset) in zip(manifest.parts, inputs.models, strict=True):
        for number, key in part.labels.items():
            table[number + offset] = ours[key]
    return table[labels]


def _print(name: str, one: Measured, base: Measured, stages: dict[str, float]) -> None:
    listed = ", ".join(f"{step} {seconds:.1f}" for step, seconds in stages.items() if seconds >= 0.05)
    print(
        f"{name:34s} {one.seconds:7.1f} s ({one.seconds / base.seconds:.2f} x)  CPU {one.cpu_s:7.1f} s  "
        f"memory {one.peak_mb:6.0f} MB ({one.peak_mb / base.peak_mb:.2f} x)  [{listed} s]",
        flush=True,
    )


def _summary(title: str, name: str, one: Measured, base: Measured, found: Difference) -> str:
    return (
        f"summary, {title}: {name} / {RIVAL}: time {one.seconds / base.seconds:.3f}, memory "
        f"{one.peak_mb / base.peak_mb:.3f}, {found.differ} of {found.voxels} voxels differ"
    )


if __name__ == "__main__":
    sys.exit(main())
