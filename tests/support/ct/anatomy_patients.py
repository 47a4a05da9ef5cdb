"""Patients that differ a little: an oval body with a spine and three organs, for tests of the anatomy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.anatomy.fitting import MeasuredPatient, fit_reference, measure_patient
from orgseg_node.core.anatomy.reference import AnatomyReference
from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Mask

KEYS = ("parotid_left", "parotid_right", "brainstem")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnatomyPatient:
    """A CT with correct contours.

    Attributes
    ----------
    grid : of the CT
    hu : (K, J, I) int16
    body : (K, J, I) bool
    masks : (K, J, I) bool by key
    """

    grid: Grid
    hu: NDArray[np.int16]
    body: Mask
    masks: dict[str, Mask]


def anatomy_patient(seed: int, *, step_mm: tuple[float, float, float] = (3.0, 4.0, 4.0)) -> AnatomyPatient:
    """One patient.

    Parameters
    ----------
    seed : of size, position and organs
    step_mm : distance of voxels along z, y, x
    """
    rng = np.random.default_rng(seed)
    size_mm = (96.0, 176.0, 176.0)
    shape = tuple(round(mm / step) for mm, step in zip(size_mm, step_mm, strict=True))
    axes = [np.arange(n) * step + step / 2 for n, step in zip(shape, step_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    middle = np.array([48.0, 88.0, 88.0]) + rng.normal(0, 3, 3)

    def ball(offset: tuple[float, float, float], radii: tuple[float, float, float]) -> Mask:
        centre = middle + offset + rng.normal(0, 1.5, 3)
        size = np.asarray(radii) * rng.uniform(0.92, 1.08)
        squared = sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, size, strict=True))
        return np.asarray(squared <= 1)

    body = ((y - middle[1]) / 70) ** 2 + ((x - middle[2]) / 62) ** 2 <= 1
    spine = ((y - middle[1] - 40) ** 2 + (x - middle[2]) ** 2) <= 12**2
    masks = {
        "parotid_left": ball((-6, 5, 44), (16, 12, 10)),
        "parotid_right": ball((-6, 5, -44), (16, 12, 10)),
        "brainstem": ball((10, 10, 0), (18, 12, 12)),
    }
    hu = np.where(body, 10.0, -1000.0) + np.where(body, rng.normal(0, 8, shape), 0)
    hu[spine] = 700
    hu[ball((-10, -45, 0), (60, 10, 10)) & body] = -900
    for key, level in (("parotid_left", -40), ("parotid_right", -40), ("brainstem", 40)):
        hu[masks[key]] += level
    grid = Grid(shape=(shape[0], shape[1], shape[2]), spacing_mm=step_mm, origin_mm=(0.0, 0.0, 0.0))
    return AnatomyPatient(grid=grid, hu=hu.astype(np.int16), body=np.asarray(body), masks=masks)


@cache
def patients(count: int = 16) -> tuple[MeasuredPatient, ...]:
    """Measured patients."""
    made = [anatomy_patient(seed) for seed in range(count)]
    return tuple(measure_patient(WorkingGrid(p.grid, p.hu, p.body), p.masks) for p in made)


@cache
def reference() -> AnatomyReference:
    """The reference of these patients, as it is read back."""
    document = fit_reference(patients(), "made for a test", {"scans": 3}).as_dict()
    return AnatomyReference.from_dict(json.loads(json.dumps(document)))
