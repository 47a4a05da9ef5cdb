"""Copies of a scan in several data sets, found by their voxels and by their image at low resolution."""

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

MAX_DIFFERENCE_HU: Final = 25.0
"""Scans that differ by less are copies. Of the 87 scans of OpenKBP no two of similar extent differ by less
than 51; their copies with rounding, noise of 20 HU, padding or voxels larger by a third differ by at most 13,
with a blur of one voxel by at most 23."""
MAX_EXTENT_DIFFERENCE: Final = 0.05
"""Largest relative difference of the patient's extent along each axis."""
_SIDE: Final = 12
_TISSUE_HU: Final = -500
_WINDOW_HU: Final = (-1000, 1000)


class DuplicateKind(StrEnum):
    """Why two scans count as copies of each other."""

    VOXELS = "same voxels"
    COARSE = "same at 8 mm"
    ALIKE = "alike"


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicatePair:
    """Two scans of one acquisition.

    Attributes
    ----------
    first, second : their keys, in order
    kind : why they count as copies
    difference_hu : mean absolute difference of their fingerprints
    """

    first: str
    second: str
    kind: DuplicateKind
    difference_hu: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fingerprint:
    """Image of a scan at low resolution.

    Attributes
    ----------
    extent_mm : (3,) of the tissue along z, y, x
    hu : (12 * 12 * 12,) weighted means over equal parts of the tissue, clipped to -1000 and 1000 HU
    """

    extent_mm: NDArray[np.float64]
    hu: NDArray[np.float64]


def make_fingerprint(volume: Volume) -> Fingerprint:
    """Fingerprint of a CT; data type, padding, noise and voxel size have little influence on it."""
    hu = np.clip(volume.hu, *_WINDOW_HU).astype(np.float32)
    tissue = volume.hu > _TISSUE_HU
    if not tissue.any():
        return Fingerprint(extent_mm=np.zeros(3), hu=np.full(_SIDE**3, float(_WINDOW_HU[0])))
    extents = [_extent(tissue, axis) for axis in range(3)]
    parts = [(stop - start) / _SIDE for start, stop in extents]
    # with this padding it does not matter whether the image ends at the patient or beyond
    air = [int(3 * part) + 1 for part in parts]
    hu = np.pad(hu, [(n, n) for n in air], constant_values=_WINDOW_HU[0])
    places = []
    for axis, ((start, _), part) in enumerate(zip(extents, parts, strict=True)):
        # a blur as wide as a part, so that voxel size and kernel do not matter
        hu = ndimage.gaussian_filter1d(hu, 0.6 * part, axis=axis, mode="nearest", truncate=3)
        places.append(air[axis] + start + (np.arange(_SIDE) + 0.5) * part - 0.5)
    grid = np.meshgrid(*places, indexing="ij")
    sampled = ndimage.map_coordinates(hu, grid, order=1, mode="nearest")
    extent = np.multiply(parts, volume.grid.spacing_mm) * _SIDE
    return Fingerprint(extent_mm=extent, hu=np.rint(sampled).astype(np.float64).ravel())


def _extent(tissue: NDArray[np.bool_], axis: int) -> tuple[float, float]:
    """Interval with the mean and spread of the tissue along an axis, in voxels from the outer edge.

    The first and last voxel of tissue are not used: a thin couch changes them, and some kernels blur it away.
    """
    others = tuple(other for other in range(3) if other != axis)
    weights = tissue.sum(axis=others)
    places = np.arange(weights.size) + 0.5
    mean = float(np.average(places, weights=weights))
    half = max(0.5, float(np.sqrt(3 * np.average((places - mean) ** 2, weights=weights))))
    return mean - half, mean + half


def fingerprint_of(case: StoredCase) -> Fingerprint:
    """Fingerprint of a stored scan; computed once. Raises StorageError."""
    file = case.folder / "fingerprint.json"
    if not file.is_file():
        made = make_fingerprint(case.volume())
        write_json(file, {"extent_mm": made.extent_mm.tolist(), "hu": made.hu.astype(int).tolist()})
    stored = read_json(file)
    return Fingerprint(extent_mm=np.array(stored["extent_mm"], float), hu=np.array(stored["hu"], float))


def find_duplicates(
    cases: Sequence[StoredCase], fingerprint: Callable[[StoredCase], Fingerprint] = fingerprint_of
) -> tuple[DuplicatePair, ...]:
    """All pairs of copies among scans of any data sets and patients.

    Parameters
    ----------
    cases : scans
    fingerprint : returns the fingerprint of a scan

    Raises
    ------
    StorageError
        If a scan cannot be read.
    """
    ordered = sorted(cases, key=lambda case: case.key)
    if len(ordered) < 2:
        return ()
    fingerprints = [fingerprint(case) for case in ordered]
    images = np.stack([one.hu for one in fingerprints])
    extents = np.stack([one.extent_mm for one in fingerprints])
    pairs = []
    for place, case in enumerate(ordered[:-1]):
        rest = slice(place + 1, None)
        differences = cdist(images[place : place + 1], images[rest], "cityblock")[0] / images.shape[1]
        larger = np.maximum(extents[rest], extents[place])
        near = (np.abs(extents[rest] - extents[place]) <= MAX_EXTENT_DIFFERENCE * larger).all(axis=1)
        for other, difference, extent_fits in zip(ordered[rest], differences, near, strict=True):
            kind = _kind(case, other, alike=bool(extent_fits and difference < MAX_DIFFERENCE_HU))
            if kind:
                pairs.append(
                    DuplicatePair(
                        first=case.key,
                        second=other.key,
                        kind=kind,
                        difference_hu=round(float(difference), 2),
                    )
                )
    return tuple(pairs)


def _kind(one: StoredCase, other: StoredCase, *, alike: bool) -> DuplicateKind | None:
    if one.voxels_sha256 == other.voxels_sha256:
        return DuplicateKind.VOXELS
    if one.coarse_sha256 == other.coarse_sha256:
        return DuplicateKind.COARSE
    return DuplicateKind.ALIKE if alike else None


def redundant_copies(
    cases: Iterable[StoredCase], pairs: Iterable[DuplicatePair], *, held_out: Callable[[StoredCase], bool]
) -> Mapping[str, str]:
    """The copies that are left out, each with the scan that is kept in its place.

    A scan held out for testing is preferred, then the scan with more organs drawn, then the first key.

    Parameters
    ----------
    cases : scans
    pairs : of copies; a copy of a copy is a copy as well
    held_out : whether a scan is held out for testing by its data set or the experiment, not by chance
    """
    by_key = {case.key: case for case in cases}
    links = [(pair.first, pair.second) for pair in pairs]
    left_out: dict[str, str] = {}
    for keys in groups_by_links(by_key, links):
        best, *others = sorted(
            (by_key[key] for key in keys), key=lambda case: (not held_out(case), -len(case.drawn), case.key)
        )
        left_out |= {case.key: best.key for case in others}
    return dict(sorted(left_out.items()))
