"""Simulated cases of one organ: a true organ, what a model delivers, what a person makes of it.

The organ is an ellipsoid of the size of a parotid or of an optic nerve. The model's surface lies off the true
one by a smooth random field, which is another one in each case; the size of this error differs from case to
case (log normal). A person leaves three of ten contours as they are and draws the others again, with a small
error of their own. The measures are those of the node (`orgseg_node.core.metrics`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from orgseg_node.core.geometry import FloatArray, Vector
from orgseg_node.core.metrics import compare
from orgseg_node.core.volume import Mask

_SPACING_MM: Vector = (3.0, 1.2, 1.2)
_UNCHANGED = 0.3
_OBSERVER_MM = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A simulated model.

    Attributes
    ----------
    error_mm : typical distance of its surface from the true one
    shift_mm : by so much it moves the organ in every case
    """

    error_mm: float = 1.2
    shift_mm: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Organ:
    """A simulated organ: its name and half axes ``(k, j, i)`` in mm."""

    name: str
    half_axes_mm: Vector


ORGANS = (
    Organ(name="parotid", half_axes_mm=(24.0, 16.0, 13.0)),
    Organ(name="optic nerve", half_axes_mm=(7.0, 16.0, 4.0)),
)


def simulate(organ: Organ, model: Model, count: int, seed: int) -> dict[str, FloatArray]:
    """The measures of some cases.

    Parameters
    ----------
    organ, model : what is simulated
    count : number of cases
    seed : of the random numbers
    """
    rng = np.random.default_rng(seed)
    distance = _distance(organ, 0.0)
    shifted = _distance(organ, model.shift_mm)
    rows = []
    for _ in range(count):
        size = model.error_mm * rng.lognormal(0.0, 0.35)
        delivered = shifted < _field(distance.shape, size, rng)
        is_kept = rng.random() < _UNCHANGED and model.shift_mm < 1.0
        approved = delivered if is_kept else distance < _field(distance.shape, _OBSERVER_MM, rng)
        rows.append(_measures(approved, delivered))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _measures(approved: Mask, delivered: Mask) -> dict[str, float]:
    found = compare(approved, delivered, _SPACING_MM)
    return {"dice": found.dsc, "surface_dice_2mm": found.sdsc_2mm, "hd95_mm": found.hd95_mm}


def _distance(organ: Organ, shift_mm: float) -> FloatArray:
    """Signed distance in mm of each voxel from the surface of the organ, negative inside."""
    half = [
        int(np.ceil((axis + 12) / step)) for axis, step in zip(organ.half_axes_mm, _SPACING_MM, strict=True)
    ]
    places = np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij")
    points = [place * step for place, step in zip(places, _SPACING_MM, strict=True)]
    points[2] = points[2] - shift_mm
    # to first order, the distance from the surface r = 1 is (r - 1) / |gradient of r|
    axes = organ.half_axes_mm
    radius = np.sqrt(sum((point / axis) ** 2 for point, axis in zip(points, axes, strict=True)))
    radius = np.maximum(radius, 1e-3)
    gradient = np.sqrt(sum((point / axis**2) ** 2 for point, axis in zip(points, axes, strict=True))) / radius
    found: FloatArray = (radius - 1) / np.maximum(gradient, 1e-3)
    return found


def _field(shape: tuple[int, ...], size_mm: float, rng: np.random.Generator) -> FloatArray:
    noise = gaussian_filter(rng.normal(size=shape), [8.0 / step for step in _SPACING_MM])
    field: FloatArray = noise / noise.std() * size_mm
    return field
