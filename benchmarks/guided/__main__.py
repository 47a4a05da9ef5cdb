"""Single-organ networks led by a guide, compared with runs on the whole CT, in one process.

Seven organs on a head-and-neck CT and a thorax CT, each with a network of its own that has the trained
weights of the starter bundle, led by one network on a grid of 6 mm that is trained at the first run, for some
minutes, and kept in the folder of ``--work``; and 26 organs of a phantom, by networks whose weights are set,
led by the network that finds all of them, and three of them that a protocol asks for. They are compared with
one network that finds all organs at once.

First the seven networks are calibrated on locked patients with clinical contours, so that the layout of tiles
is the one that a node would use. Printed are CPU seconds (which other programs do not change), tiles, voxels
that differ, the Dice of each organ, and the same with a guide that was spoilt on purpose. The last line says
how many goals are reached; the exit status is 1 if one is missed.

    python -m benchmarks.guided                          # all; takes long
    python -m benchmarks.guided --only 7 --patients 0    # seven organs on one CT, without a calibration
    python -m benchmarks.guided --only 7 --ct CT_FOLDER  # seven organs on another CT
    python -m benchmarks.guided --only 7 --guide BUNDLE  # led by another network of all organs, such as one
                                                         # that orgseg-train tune made with starter-tune.toml
    python -m benchmarks.guided --only 7 --no-sparse     # with all tiles where the guide led to nothing
    python -m benchmarks.guided --size 512 --slices 400  # a larger phantom
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import structlog

from benchmarks.guided.coarse_guide import coarse_guide
from benchmarks.guided.compare import GuidedCase, compare
from benchmarks.guided.patients import calibrate_on_patients
from benchmarks.guided.phantom import phantom, possible_names
from benchmarks.guided.phantom_network import phantom_bundle
from benchmarks.guided.single_organ import single_organ_bundle
from benchmarks.qa.goals import Goal, conclude
from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Volume
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.inference.backends.guided.guide import GuidedRun
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle, open_bundle
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.engine.suspicion import SUSPICION
from orgseg_node.inference.guide import attach_guide
from orgseg_node.shipped import shipped_bundles

_DATA_SET = "openkbp_head_neck"


def main() -> None:
    """Measure, print, and exit with the status."""
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    options.work.mkdir(parents=True, exist_ok=True)
    goals: list[Goal] = []
    if "7" in options.only:
        goals += _seven(options)
    if "26" in options.only:
        goals += _twenty_six(options)
    sys.exit(conclude("guided", goals))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=("7", "26"), default=["7", "26"])
    parser.add_argument(
        "--ct",
        type=Path,
        nargs="+",
        default=[Path("pycerr_hn_pt1"), Path("LUNG1-001")],
        help="folders of CTs for the seven organs, or names of CTs of the test data",
    )
    parser.add_argument("--every-pixel", type=int, default=1, help="use every n-th row and column of the CT")
    parser.add_argument("--patients", type=int, default=6, help="of the calibration; 0 for none")
    parser.add_argument("--guide", type=Path, help="folder of a bundle as guide, which is not trained then")
    parser.add_argument("--guide-steps", type=int, default=150, help="of the training of the guide")
    parser.add_argument("--size", type=int, default=256, help="rows and columns of the phantom")
    parser.add_argument("--slices", type=int, default=140, help="of the phantom, which is 560 mm long")
    parser.add_argument("--spacing-mm", type=float, default=3.0, help="of the phantom's networks")
    parser.add_argument("--guide-step", type=float, default=1.0, help="step of the guide's tiles")
    parser.add_argument("--margin-mm", type=float, default=5.0)
    parser.add_argument(
        "--sparse",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="search the whole CT with few tiles first, where the guide led to nothing",
    )
    parser.add_argument(
        "--suspicion", type=float, default=SUSPICION, help="from which the guide is not silent"
    )
    parser.add_argument(
        "--layouts", nargs="+", choices=list(Layout), default=["few", "once"], help="of tiles, cheapest first"
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "orgseg-bench-guided")
    return parser.parse_args()


def _seven(options: argparse.Namespace) -> list[Goal]:
    """The organs of the starter bundle, each with a network of its own."""
    starter = find_bundle("starter-hn", [shipped_bundles()])
    if options.guide:
        guide = open_bundle(options.guide)
    else:
        guide = coarse_guide(_test_data() / _DATA_SET, options.work, options.guide_steps, starter)
    bundle = attach_guide(single_organ_bundle(starter, "seven", options.work), guide, options.guide_step)
    layouts = tuple(Layout(each) for each in options.layouts)
    goals: list[Goal] = []
    if options.patients:
        data = _test_data() / _DATA_SET
        run = GuidedRun(
            layout=layouts[0],
            margin_mm=options.margin_mm,
            sparse=options.sparse,
            suspicion=_suspicion(options),
            explained=True,
        )
        goals, accepted = calibrate_on_patients(bundle, data, options.patients, layouts, run)
        layouts = layouts if accepted is None else (accepted,)
    for ct in options.ct:
        case = GuidedCase(
            name=f"7 organs, {ct.name}",
            volume=_thinned(read_volume(read_series(_ct(ct, options.work))), options.every_pixel),
            bundle=bundle,
            together=_together(starter),
            layouts=layouts,
            margin_mm=options.margin_mm,
            sparse=options.sparse,
            suspicion=_suspicion(options),
            most=1.5,
        )
        goals += compare(case)
    return goals


def _suspicion(options: argparse.Namespace) -> float | None:
    return options.suspicion if options.sparse else None


def _together(starter: ModelBundle) -> ModelBundle:
    """The network of a bundle that finds most organs at once, in a bundle of its own."""
    part = max(starter.manifest.parts, key=lambda each: len(each.labels))
    return replace(starter, manifest=replace(starter.manifest, parts=(part,)))


def _test_data() -> Path:
    data = os.environ.get("ORGSEG_TEST_DATA")
    if not data:
        raise SystemExit("Name the folder of the test data by ORGSEG_TEST_DATA.")
    return Path(data)


def _ct(ct: Path, work: Path) -> Path:
    """The folder of a CT; one of the test data is unpacked first."""
    if ct.is_dir():
        return ct
    folder = work / ct.name
    if not folder.exists():
        with tarfile.open(_test_data() / "dicom" / folder.name / "ct.tar.gz") as archive:
            archive.extractall(folder, filter="data")
    return folder


def _thinned(volume: Volume, every: int) -> Volume:
    """Every n-th row and column of a CT, for a quicker run."""
    if every == 1:
        return volume
    grid, hu = volume.grid, volume.hu[:, ::every, ::every].copy()
    k, j, i = grid.spacing_mm
    thinner = Grid(
        shape=hu.shape, spacing_mm=(k, j * every, i * every), origin_mm=grid.origin_mm, axes=grid.axes
    )
    return Volume(grid=thinner, hu=hu)


def _twenty_six(options: argparse.Namespace) -> list[Goal]:
    """The organs of a phantom; the network that finds all of them is the guide."""
    keys = possible_names()
    together, single = (
        phantom_bundle(keys, options.spacing_mm, options.work, single=single) for single in (False, True)
    )
    case = GuidedCase(
        name="26 organs",
        volume=phantom(options.size, options.slices),
        bundle=attach_guide(single, together, options.guide_step),
        together=together,
        layouts=tuple(Layout(each) for each in options.layouts),
        margin_mm=options.margin_mm,
        sparse=options.sparse,
        suspicion=_suspicion(options),
        most=2.5,
        requested=3,
    )
    return compare(case)


if __name__ == "__main__":
    main()
