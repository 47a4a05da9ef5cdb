"""What a data set says of one scan, whatever its files look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.volume import Volume

Mask = NDArray[np.bool_]


class OrganState(StrEnum):
    """What is known of an organ in a scan; the three are never confused.

    ``drawn``: somebody contoured it. ``not_drawn``: nobody looked, so nothing is known. ``outside``: whoever
    contoured this scan contours this organ, and there is none of it in the scan.
    """

    DRAWN = "drawn"
    NOT_DRAWN = "not_drawn"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contents:
    """The voxels of a scan.

    Attributes
    ----------
    volume : CT in HU
    masks : (K, J, I) voxels of each organ, by key of the organ table; organs may overlap
    """

    volume: Volume
    masks: Mapping[str, Mask]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceCase:
    """One scan of a data set.

    Attributes
    ----------
    database : name of the data set in the experiment
    name : of the scan, unique in its data set
    patient : whom it shows; scans of one patient never lie on both sides of a split
    annotated : organs that were looked for in this scan; of all others nothing is known
    read : reads the voxels
    age_years : of the patient, None where it is not known
    test : whether the data set itself holds the scan back for testing
    unused : names of structures in it that mean no organ of the data set's map
    """

    database: str
    name: str
    patient: str
    annotated: frozenset[str]
    read: Callable[[], Contents]
    age_years: float | None = None
    test: bool = False
    unused: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Number of the scan among all data sets; also the name of its files."""
        return f"{self.database}__{self.name}"


def states_of(annotated: frozenset[str], masks: Mapping[str, Mask]) -> dict[str, OrganState]:
    """What is known of every organ that was looked for.

    Parameters
    ----------
    annotated : organs that were looked for
    masks : their voxels; an organ without a mask, or with an empty one, is outside the scan
    """
    present = {organ for organ, mask in masks.items() if mask.any()}
    return {
        organ: OrganState.DRAWN if organ in present else OrganState.OUTSIDE for organ in sorted(annotated)
    }
