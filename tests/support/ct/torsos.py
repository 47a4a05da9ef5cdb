"""Patients of ellipses from the chest to the top of the head, on the coarse grid on which scans are judged.

A patient has what tells the levels and the directions of a body apart: a skull, a jaw at the front, a spine
at the back, a neck, shoulders, lungs, and an aorta on the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orgseg_node.core.geometry import Grid
from orgseg_node.core.scan.grid import ScanGrid
from orgseg_node.core.scan.reference import TrainingScan
from orgseg_node.core.volume import Mask, Volume

ORGANS: Final = {"brainstem": (60.0, 110.0), "mandible": (0.0, 60.0), "esophagus": (-150.0, -50.0)}
STEP_MM: Final = 6.0
_Z_MM: Final = 5.0
_ROWS, _COLUMNS = 48, 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Torso:
    """How a patient is drawn.

    Attributes
    ----------
    seed : of its random size and noise
    low, high : levels of the first and the last slice in mm; the jaw begins at zero
    z_mm : height of level zero
    """

    seed: int = 0
    low: float = -190.0
    high: float = 150.0
    z_mm: float = 0.0

    def hu(self) -> tuple[np.ndarray, Mask]:
        """(K, J, I) HU, and the patient."""
        rng = np.random.default_rng(self.seed)
        size, tilt = rng.normal(1.0, 0.06), rng.normal(0.0, 3.0)
        levels = self.levels_mm
        y = (np.arange(_ROWS) - (_ROWS - 1) / 2)[:, None] * STEP_MM - tilt
        x = (np.arange(_COLUMNS) - (_COLUMNS - 1) / 2)[None, :] * STEP_MM
        hu = np.full((levels.size, _ROWS, _COLUMNS), -1000.0)
        body = np.zeros(hu.shape, dtype=np.bool_)
        for k, level in enumerate(levels):
            wide = float(
                np.interp(level, (-190, -130, -80, -10, 40, 110, 160), (180, 190, 70, 65, 75, 75, 50))
            )
            deep = float(
                np.interp(level, (-190, -130, -80, -10, 40, 110, 160), (110, 95, 68, 75, 90, 92, 60))
            )
            wide, deep = wide * size, deep * size

            def ellipse(cx: float, cy: float, rx: float, ry: float) -> Mask:
                return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1)

            body[k] = ellipse(0, 0, wide, deep)
            plane = hu[k]
            plane[body[k]] = -90.0
            plane[ellipse(0, 0, wide - 9, deep - 9)] = 45.0
            if level > 50:
                plane[ellipse(0, 0, wide - 6, deep - 6)] = 900.0
                plane[ellipse(0, 0, wide - 16, deep - 16)] = 35.0
            if -5 < level < 60:
                plane[ellipse(0, -0.55 * deep, 45, 22)] = 800.0
                plane[ellipse(0, -0.45 * deep, 32, 22)] = 45.0
            if level < 60:
                plane[ellipse(0, 0.45 * deep, 20, 20)] = 500.0
            if level < 40:
                plane[ellipse(0, -0.1 * deep, 11, 11)] = -950.0
            if level < -130:
                plane[ellipse(0.5 * wide, 0, 0.35 * wide, 0.7 * deep)] = -800.0
                plane[ellipse(-0.5 * wide, 0, 0.35 * wide, 0.7 * deep)] = -800.0
            if level < -110:
                plane[ellipse(26, 10, 14, 14)] = 180.0
        hu[body] += rng.normal(0.0, 12.0, int(body.sum()))
        return hu.astype(np.float32), body

    @property
    def levels_mm(self) -> np.ndarray:
        """(K,) level of each slice."""
        return np.arange(self.low, self.high + 0.1, _Z_MM)

    def scan(self) -> ScanGrid:
        """The patient on the coarse grid."""
        hu, body = self.hu()
        return ScanGrid(
            hu=hu,
            inside=body,
            spacing_mm=(_Z_MM, STEP_MM, STEP_MM),
            z_mm=self.levels_mm + self.z_mm,
            planes=np.arange(self.levels_mm.size),
        )

    def training_scan(self) -> TrainingScan:
        """The patient with the heights of its organs, as far as they are in the scan."""
        inside = {key: (max(low, self.low), min(high, self.high)) for key, (low, high) in ORGANS.items()}
        organs = {key: (a + self.z_mm, b + self.z_mm) for key, (a, b) in inside.items() if b > a}
        return TrainingScan(grid=self.scan(), organs=organs)

    def volume(self) -> tuple[Volume, Mask]:
        """The patient as a CT, and its mask."""
        hu, body = self.hu()
        origin = (-(_COLUMNS - 1) / 2 * STEP_MM, -(_ROWS - 1) / 2 * STEP_MM, self.low + self.z_mm)
        grid = Grid(
            shape=(hu.shape[0], _ROWS, _COLUMNS), spacing_mm=(_Z_MM, STEP_MM, STEP_MM), origin_mm=origin
        )
        return Volume(grid=grid, hu=hu.astype(np.int16)), body


def abdomen(seed: int = 0) -> ScanGrid:
    """Another region: a wide section with a spine and bowel gas, the same at all levels."""
    rng = np.random.default_rng(seed)
    y = (np.arange(_ROWS) - (_ROWS - 1) / 2)[:, None] * STEP_MM
    x = (np.arange(_COLUMNS) - (_COLUMNS - 1) / 2)[None, :] * STEP_MM
    inside = np.broadcast_to((x / 190) ** 2 + (y / 125) ** 2 < 1, (50, _ROWS, _COLUMNS)).copy()
    hu = np.where(inside, 50.0, -1000.0)
    hu[:, ((x / 25) ** 2 + ((y - 70) / 25) ** 2 < 1)] = 300.0
    hu[:, ((x - 60) / 30) ** 2 + ((y + 50) / 20) ** 2 < 1] = -900.0
    hu[inside] += rng.normal(0.0, 12.0, int(inside.sum()))
    return ScanGrid(
        hu=hu.astype(np.float32),
        inside=inside,
        spacing_mm=(_Z_MM, STEP_MM, STEP_MM),
        z_mm=np.arange(50) * _Z_MM,
        planes=np.arange(50),
    )
