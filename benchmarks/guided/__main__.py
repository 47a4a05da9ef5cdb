"""Single-organ networks led by a guide, compared with runs on the whole CT, in one process.

Two cases: the seven organs of the starter bundle on a head-and-neck CT, each with a network of its own that
has the trained weights; and 26 organs of a phantom, whose network is trained at the first run. Printed are
CPU seconds (which other programs do not change) and tiles without guide, with guide, and of the guide alone;
the voxels that differ, the Dice of each organ with the run without guide, and the same with a guide that was
spoilt on purpose. The last line says how many goals are reached; the exit status is 1 if one is missed.

    python -m benchmarks.guided                          # both cases, up to 10 minutes on 2 cores
    python -m benchmarks.guided --only 7 --ct CT_FOLDER  # seven organs on another CT
    python -m benchmarks.guided --size 512 --slices 400  # a larger phantom
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import structlog

from benchmarks.guided.compare import GuidedCase, compare
from benchmarks.guided.single_organ import single_organ_bundle
from benchmarks.inference.model import BundleSpec, make_bundle
from benchmarks.inference.phantom import slices
from benchmarks.qa.goals import Goal, conclude
from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Volume
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.inference.bundles.bundle import find_bundle
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.guide import attach_guide
from orgseg_node.shipped import shipped_bundles

_PHANTOM_CLASSES = 27
_ENDS_MM = 80.0  # the phantom begins so far before its organs and ends so far behind them
_LENGTH_MM = 400.0


def main() -> None:
    """Measure, print, and exit with the status."""
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    options.work.mkdir(parents=True, exist_ok=True)
    goals: list[Goal] = []
    if "7" in options.only:
        goals += compare(_seven(options))
    if "26" in options.only:
        goals += compare(_twenty_six(options))
    sys.exit(conclude("guided", goals))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=("7", "26"), default=["7", "26"])
    parser.add_argument("--ct", type=Path, help="folder of a head-and-neck CT; by default of the test data")
    parser.add_argument("--every-pixel", type=int, default=1, help="use every n-th row and column of the CT")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the phantom")
    parser.add_argument("--slices", type=int, default=140, help="of the phantom, which is 560 mm long")
    parser.add_argument("--steps", type=int, default=250, help="of the training of the phantom's network")
    parser.add_argument("--guide-step", type=float, default=1.0, help="step of the guide's tiles")
    parser.add_argument("--margin-mm", type=float, default=10.0)
    parser.add_argument("--layout", choices=["auto", *Layout], default="auto", help="of tiles")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "orgseg-bench-guided")
    return parser.parse_args()


def _seven(options: argparse.Namespace) -> GuidedCase:
    """The organs of the starter bundle, each with a network of its own."""
    starter = find_bundle("starter-hn", [shipped_bundles()])
    bundle = attach_guide(single_organ_bundle(starter, "seven", options.work), starter, options.guide_step)
    return GuidedCase(
        name="7 organs",
        volume=_thinned(read_volume(read_series(_ct(options))), options.every_pixel),
        bundle=bundle,
        layouts=tuple(Layout) if options.layout == "auto" else (Layout(options.layout),),
        margin_mm=options.margin_mm,
        most=1.5,
    )


def _ct(options: argparse.Namespace) -> Path:
    if options.ct:
        return Path(options.ct)
    data = os.environ.get("ORGSEG_TEST_DATA")
    if not data:
        raise SystemExit("Give a head-and-neck CT with --ct, or the test data by ORGSEG_TEST_DATA.")
    folder: Path = options.work / "pycerr_hn_pt1"
    if not folder.exists():
        with tarfile.open(Path(data) / "dicom" / folder.name / "ct.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return folder


def _thinned(volume: Volume, every: int) -> Volume:
    """Every n-th row and column of a CT, for a quicker run."""
    if every == 1:
        return volume
    grid, hu = volume.grid, np.ascontiguousarray(volume.hu[:, ::every, ::every])
    k, j, i = grid.spacing_mm
    thinner = Grid(
        shape=hu.shape, spacing_mm=(k, j * every, i * every), origin_mm=grid.origin_mm, axes=grid.axes
    )
    return Volume(grid=thinner, hu=hu)


def _twenty_six(options: argparse.Namespace) -> GuidedCase:
    """The organs of a phantom; the network that finds all of them is the guide."""
    spec = BundleSpec(
        classes=_PHANTOM_CLASSES, folds=1, patch=48, spacing_mm=3.0, features="small", steps=options.steps
    )
    all_organs = make_bundle(spec, options.work)
    bundle = attach_guide(
        single_organ_bundle(all_organs, f"single-{spec.name}", options.work), all_organs, options.guide_step
    )
    return GuidedCase(
        name="26 organs",
        volume=_phantom(options.size, options.slices),
        bundle=bundle,
        layouts=tuple(Layout) if options.layout == "auto" else (Layout(options.layout),),
        margin_mm=options.margin_mm,
        most=2.5,
    )


def _phantom(size: int, count: int) -> Volume:
    """Each organ of the phantom once, whole."""
    step = (_LENGTH_MM + 2 * _ENDS_MM) / count
    z_mm = np.arange(count) * step - _ENDS_MM
    pixel = 400.0 / size
    hu, _ = slices(z_mm, size, pixel, _PHANTOM_CLASSES, seed=99, period_mm=10 * _LENGTH_MM)
    grid = Grid(shape=hu.shape, spacing_mm=(step, pixel, pixel), origin_mm=(0.0, 0.0, 0.0))
    return Volume(grid=grid, hu=hu)


if __name__ == "__main__":
    main()
