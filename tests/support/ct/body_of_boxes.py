"""A body whose organs are boxes at about their positions in a patient; coarse, complete, fast to write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Grid, Vector
from orgseg_training.datasets.nifti import write_image

GRID = Grid(shape=(76, 28, 42), spacing_mm=(10.0, 8.0, 8.0), origin_mm=(-164.0, -108.0, -270.0))

_SINGLE = {  # centre and half size in LPS mm
    "brain": ((0, 0, 420), (60, 70, 50)),
    "heart": ((20, -30, 150), (45, 40, 45)),
    "aorta": ((6, 34, 100), (10, 10, 120)),
    "esophagus": ((-12, 34, 190), (8, 8, 90)),
    "vertebrae": ((0, 62, 60), (18, 14, 220)),
    "spinal_cord": ((0, 88, 120), (9, 9, 200)),
    "liver": ((-80, -10, 50), (50, 40, 50)),
    "gall_bladder": ((-50, -70, 0), (16, 16, 16)),
    "stomach": ((60, -30, 55), (24, 30, 30)),
    "spleen": ((110, 30, 50), (22, 22, 40)),
    "pancreas": ((15, 10, 0), (40, 12, 14)),
    "colon": ((0, -70, -60), (100, 14, 30)),
    "small_bowel": ((0, -40, -120), (80, 30, 26)),
    "sacrum": ((0, 70, -190), (40, 14, 20)),
    "rectum": ((0, 40, -220), (18, 16, 25)),
    "urinary_bladder": ((0, -30, -215), (30, 30, 30)),
}
_PAIRED = {  # of the left one
    "eyeball": ((36, -80, 400), (9, 9, 12)),
    "clavicle": ((75, -60, 290), (55, 8, 10)),
    "lung": ((85, 10, 190), (30, 50, 80)),
    "rib": ((140, 0, 190), (9, 60, 90)),
    "adrenal_gland": ((40, 50, 35), (10, 10, 14)),
    "kidney": ((65, 60, -30), (22, 20, 40)),
    "hip": ((100, 50, -190), (30, 26, 50)),
    "femoral_head": ((95, 0, -240), (22, 22, 22)),
    "rectus_abdominis": ((30, -94, -60), (25, 9, 90)),
}

Mask = NDArray[np.bool_]


def organ_masks() -> dict[str, Mask]:
    """Voxels of every organ on `GRID`, by key of the organ table; some touch."""
    boxes = dict(_SINGLE)
    for name, (centre, half) in _PAIRED.items():
        boxes[f"{name}_left"] = (centre, half)
        boxes[f"{name}_right"] = ((-centre[0], *centre[1:]), half)
    planes = GRID.to_lps([(k, 0, 0) for k in range(GRID.shape[0])])[:, 2]
    rows = GRID.to_lps([(0, j, 0) for j in range(GRID.shape[1])])[:, 1]
    columns = GRID.to_lps([(0, 0, i) for i in range(GRID.shape[2])])[:, 0]

    def inside(axis: int, centre: Vector, half: Vector) -> Mask:
        """Which planes, rows or columns a box reaches, by LPS axis."""
        return np.abs((columns, rows, planes)[axis] - centre[axis]) <= half[axis]

    return {
        organ: inside(2, *box)[:, None, None] & inside(1, *box)[:, None] & inside(0, *box)
        for organ, box in boxes.items()
    }


def write_ct(path: Path, *, seed: int = 0) -> None:
    """A CT of the body; another seed is another patient."""
    hu = np.full(GRID.shape, -1000, np.int16)
    inside = (slice(1, -1), slice(1, -1), slice(1, -1))
    rng = np.random.default_rng(seed)
    hu[inside] = rng.normal(40, 60, hu[inside].shape).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, hu, GRID)


def label_image(numbers: Mapping[int, str], masks: Mapping[str, Mask]) -> NDArray[np.uint8]:
    """A label image; where organs touch, the later number wins."""
    labels = np.zeros(GRID.shape, np.uint8)
    for number, organ in numbers.items():
        labels[masks[organ]] = number
    return labels


def write_labels(path: Path, labels: NDArray[np.uint8] | Mask, grid: Grid = GRID) -> None:
    """A label image or a mask as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, labels.astype(np.uint8), grid)
