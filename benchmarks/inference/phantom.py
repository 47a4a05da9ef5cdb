"""A synthetic CT with any number of organs: ellipsoids of different HU in a body, repeated along z."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_PERIOD_MM = 400.0  # period of the repetition along z
_BODY_MM = (180.0, 120.0)  # half axes along x and y
_NOISE_HU = 15.0


def organs(classes: int) -> NDArray[np.float64]:
    """Centre and radii (z, y, x) in mm and HU of each organ; the same for the same number of classes."""
    rng = np.random.default_rng(classes)
    count = classes - 1
    angle = np.arange(count) * math.pi * (3 - math.sqrt(5))  # golden angle: the organs spread evenly
    radius = np.sqrt((np.arange(count) + 0.5) / count) * 0.8
    centres = np.stack(
        [
            (np.arange(count) * 0.618 % 1.0) * _PERIOD_MM,
            radius * np.sin(angle) * _BODY_MM[1],
            radius * np.cos(angle) * _BODY_MM[0],
        ],
        axis=1,
    )
    radii = rng.uniform(0.6, 1.4, size=(count, 3)) * 160.0 / math.sqrt(count + 4) * (1.6, 0.5, 0.6)
    hu = np.linspace(-700.0, 900.0, count)
    return np.concatenate([centres, radii, rng.permutation(hu)[:, None]], axis=1)


def slices(  # noqa: PLR0913, PLR0917  # all of them are one phantom
    z_mm: NDArray[np.float64],
    size: int,
    spacing_mm: float,
    classes: int,
    seed: int,
    period_mm: float = _PERIOD_MM,
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Slices of the phantom.

    Parameters
    ----------
    z_mm : position of each slice
    size : rows and columns; the centre of the image is the centre of the body
    spacing_mm : of rows and columns
    classes : number of organs, plus 1 for the background
    seed : of the noise
    period_mm : of the repetition along z; the organs lie between 0 and 400 mm

    Returns
    -------
    HU int16 and labels uint8, each (len(z_mm), size, size)
    """
    at = (np.arange(size) - (size - 1) / 2) * spacing_mm
    y, x = at[:, None], at[None, :]
    hu = np.full((len(z_mm), size, size), -1000.0, dtype=np.float32)
    hu[:, (x / _BODY_MM[0]) ** 2 + (y / _BODY_MM[1]) ** 2 < 1] = 30.0
    labels = np.zeros(hu.shape, dtype=np.uint8)
    for number, (cz, cy, cx, rz, ry, rx, organ_hu) in enumerate(organs(classes), start=1):
        away = (z_mm - cz + period_mm / 2) % period_mm - period_mm / 2
        rows = slice(*np.searchsorted(at, [cy - ry, cy + ry]))
        columns = slice(*np.searchsorted(at, [cx - rx, cx + rx]))
        plane = ((y[rows] - cy) / ry) ** 2 + ((x[:, columns] - cx) / rx) ** 2
        for k in np.flatnonzero(np.abs(away) < rz):
            inside = plane + (away[k] / rz) ** 2 < 1
            hu[k, rows, columns][inside] = organ_hu
            labels[k, rows, columns][inside] = number
    rng = np.random.default_rng(seed)
    hu += rng.normal(scale=_NOISE_HU, size=hu.shape).astype(np.float32)
    return np.clip(hu, -1024, 3071).astype(np.int16), labels
