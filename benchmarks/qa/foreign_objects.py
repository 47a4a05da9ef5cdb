"""Couches, rests, masks, blankets and cushions as they lie around a patient, drawn into a real CT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import HuArray, Mask, Volume

_FOAM: Final = -930
_BEADS: Final = -965


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """A patient, and the directions in which things are put around it.

    Attributes
    ----------
    volume : the CT without the object
    patient : (K, J, I) bool, the patient in it
    back : sign of the row direction that leads to the patient's back
    """

    volume: Volume
    patient: Mask
    back: int

    @classmethod
    def of(cls, volume: Volume, patient: Mask) -> Place:
        """The patient in a CT; the back lies in the direction of LPS y."""
        return cls(volume=volume, patient=patient, back=1 if volume.grid.axes[1][1] >= 0 else -1)

    @property
    def box(self) -> Box:
        """The bounding box of the patient."""
        return Box.around(self.patient)

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Millimetres along the slices, towards the back and across, from the corner of the image."""
        k, j, i = (
            np.arange(n) * s for n, s in zip(self.volume.hu.shape, self.volume.grid.spacing_mm, strict=True)
        )
        return k[:, None, None], self.back * j[None, :, None], i[None, None, :]

    def extent(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        """From where to where the patient reaches along `axes`."""
        ends = []
        for low, high, step, sign in zip(
            self.box.start, self.box.stop, self.volume.grid.spacing_mm, (1, self.back, 1), strict=True
        ):
            first, last = sorted((sign * low * step, sign * (high - 1) * step))
            ends.append((first, last))
        return ends[0], ends[1], ends[2]

    def distance_mm(self) -> NDArray[np.float32]:
        """Distance of each voxel from the patient, within each slice."""
        spacing = self.volume.grid.spacing_mm[1:]
        planes = [
            ndimage.distance_transform_edt(~plane, sampling=spacing)
            if plane.any()
            else np.full(plane.shape, np.inf)
            for plane in self.patient
        ]
        return np.stack(planes).astype(np.float32)


Painted = list[tuple[Mask, int]]  # masks and their HU, later ones over earlier ones


def _bottom(place: Place) -> float:
    """Where the back touches the couch: the level that 0.5 % of the patient lie below."""
    rows = place.patient.sum(axis=(0, 2)).astype(float)
    order = rows if place.back > 0 else rows[::-1]
    share = np.cumsum(order) / order.sum()
    index = int(np.searchsorted(share, 0.995))
    row = index if place.back > 0 else rows.size - 1 - index
    return place.back * row * place.volume.grid.spacing_mm[1]


def hollow_couch(place: Place) -> Painted:
    """A carbon shell of 4 mm around foam under the whole scan."""
    _, y, x = place.axes()
    top, middle = _bottom(place), sum(place.extent()[2]) / 2
    outer = (y >= top) & (y <= top + 60) & (abs(x - middle) <= 260)
    inner = (y >= top + 4) & (y <= top + 56) & (abs(x - middle) <= 256)
    return [(_whole(place, outer), 120), (_whole(place, inner), _FOAM)]


def solid_board(place: Place) -> Painted:
    """A board of 20 mm under the whole scan, as dense as water."""
    _, y, x = place.axes()
    top, middle = _bottom(place), sum(place.extent()[2]) / 2
    return [(_whole(place, (y >= top) & (y <= top + 20) & (abs(x - middle) <= 220)), 60)]


def _beside(place: Place, side: int, size_mm: tuple[float, float, float]) -> Mask:
    """A block that touches the patient's side."""
    z, y, x = place.axes()
    (z0, z1), _, _ = place.extent()
    centre_z, half = (z0 + z1) / 2, min(size_mm[0], z1 - z0 + 1) / 2
    span = np.flatnonzero(abs(z.ravel() - centre_z) <= half)
    part = place.patient[span]
    columns = np.flatnonzero(part.any(axis=(0, 1)))
    edge = float(x.ravel()[columns[-1] if side > 0 else columns[0]])
    near = part[:, :, columns[-3:] if side > 0 else columns[:3]]
    level = float(y.ravel()[np.flatnonzero(near.any(axis=(0, 2)))].mean())
    across = side * (x - edge)
    return (
        (abs(z - centre_z) <= half)
        & (abs(y - level) <= size_mm[1] / 2)
        & (across > -12)
        & (across <= size_mm[2])
    )


def foam_block(place: Place) -> Painted:
    """An arm rest of dense foam."""
    return [(_beside(place, 1, (160, 60, 80)), -220)]


def plastic_block(place: Place) -> Painted:
    """An arm rest of solid plastic."""
    return [(_beside(place, -1, (160, 50, 60)), 110)]


def tube(place: Place) -> Painted:
    """A bar of 32 mm with a wall of 4 mm that runs along the patient's side."""
    _, y, x = place.axes()
    whole = _beside(place, 1, (1e6, 32, 32))
    slices, rows, columns = (np.flatnonzero(whole.any(axis=a)) for a in ((1, 2), (0, 2), (0, 1)))
    if not slices.size:
        return []
    level = float(y.ravel()[rows].mean())
    middle = float(x.ravel()[columns].max()) - 16
    radius = np.hypot(y - level, x - middle)
    return [(_whole(place, radius <= 16), 180), (_whole(place, radius <= 12), -1000)]


def mask(place: Place) -> Painted:
    """A thermoplastic mask of 2.5 mm over the front, partly on the skin and partly up to 4 mm from it."""
    z, y, x = place.axes()
    (z0, z1), (y0, y1), _ = place.extent()
    away = place.distance_mm()
    gap = 2.0 + 2.0 * np.sin(x / 23.0) * np.sin(z / 31.0)
    front = (y < y0 + 0.6 * (y1 - y0)) & (abs(z - (z0 + z1) / 2) <= 0.4 * (z1 - z0 + 1))
    return [((away > gap) & (away <= gap + 2.5) & front, 80)]


def blanket(place: Place) -> Painted:
    """A folded blanket of 5 mm that lies on the front and hangs down at the sides."""
    z, y, x = place.axes()
    _, (y0, y1), _ = place.extent()
    away = place.distance_mm()
    gap = 9.0 + 9.0 * np.sin(x / 41.0 + z / 60.0)
    return [((away > gap) & (away <= gap + 5.0) & (y < y0 + 0.7 * (y1 - y0)), -150)]


def vacuum_cushion(place: Place) -> Painted:
    """Beads in a cover of 2 mm, moulded to the back and the sides."""
    _, y, _ = place.axes()
    _, (y0, y1), _ = place.extent()
    away = place.distance_mm()
    low = y > y0 + 0.55 * (y1 - y0)
    shell = (away <= 2) | (away > 48)
    return [((away > 0) & (away <= 50) & low, _BEADS), ((away > 0) & (away <= 50) & low & shell, -120)]


def wedge(place: Place) -> Painted:
    """A wedge of dense foam under a half of the scan."""
    z, y, x = place.axes()
    (z0, z1), _, (x0, x1) = place.extent()
    top = _bottom(place)
    part = (z - z0) / max(z1 - z0, 1.0)
    return [
        ((part <= 0.5) & (y >= top) & (y <= top + 80 * (0.6 - part)) & (abs(x - (x0 + x1) / 2) <= 120), -240)
    ]


def _whole(place: Place, section: NDArray[np.bool_]) -> Mask:
    return np.broadcast_to(section, place.patient.shape)


OBJECTS: Final[dict[str, Callable[[Place], Painted]]] = {
    "hollow couch": hollow_couch,
    "solid board": solid_board,
    "foam block": foam_block,
    "plastic block": plastic_block,
    "hollow tube": tube,
    "mask": mask,
    "blanket": blanket,
    "vacuum cushion": vacuum_cushion,
    "foam wedge": wedge,
}


def with_object(place: Place, kind: str) -> tuple[Volume, Mask]:
    """The CT with an object where there is only air around the patient.

    Parameters
    ----------
    place : the patient
    kind : one of `OBJECTS`

    Returns
    -------
    the changed CT, and the voxels of the object
    """
    free = ~place.patient & (place.volume.hu < -500)
    hu: HuArray = place.volume.hu.copy()
    drawn = np.zeros(hu.shape, dtype=np.bool_)
    noise = np.random.default_rng(7).normal(0, 12, hu.shape[1:])
    for shape, level in OBJECTS[kind](place):
        here = shape & free
        hu[here] = (level + np.broadcast_to(noise, hu.shape)[here]).astype(hu.dtype)
        drawn |= here
    return Volume(grid=place.volume.grid, hu=hu), drawn
