"""Patients on couches, drawn with ellipses, whose true outline is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Grid, Shape, Vector
from orgseg_node.core.volume import Mask, Volume


@dataclass(slots=True)
class Scene:
    """A picture that is put together piece by piece; lengths in mm from the middle of the picture."""

    shape: Shape = (40, 128, 128)
    spacing_mm: Vector = (3.0, 3.0, 3.0)
    hu: NDArray[np.int16] = field(init=False)
    patient: Mask = field(init=False)

    def __post_init__(self) -> None:
        self.hu = np.full(self.shape, -1000, np.int16)
        self.patient = np.zeros(self.shape, np.bool_)

    def _axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        k, j, i = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return k[:, None, None], j[None, :, None], i[None, None, :]

    def cylinder(
        self, y: float, x: float, height: float, width: float, hu: int, *, patient: bool, taper: float = 0.0
    ) -> Scene:
        """An elliptic cylinder along z with full height and width; ``taper`` makes it vary along z."""
        z, yy, xx = self._axes()
        grow = 1.0 + taper * np.sin(z / 25.0)
        inside = ((yy - y) / (height / 2 * grow)) ** 2 + ((xx - x) / (width / 2 * grow)) ** 2 <= 1.0
        self.hu[inside] = hu
        if patient:
            self.patient |= inside
        return self

    def slab(self, y: tuple[float, float], x: tuple[float, float], hu: int) -> Scene:
        """A block that runs through all slices and is not the patient."""
        _, yy, xx = self._axes()
        inside = np.broadcast_to((yy >= y[0]) & (yy <= y[1]) & (xx >= x[0]) & (xx <= x[1]), self.shape)
        self.hu[inside & ~self.patient] = hu
        return self

    def trunk(self) -> Scene:
        """A trunk with lungs, 200 x 300 mm."""
        self.cylinder(0, 0, 200, 300, 30, patient=True, taper=0.08)
        for side in (-70, 70):
            self.cylinder(0, side, 130, 100, -800, patient=True, taper=0.08)
        return self

    def couch(self) -> Scene:
        """A hollow couch: a 4 mm shell around foam, its top under the patient's back."""
        self.slab((103, 150), (-165, 165), 100)
        return self.slab((108, 145), (-160, 160), -930)

    def volume(self) -> Volume:
        """The picture as a CT."""
        return Volume(
            grid=Grid(shape=self.shape, spacing_mm=self.spacing_mm, origin_mm=(0.0, 0.0, 0.0)), hu=self.hu
        )
