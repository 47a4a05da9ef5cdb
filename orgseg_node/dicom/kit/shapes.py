"""The structures of the commissioning kit; each tests one property of the planning system.

The phantom has 40 slices of 3 mm with 256 x 256 pixels of 1 mm, so that volumes are round numbers: a voxel is
3 mm3. Coordinates here are (slice k, row j, column i).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Grid, Shape
from orgseg_node.core.organs import Organ, Rgb
from orgseg_node.core.volume import LabelMap, Mask

SHAPE: Final[Shape] = (40, 256, 256)
SPACING_MM: Final = (3.0, 1.0, 1.0)
GRID: Final = Grid(shape=SHAPE, spacing_mm=SPACING_MM, origin_mm=(-127.5, -127.5, -60.0))

_Draw = Callable[[Mask], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class KitStructure:
    """One structure and its question.

    Attributes
    ----------
    name : ROI name
    question : what to check in the planning system
    color : RGB
    draw : sets the voxels of the structure in a (K, J, I) mask
    """

    name: str
    question: str
    color: Rgb
    draw: _Draw

    @property
    def organ(self) -> Organ:
        """The structure as an organ; it is coded as tissue, since it is no real organ."""
        return Organ(
            key=f"kit_{self.name.lower()}",
            name=self.name,
            code="85756007",
            meaning="Tissue",
            color=self.color,
            display=self.color,
        )


def kit_label_map() -> LabelMap:
    """All structures on the grid of the phantom; they do not overlap."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for label, piece in enumerate(KIT_STRUCTURES, start=1):
        mask = np.zeros(SHAPE, dtype=np.bool_)
        piece.draw(mask)
        labels[mask] = label
    return LabelMap(
        grid=GRID, labels=labels, organs={n: piece.organ for n, piece in enumerate(KIT_STRUCTURES, 1)}
    )


def _disk(j: float, i: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: SHAPE[1], : SHAPE[2]]
    disk: NDArray[np.bool_] = np.hypot(rows - j, columns - i) <= radius
    return disk


def _ring(mask: Mask) -> None:
    mask[2:18] = _disk(108, 76, 24) & ~_disk(108, 76, 14)


def _ring_with_island(mask: Mask) -> None:
    mask[2:18] = _disk(108, 180, 24) & ~_disk(108, 180, 14) | _disk(108, 180, 6)


def _islands(mask: Mask) -> None:
    mask[2:18] = _disk(170, 100, 12) | _disk(170, 156, 12)


def _ball(mask: Mask, middle: tuple[float, float, float], radius_mm: float) -> None:
    k, j, i = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    squares = ((k - middle[0]) * SPACING_MM[0]) ** 2 + (j - middle[1]) ** 2 + (i - middle[2]) ** 2
    mask |= squares <= radius_mm**2


def _sphere(mask: Mask) -> None:
    _ball(mask, (10, 128, 128), 20.0)


def _cube(mask: Mask) -> None:
    mask[4:14, 70:90, 118:138] = True


def _many_points(mask: Mask) -> None:
    """A comb with teeth of one pixel on both sides of each bar: the contour turns at every pixel."""
    mask[24:27, 100:156, 127:129] = True
    for j in range(102, 156, 6):
        mask[24:27, j, 98:158] = True
        mask[24:27, j - 2 : j + 3, 98:158:2] = True


def _long_keyhole(mask: Mask) -> None:
    mask[24:36] = _disk(128, 62, 28) & ~_disk(128, 62, 1.6)


def _thin_wall(mask: Mask) -> None:
    mask[24:36] = _disk(128, 194, 20.5) & ~_disk(128, 194, 19.0)


def _gap(mask: Mask) -> None:
    mask[24:36] = _disk(182, 128, 10)
    mask[29] = False


def _lens(mask: Mask) -> None:
    _ball(mask, (30, 75, 128), 4.0)


def _lone_voxel(mask: Mask) -> None:
    mask[30, 75, 150] = True


def _corner(mask: Mask) -> None:
    mask[28:33, 75, 106] = True
    mask[28:33, 76, 107] = True


def _one_slice(mask: Mask) -> None:
    mask[30] = _disk(180, 90, 12)


def _border(mask: Mask) -> None:
    mask[:, 110:147, :12] = True


KIT_STRUCTURES: Final[tuple[KitStructure, ...]] = (
    KitStructure(
        name="Kit_Ring",
        question="Is the hole empty? A larger volume means that holes are filled.",
        color=(230, 25, 75),
        draw=_ring,
    ),
    KitStructure(
        name="Kit_Ring_Island",
        question="Is the hole empty and the island in it full?",
        color=(60, 180, 75),
        draw=_ring_with_island,
    ),
    KitStructure(
        name="Kit_Two_Islands",
        question="Are both islands there, and nothing between them?",
        color=(255, 225, 25),
        draw=_islands,
    ),
    KitStructure(
        name="Kit_Sphere",
        question="Volume at the caps: are the first and the last slice counted whole, half or rounded off?",
        color=(0, 130, 200),
        draw=_sphere,
    ),
    KitStructure(
        name="Kit_Name_16_Char",
        question="Is the name of 16 characters complete? Volume of a cuboid: nothing to interpret.",
        color=(245, 130, 48),
        draw=_cube,
    ),
    KitStructure(
        name="Kit_3000_Points",
        question="Is the contour of more than 3000 points complete, with all its teeth, on three slices?",
        color=(145, 30, 180),
        draw=_many_points,
    ),
    KitStructure(
        name="Kit_Long_Keyhole",
        question="Is a line visible from the border to the hole, and does it reduce the volume?",
        color=(70, 240, 240),
        draw=_long_keyhole,
    ),
    KitStructure(
        name="Kit_Thin_Wall",
        question="Is the thin wall closed? Its volume shows the resolution of the system's rasterisation.",
        color=(240, 50, 230),
        draw=_thin_wall,
    ),
    KitStructure(
        name="Kit_Gap",
        question="Is the empty slice in the middle left empty, or filled by interpolation?",
        color=(210, 245, 60),
        draw=_gap,
    ),
    KitStructure(
        name="Kit_Lens",
        question="Is the small structure kept, and how large is the error of its volume?",
        color=(250, 190, 190),
        draw=_lens,
    ),
    KitStructure(
        name="Kit_Lone_Voxel",
        question="Is a single voxel imported, shown, and given a volume?",
        color=(0, 128, 128),
        draw=_lone_voxel,
    ),
    KitStructure(
        name="Kit_Corner",
        question="Two pixels that touch at a corner: are there two contours, neither lost nor joined?",
        color=(230, 190, 255),
        draw=_corner,
    ),
    KitStructure(
        name="Kit_One_Slice",
        question="Is a structure on a single slice given the thickness of that slice?",
        color=(170, 110, 40),
        draw=_one_slice,
    ),
    KitStructure(
        name="Kit_Border",
        question="Is the structure at the border of the images, on the first and the last slice, complete?",
        color=(128, 128, 0),
        draw=_border,
    ),
)
