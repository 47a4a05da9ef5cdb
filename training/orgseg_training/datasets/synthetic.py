"""Synthetic patients in the layout of OpenKBP: to try the pipeline, never for a model."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import Grid
from orgseg_node.durable import atomic_folder
from orgseg_training.datasets.nifti import write_image
from orgseg_training.datasets.openkbp import LABELS, ORGANS

_SHAPE: Final = (28, 48, 48)
_SPACING_MM: Final = 4.0
_PLACES: Final = {"mandible": ((20, 16, 24), 900), "larynx": ((11, 20, 24), -250)}
"""Centre (k, j, i) in voxels and HU of each organ."""
_RADII: Final = (4.0, 4.0, 5.0)


def write_patients(
    folder: Path, *, patients: int = 8, tests: int = 2, first_seed: int = 0, varied: bool = False
) -> None:
    """Write a data set in which the mandible is drawn in all, the larynx in every second patient.

    Parameters
    ----------
    folder : to write, complete or not at all
    patients : number of patients
    tests : number of them in the data set's own test split, with both organs drawn
    first_seed : of the first patient; the same seed gives the same patient
    varied : place and size of each organ differ between patients, and contours differ from what is there, as
        those of persons do; without it a reference of these contours calls every result implausible
    """
    with atomic_folder(folder) as work:
        for sub in ("imagesTr", "labelsTr"):
            (work / sub).mkdir()
        rows = []
        for number in range(patients):
            locked = number >= patients - tests
            drawn = {"mandible", "larynx"} if locked or number % 2 == 0 else {"mandible"}
            name = f"SYN_{number:03d}"
            image, labels = _patient(first_seed + number, drawn, varied=varied)
            grid = Grid(shape=_SHAPE, spacing_mm=(_SPACING_MM,) * 3, origin_mm=(-94.0, -94.0, 0.0))
            write_image(work / "imagesTr" / f"{name}_0000.nii.gz", image, grid)
            write_image(work / "labelsTr" / f"{name}.nii.gz", labels, grid)
            counts = {
                column: str(int((labels == LABELS[organ]).sum())) if organ in drawn else ""
                for column, organ in ORGANS.items()
            }
            part = "test-pats" if locked else "train-pats"
            rows.append({"case": name, "source": f"synthetic/{part}/{name}", **counts})
        with (work / "cases.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _patient(
    seed: int, drawn: Collection[str], *, varied: bool
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A neck with two organs that a network can find by their HU."""
    rng = np.random.default_rng(seed)
    k, j, i = np.ogrid[: _SHAPE[0], : _SHAPE[1], : _SHAPE[2]]
    # build, muscles and fat differ, or all patients would count as copies of one
    build = np.random.default_rng((seed, 1))
    depth, width = build.uniform((15.0, 15.0), (20.0, 20.0))
    muscle = ndimage.gaussian_filter(build.normal(0, 1, _SHAPE), 4)
    body = np.broadcast_to(((j - 24) / depth) ** 2 + ((i - 24) / (width + np.sin(k / 4))) ** 2 <= 1, _SHAPE)
    soft = 30 + rng.normal(0, 10, _SHAPE) + 80 * muscle / muscle.std()
    image = np.where(body, soft, -1000).astype(np.int16)
    labels = np.zeros(_SHAPE, np.uint8)
    shift = rng.integers(-1, 2, 3)
    for organ, (centre, hu) in _PLACES.items():
        place, radii = np.add(centre, shift), np.array(_RADII)
        contour = radii
        if varied:
            place = place + build.integers((-1, -1, -2), (2, 2, 3))
            radii = radii * build.uniform(0.85, 1.15, 3)
            contour = radii * build.uniform(0.93, 1.1, 3)
        inside = sum(((x - c) / r) ** 2 for x, c, r in zip((k, j, i), place, radii, strict=True)) <= 1
        image[inside] = hu + rng.normal(0, 15, int(inside.sum())).astype(np.int16)
        if organ in drawn:
            drawn_as = sum(((x - c) / r) ** 2 for x, c, r in zip((k, j, i), place, contour, strict=True)) <= 1
            labels[drawn_as] = LABELS[organ]
    return image, labels
