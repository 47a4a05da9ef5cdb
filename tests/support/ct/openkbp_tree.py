"""A small data set in the public OpenKBP layout, with organs that a network can find."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from orgseg_node.core.geometry import Grid
from orgseg_training.datasets.nifti import write_image
from orgseg_training.datasets.openkbp import LABELS, ORGANS

SHAPE = (32, 48, 48)
_PLACES = {  # centre (z, y, x) in voxels and HU of each organ
    "brainstem": ((24, 26, 24), 200),
    "spinal_cord": ((12, 30, 24), 300),
    "parotid_right": ((22, 24, 14), -120),
    "parotid_left": ((22, 24, 34), -120),
    "esophagus": ((6, 22, 24), 400),
    "larynx": ((12, 18, 24), -200),
    "mandible": ((20, 14, 24), 900),
}


def write_openkbp_tree(folder: Path, drawn: Mapping[str, Sequence[str]], locked: Sequence[str] = ()) -> Path:
    """Write images, labels and ``cases.csv``.

    Parameters
    ----------
    folder : to write to
    drawn : organ keys that were drawn, by name of the patient
    locked : patients of the challenge's test split
    """
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (name, organs) in enumerate(drawn.items()):
        image, labels = _patient(number, organs)
        grid = Grid(shape=SHAPE, spacing_mm=(4.0, 4.0, 4.0), origin_mm=(-94.0, -94.0, 0.0))
        write_image(folder / "imagesTr" / f"{name}_0000.nii.gz", image, grid)
        write_image(folder / "labelsTr" / f"{name}.nii.gz", labels, grid)
        part = "test-pats" if name in locked else "train-pats"
        counts = {
            column: str((labels == LABELS[key]).sum()) if key in organs else ""
            for column, key in ORGANS.items()
        }
        rows.append({"case": name, "source": f"provided-data/{part}/{name}"} | counts)
    with (folder / "cases.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _patient(seed: int, organs: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = np.broadcast_to(((y - 24) / 18) ** 2 + ((x - 24) / (17 + np.sin(z / 4))) ** 2 <= 1, SHAPE)
    image = np.where(body, 30 + rng.normal(0, 10, SHAPE), -1000).astype(np.int16)
    labels = np.zeros(SHAPE, np.uint8)
    shift = rng.integers(-1, 2, 3)
    for organ, (centre, hu) in _PLACES.items():
        cz, cy, cx = np.add(centre, shift)
        inside = ((z - cz) / 5) ** 2 + ((y - cy) / 3) ** 2 + ((x - cx) / 3) ** 2 <= 1
        image[inside] = hu
        if organ in organs:
            labels[inside] = LABELS[organ]
    return image, labels
