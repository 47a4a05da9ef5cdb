"""Copies of a scan in several data sets: by their voxels, and by what they look like at low resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from orgseg_node.core.volume import Volume
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.scan_groups import groups_by_links
from orgseg_training.durable import read_json, write_json

ALIKE_HU: Final = 25.0
"""Scans that differ by less are copies. Of the 87 scans of OpenKBP no two of like extent differ by less than
51; copies of them with rounding, noise of 20 HU, padding or voxels larger by a third by at most 13, with a
blur of one voxel by at most 23."""
ALIKE_EXTENT: Final = 0.05
"""Part by which the patient's extent may differ along each axis."""
_SIDE: Final = 12
_TISSUE_HU: Final = -500
_WINDOW_HU: Final = (-1000, 1000)


class Likeness(StrEnum):
    """Why two scans are taken for copies."""

    VOXELS = "same voxels"
    COARSE = "same at 8 mm"
    ALIKE = "alike"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two scans of one acquisition.

    Attributes
    ----------
    first, second : their keys, in order
    likeness : why they are taken for copies
    difference_hu : mean absolute difference of their prints
    """

    first: str
    second: str
    likeness: Likeness
    difference_hu: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Print:
    """What a scan looks like at low resolution.

    Attributes
    ----------
    extent_mm : (3,) of the tissue along z, y, x
    hu : (12 * 12 * 12,) weighted means over equal parts of it, cut off at -1000 and 1000 HU
    """

    extent_mm: NDArray[np.float64]
    hu: NDArray[np.float64]


def make_print(volume: Volume) -> Print:
    """The print of a CT; another type, padding, noise or voxel size hardly changes it."""
    hu = np.clip(volume.hu, *_WINDOW_HU).astype(np.float32)
    tissue = volume.hu > _TISSUE_HU
    if not tissue.any():
        return Print(extent_mm=np.zeros(3), hu=np.full(_SIDE**3, float(_WINDOW_HU[0])))
    stretches = [_stretch(tissue, axis) for axis in range(3)]
    parts = [(stop - start) / _SIDE for start, stop in stretches]
    air = [
        int(3 * part) + 1 for part in parts
    ]  # whether a picture ends at the patient or beyond is one thing
    hu = np.pad(hu, [(n, n) for n in air], constant_values=_WINDOW_HU[0])
    places = []
    for axis, ((start, _), part) in enumerate(zip(stretches, parts, strict=True)):
        # a blur as wide as a part, so that voxel size and kernel do not matter
        hu = ndimage.gaussian_filter1d(hu, 0.6 * part, axis=axis, mode="nearest", truncate=3)
        places.append(air[axis] + start + (np.arange(_SIDE) + 0.5) * part - 0.5)
    grid = np.meshgrid(*places, indexing="ij")
    sampled = ndimage.map_coordinates(hu, grid, order=1, mode="nearest")
    extent = np.multiply(parts, volume.grid.spacing_mm) * _SIDE
    return Print(extent_mm=extent, hu=np.rint(sampled).astype(np.float64).ravel())


def _stretch(tissue: NDArray[np.bool_], axis: int) -> tuple[float, float]:
    """The even stretch with the mean and spread of the tissue along an axis, in voxels from the outer edge.

    Not where tissue begins and ends: a thin couch that another kernel blurs away would move that.
    """
    others = tuple(other for other in range(3) if other != axis)
    weights = tissue.sum(axis=others)
    places = np.arange(weights.size) + 0.5
    mean = float(np.average(places, weights=weights))
    half = max(0.5, float(np.sqrt(3 * np.average((places - mean) ** 2, weights=weights))))
    return mean - half, mean + half


def print_of(case: StoredCase) -> Print:
    """The print of a stored scan; made once. Raises StorageError."""
    file = case.folder / "print.json"
    if not file.is_file():
        made = make_print(case.volume())
        write_json(file, {"extent_mm": made.extent_mm.tolist(), "hu": made.hu.astype(int).tolist()})
    said = read_json(file)
    return Print(extent_mm=np.array(said["extent_mm"], float), hu=np.array(said["hu"], float))


def find_pairs(
    cases: Sequence[StoredCase], prints: Callable[[StoredCase], Print] = print_of
) -> tuple[Pair, ...]:
    """All pairs of copies, of whatever data sets and patients.

    Parameters
    ----------
    cases : scans
    prints : gives the print of a scan

    Raises
    ------
    StorageError
        If a scan cannot be read.
    """
    ordered = sorted(cases, key=lambda case: case.key)
    if len(ordered) < 2:
        return ()
    made = [prints(case) for case in ordered]
    looks = np.stack([one.hu for one in made])
    extents = np.stack([one.extent_mm for one in made])
    pairs = []
    for place, case in enumerate(ordered[:-1]):
        rest = slice(place + 1, None)
        differences = cdist(looks[place : place + 1], looks[rest], "cityblock")[0] / looks.shape[1]
        larger = np.maximum(extents[rest], extents[place])
        near = (np.abs(extents[rest] - extents[place]) <= ALIKE_EXTENT * larger).all(axis=1)
        for other, difference, extent_fits in zip(ordered[rest], differences, near, strict=True):
            likeness = _likeness(case, other, alike=bool(extent_fits and difference < ALIKE_HU))
            if likeness:
                pairs.append(
                    Pair(
                        first=case.key,
                        second=other.key,
                        likeness=likeness,
                        difference_hu=round(float(difference), 2),
                    )
                )
    return tuple(pairs)


def _likeness(one: StoredCase, other: StoredCase, *, alike: bool) -> Likeness | None:
    if one.voxels_sha256 == other.voxels_sha256:
        return Likeness.VOXELS
    if one.coarse_sha256 == other.coarse_sha256:
        return Likeness.COARSE
    return Likeness.ALIKE if alike else None


def surplus(
    cases: Iterable[StoredCase], pairs: Iterable[Pair], *, held: Callable[[StoredCase], bool]
) -> Mapping[str, str]:
    """The copies that are left out, each with the one that is kept.

    Of copies the one stays that is held back for testing; then the one in which more organs were drawn; then
    the first by its key.

    Parameters
    ----------
    cases : scans
    pairs : of copies; copies of copies are copies
    held : whether a scan is held back whatever the chance
    """
    by_key = {case.key: case for case in cases}
    links = [(pair.first, pair.second) for pair in pairs]
    left_out: dict[str, str] = {}
    for keys in groups_by_links(by_key, links):
        best, *others = sorted(
            (by_key[key] for key in keys), key=lambda case: (not held(case), -len(case.drawn), case.key)
        )
        left_out |= {case.key: best.key for case in others}
    return dict(sorted(left_out.items()))
