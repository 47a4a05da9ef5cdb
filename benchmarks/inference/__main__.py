"""The streaming engine compared with nnU-Net's predictor, the study's chunks and three parts.

Every method runs the same bundle on the same CT, in a process of its own. The CT is a phantom of the given
size or a folder with a CT series; the bundle is any bundle, or one that is trained on the phantom at the
first run. Printed are seconds, CPU seconds, peak memory, the voxels whose label differs from nnU-Net's, and
the Dice with nnU-Net's labels. Exits 1 if the exact engine differs from nnU-Net in a single voxel on a CPU.
``compiled`` is run without a calibration, which the node would ask for.
On a GPU nnU-Net differs from itself from run to run; run it twice to see how much.

    python -m benchmarks.inference                                   # 512 x 512 x 200, 20 classes, CPU or GPU
    python -m benchmarks.inference --ct CT_FOLDER --bundle starter-hn
    python -m benchmarks.inference --slices 1200 --methods exact     # memory only; nnU-Net would need 60 GB
    python -m benchmarks.inference --slices 400 --folds 5 --features full --device cuda
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.inference.phantom import slices


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The input of every method: files with HU and body mask, spacing, and folder of the bundle."""

    ct: Path
    body: Path | None
    spacing_mm: tuple[float, float, float]
    bundle: Path


METHODS: dict[str, dict[str, Any]] = {
    "nnunet": {"settings": {"method": "whole"}},
    "nnunet again": {"settings": {"method": "whole"}},
    "exact": {"settings": {"method": "streaming", "skip_outside_body": False}},
    "exact, body only": {"settings": {"method": "streaming", "skip_outside_body": True}},
    "fast": {"settings": {"method": "streaming", "backend": "fast", "skip_outside_body": False}},
    "compiled": {"settings": {"method": "streaming", "backend": "compiled", "skip_outside_body": False}},
    "chunked 0 mm": {"settings": {"method": "chunked", "overlap_mm": 0.0}},
    "chunked 50 mm": {"settings": {"method": "chunked", "overlap_mm": 50.0}},
    "three parts": {"settings": {"method": "whole"}, "parts": 3},
}


def main() -> int:
    """Run the benchmark; return the exit status."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    bundle = _bundle(options)
    case = _series(options, bundle) if options.ct else _phantom(options, bundle)
    shape = np.load(case.ct, mmap_mode="r").shape
    spacing = " x ".join(f"{s:g}" for s in case.spacing_mm)
    print(f"CT {' x '.join(map(str, shape))}, {spacing} mm; bundle {bundle.name}")
    results: dict[str, dict[str, Any]] = {}
    for method in options.methods:
        results[method] = _run(method, options, case)
        _print_result(method, results, options.work)
    return _summary(results, must_be_exact=options.device != "cuda")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--spacing-mm", type=float, default=1.5, help="of the network's grid")
    parser.add_argument("--features", choices=("small", "full"), default="small", help="size of the network")
    parser.add_argument("--training-steps", type=int, default=300, help="of the phantom's bundle")
    parser.add_argument("--chunk-mm", type=float, default=150.0)
    parser.add_argument("--memory-budget-mb", type=int)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--ct", type=Path, help="folder with a CT series instead of the phantom")
    parser.add_argument("--bundle", help="name or folder of a bundle instead of the phantom's")
    parser.add_argument("--body", action="store_true", help="crop the phantom to its body, as the node does")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "orgseg-bench-inference")
    default = [method for method in METHODS if method not in {"nnunet again", "fast", "compiled"}]
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=list(METHODS),
        default=default,
        metavar="METHOD",
        help=f"of {list(METHODS)}",
    )
    return parser.parse_args()


def _phantom(options: argparse.Namespace, bundle: Path) -> Case:
    """Write the phantom in blocks of slices."""
    spacing = (2.0, 0.977, 0.977)
    path = options.work / f"phantom-{options.slices}x{options.size}-{options.classes}c.npy"
    mask_path = path.with_suffix(".body.npy")
    shape = (options.slices, options.size, options.size)
    if not mask_path.exists():
        hu = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=shape)
        mask = np.lib.format.open_memmap(mask_path, mode="w+", dtype=np.bool_, shape=shape)
        for start in range(0, options.slices, 20):
            z_mm = np.arange(start, min(start + 20, options.slices)) * spacing[0]
            hu[start : start + 20], _ = slices(z_mm, options.size, spacing[1], options.classes, start)
            mask[start : start + 20] = hu[start : start + 20] > -900
    return Case(ct=path, body=mask_path if options.body else None, spacing_mm=spacing, bundle=bundle)


def _series(options: argparse.Namespace, bundle: Path) -> Case:
    """Read a CT series and find the body, as the node does."""
    from orgseg_node.core.body import find_body  # noqa: PLC0415  # only for real series
    from orgseg_node.dicom.reading.reader import read_volume  # noqa: PLC0415
    from orgseg_node.dicom.reading.series import read_series  # noqa: PLC0415

    volume = read_volume(read_series(options.ct))
    path = options.work / f"series-{options.ct.name}.npy"
    np.save(path, volume.hu)
    body = path.with_suffix(".body.npy")
    np.save(body, find_body(volume).mask)
    return Case(ct=path, body=body, spacing_mm=volume.grid.spacing_mm, bundle=bundle)


def _bundle(options: argparse.Namespace) -> Path:
    from orgseg_node.inference.bundles.bundle import find_bundle  # noqa: PLC0415
    from orgseg_node.shipped import shipped_bundles  # noqa: PLC0415

    if options.bundle:
        given = Path(options.bundle)
        return given if given.is_dir() else find_bundle(options.bundle, [shipped_bundles()]).path
    spec = {
        "classes": options.classes,
        "folds": options.folds,
        "patch": options.patch,
        "spacing_mm": options.spacing_mm,
        "features": options.features,
        "steps": options.training_steps,
    }
    program = "from benchmarks.inference.model import main; main()"  # this process does not import torch
    command = [sys.executable, "-c", program, str(options.work), json.dumps(spec)]
    fast = ["fast"] if "fast" in options.methods else []
    made = subprocess.run([*command, *fast], check=True, stdout=subprocess.PIPE)
    *messages, folder = made.stdout.decode().splitlines()
    print("\n".join(messages))
    return Path(folder)


def _run(method: str, options: argparse.Namespace, case: Case) -> dict[str, Any]:
    settings = METHODS[method]["settings"] | {"device": options.device}
    if settings["method"] == "chunked":
        settings["chunk_mm"] = options.chunk_mm
    if settings["method"] == "streaming":
        settings["memory_budget_mb"] = options.memory_budget_mb
    request = {
        "ct": str(case.ct),
        "body": str(case.body) if case.body else None,
        "spacing_mm": case.spacing_mm,
        "bundle": str(case.bundle),
        "settings": settings,
        "parts": METHODS[method].get("parts", 0),
        "working_mm": options.spacing_mm,
        "labels": str(_labels(options.work, method)),
        "facts": str(options.work / "facts.json"),
    }
    (options.work / "request.json").write_text(json.dumps(request))
    with (options.work / f"{method.replace(' ', '-')}.log").open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.inference.run_one", str(options.work / "request.json")]
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{method} ended with status {done.returncode}; see {log.name}")
    facts: dict[str, Any] = json.loads((options.work / "facts.json").read_text())
    return facts


def _labels(work: Path, method: str) -> Path:
    return work / f"labels-{method.replace(' ', '-').replace(',', '')}.npy"


def _print_result(method: str, results: dict[str, dict[str, Any]], work: Path) -> None:
    """Print time and memory of one method, and compare its labels with nnU-Net's."""
    facts, base = results[method], results.get("nnunet", results[method])
    stages = ", ".join(
        f"{step} {seconds:.1f}" for step, seconds in facts["stages"].items() if seconds >= 0.05
    )
    gpu = f", GPU {facts['gpu_mb']:.0f} MB" if facts["gpu_mb"] else ""
    time_ratio, memory_ratio = (facts[key] / base[key] for key in ("seconds", "peak_mb"))
    print(
        f"{method:17s} {facts['seconds']:8.1f} s ({time_ratio:.3f} x)  CPU {facts['cpu_s']:8.1f} s  "
        f"peak {facts['peak_mb']:6.0f} MB ({memory_ratio:.3f} x){gpu}  [{stages} s]",
        flush=True,
    )
    if "nnunet" in results and method != "nnunet":
        facts |= _compare(_labels(work, method), _labels(work, "nnunet"))
        print(
            f"{'':17s} {facts['differ']} of {facts['voxels']} voxels differ from nnU-Net; Dice of "
            f"{facts['organs']} organs: mean {facts['dice_mean']:.4f}, lowest {facts['dice_lowest']:.4f}",
            flush=True,
        )


def _compare(one: Path, other: Path) -> dict[str, Any]:
    """Voxels that differ, and Dice per organ, slice by slice."""
    a: NDArray[np.uint8] = np.load(one, mmap_mode="r")
    b: NDArray[np.uint8] = np.load(other, mmap_mode="r")
    differ, counts = 0, np.zeros((3, 256), dtype=np.int64)
    for one_plane, other_plane in zip(a, b, strict=True):
        differ += int(np.count_nonzero(one_plane != other_plane))
        for row, values in enumerate((one_plane, other_plane, one_plane[one_plane == other_plane])):
            counts[row] += np.bincount(values.ravel(), minlength=256)
    counts = counts[:, 1:]
    present = counts[1] > 0
    dice = (2 * counts[2] / np.maximum(counts[0] + counts[1], 1))[present]
    return {
        "differ": differ,
        "voxels": a.size,
        "organs": int(present.sum()),
        "dice_mean": statistics.fmean(dice) if dice.size else 1.0,
        "dice_lowest": float(dice.min()) if dice.size else 1.0,
    }


def _summary(results: dict[str, dict[str, Any]], *, must_be_exact: bool) -> int:
    exact, base = results.get("exact"), results.get("nnunet")
    if exact is None or base is None:
        each = [
            f"{method} {facts['seconds']:.1f} s, {facts['peak_mb']:.0f} MB"
            for method, facts in results.items()
        ]
        print("summary: " + "; ".join(each))
        return 0
    parts = [
        f"summary: exact engine / nnU-Net: time {exact['seconds'] / base['seconds']:.3f}",
        f"memory {exact['peak_mb'] / base['peak_mb']:.3f}",
        f"{exact['differ']} voxels differ",
    ]
    if "nnunet again" in results:
        parts.append(f"{results['nnunet again']['differ']} between two runs of nnU-Net")
    if "fast" in results:
        parts.append(f"fast / nnU-Net: time {results['fast']['seconds'] / base['seconds']:.3f}")
    wrong = must_be_exact and exact["differ"] > 0
    print(", ".join(parts) + (" - THE EXACT ENGINE IS NOT EXACT" if wrong else ""))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
