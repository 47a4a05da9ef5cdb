"""What the scans on which a bundle was trained look like: plain numbers that are stored with the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.scan.grid import ScanGrid, scan_grid
from orgseg_node.core.scan.kind import NAMES, learn_ranges
from orgseg_node.core.scan.levels import LevelModel, align, learn_levels
from orgseg_node.core.scan.sides import SidesModel, learn_sides
from orgseg_node.core.scan.slices import slice_measures
from orgseg_node.core.volume import LabelMap, Mask, Volume

LEAST_SCANS: Final = 15
"""Fewer scans give no reference: their scatter would not be known."""
_PART_MM: Final = 20.0
_PART: Final = 0.4
"""A scan shows an organ if it has this length or this fraction of it."""
_LIKE_MM: Final = 25.0  # see `Alignment.similarity_mm`

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingScan:
    """One scan to learn from.

    Attributes
    ----------
    grid : the scan, whose position and sides are right
    organs : lowest and highest z in mm of each organ that was drawn
    """

    grid: ScanGrid
    organs: Mapping[str, Range]

    @classmethod
    def of(cls, volume: Volume, body: Mask, label_map: LabelMap) -> TrainingScan:
        """Measure a scan with its contours.

        Parameters
        ----------
        volume : CT in HU
        body : (K, J, I) bool, the patient
        label_map : organs of the same grid as the CT

        Raises
        ------
        ValueError
            If the body is empty.
        """
        return cls(grid=scan_grid(volume, body), organs=_heights(label_map))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanReference:
    """What the training scans of a bundle look like.

    Attributes
    ----------
    scans : number of scans that it was learned from
    levels : what each level of the body looks like
    organs_mm : median levels of the lower and the upper end of each organ
    organ_share : fraction of the organs that nearly all training scans show at least in part
    numbers : range of each of the `ScanNumbers` over the training scans
    sides : how left differs from right; None if the scans do not show it
    sides_levels : the levels of `sides`, if these were learned from other scans; otherwise they are `levels`
    """

    scans: int
    levels: LevelModel
    organs_mm: Mapping[str, Range]
    organ_share: float
    numbers: Mapping[str, Range]
    sides: SidesModel | None
    sides_levels: LevelModel | None = None

    def organs_between(self, low_mm: float, high_mm: float) -> frozenset[str]:
        """The organs of which a scan shows a part that can be recognised.

        Parameters
        ----------
        low_mm, high_mm : lowest and highest level of the scan
        """
        return frozenset(
            key
            for key, (low, high) in self.organs_mm.items()
            if min(high, high_mm) - max(low, low_mm) >= min(_PART_MM, _PART * (high - low))
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return {
            "scans": self.scans,
            "levels": self.levels.as_dict(),
            "organs_mm": {key: list(ends) for key, ends in self.organs_mm.items()},
            "organ_share": round(self.organ_share, 3),
            "numbers": {name: list(ends) for name, ends in self.numbers.items()},
            "sides": None if self.sides is None else self.sides.as_dict(),
            "sides_levels": None if self.sides_levels is None else self.sides_levels.as_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScanReference:
        """The reference of plain numbers. Raises ValueError, KeyError or TypeError if they are none."""
        sides, numbers = values["sides"], _ranges(values["numbers"])
        sides_levels = values.get("sides_levels")  # not in references of earlier versions
        if numbers.keys() != set(NAMES):
            raise ValueError("The ranges of the numbers of a scan are not complete.")
        return cls(
            scans=int(values["scans"]),
            levels=LevelModel.from_dict(values["levels"]),
            organs_mm=_ranges(values["organs_mm"]),
            organ_share=float(values["organ_share"]),
            numbers=numbers,
            sides=None if sides is None else SidesModel.from_dict(sides, int(values["scans"])),
            sides_levels=None if sides_levels is None else LevelModel.from_dict(sides_levels),
        )


def learn_scan_reference(
    scans: Sequence[TrainingScan], known: ScanReference | None = None
) -> ScanReference | None:
    """Learn what scans of a region look like; None if there are fewer than `LEAST_SCANS` with an organ.

    Parameters
    ----------
    scans : to learn from
    known : of a model that the new one was made from; how left differs from right is anatomy and no habit of
        a clinic, so it is taken from here, with the levels it belongs to, if more scans showed it there
    """
    usable = [scan for scan in scans if scan.organs and scan.grid.z_mm.size > 1]
    if len(usable) < LEAST_SCANS:
        return None
    rows = [(scan.grid.z_mm, slice_measures(scan.grid)) for scan in usable]
    levels, offsets = learn_levels(rows, _first_offsets(usable))
    kept = _known_sides(known, rows)
    placed = [(scan.grid, scan.grid.z_mm - offset) for scan, offset in zip(usable, offsets, strict=True)]
    reference = ScanReference(
        scans=len(usable),
        levels=levels,
        organs_mm=_organ_levels(usable, offsets),
        organ_share=0.0,
        numbers=learn_ranges([scan.grid for scan in usable]),
        sides=learn_sides(placed, levels.range_mm) if kept is None else kept[0],
        sides_levels=None if kept is None else kept[1],
    )
    shares = [len(reference.organs_between(at[0], at[-1])) / len(reference.organs_mm) for _, at in placed]
    return replace(reference, organ_share=float(np.percentile(shares, 5)))


def _known_sides(
    known: ScanReference | None, scans: Sequence[tuple[FloatArray, FloatArray]]
) -> tuple[SidesModel, LevelModel] | None:
    """The known sides, with the levels they belong to; None if the new scans show them better.

    Parameters
    ----------
    known : the known reference
    scans : for each new scan the positions of its slices in mm and their measures
    """
    if known is None or known.sides is None or known.sides.scans <= len(scans):
        return None
    levels = known.sides_levels or known.levels
    alike = [align(levels, z, measures).similarity_mm >= _LIKE_MM for z, measures in scans]
    return (known.sides, levels) if 2 * sum(alike) >= len(scans) else None  # else another region


def _first_offsets(scans: Sequence[TrainingScan]) -> FloatArray:
    """Z position of level zero in each scan, so that the middles of the organs fall on the same levels."""
    keys = sorted({key for scan in scans for key in scan.organs})
    middles = np.array([[np.mean(scan.organs.get(key, np.nan)) for key in keys] for scan in scans])
    offsets: FloatArray = np.nanmean(middles, axis=1)
    for _ in range(20):
        usual = np.nanmedian(middles - offsets[:, None], axis=0)
        offsets = np.nanmean(middles - usual, axis=1)
    return offsets


def _organ_levels(scans: Sequence[TrainingScan], offsets: FloatArray) -> dict[str, Range]:
    found: dict[str, list[tuple[float, float]]] = {}
    for scan, offset in zip(scans, offsets, strict=True):
        for key, (low, high) in scan.organs.items():
            found.setdefault(key, []).append((low - offset, high - offset))
    return {
        key: (round(float(low), 1), round(float(high), 1))
        for key, (low, high) in ((key, np.median(found[key], axis=0)) for key in sorted(found))
    }


def _heights(label_map: LabelMap) -> dict[str, Range]:
    """Lowest and highest z in mm of each organ that is present."""
    heights = {}
    for label, organ in label_map.organs.items():
        indices = np.argwhere(label_map.mask(label))
        if indices.size:
            ends = label_map.grid.to_lps([indices.min(axis=0), indices.max(axis=0)])[:, 2]
            heights[organ.key] = (float(ends.min()), float(ends.max()))
    return heights


def _ranges(values: Mapping[str, Any]) -> dict[str, Range]:
    return {str(key): (float(low), float(high)) for key, (low, high) in values.items()}
