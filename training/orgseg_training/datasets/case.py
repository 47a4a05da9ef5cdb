"""A scan as every data set describes it, independent of the layout of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.checks import Finding
from orgseg_node.core.volume import Volume

Mask = NDArray[np.bool_]


class OrganState(StrEnum):
    """What is known of an organ in a scan; the three states are never confused.

    ``drawn``: it was contoured. ``not_drawn``: it was not looked for, so nothing is known. ``outside``: it
    was looked for, and no part of it is in the scan.
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
    unusable : organs whose contours cannot be used, so that nothing is known of them
    findings : what a person should know about the contours
    known_slices : first slice, and slice after the last one, of organs that were drawn only in part: in other
        slices nothing is known of them
    """

    volume: Volume
    masks: Mapping[str, Mask]
    unusable: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()
    known_slices: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceCase:
    """One scan of a data set.

    Attributes
    ----------
    database : name of the data set in the experiment
    name : of the scan, unique in its data set
    patient : name or number of the patient, whose scans are never on both sides of a split
    annotated : organs that were looked for in this scan; of all others nothing is known
    outside : organs that are certainly outside this scan, as the experiment says; they are annotated too
    read : reads the voxels
    age_years : of the patient, None if not known
    test : whether the scan belongs to the test split of the data set
    unused : names of its structures to which the data set's description assigns no organ, or that cannot be
        used, then with the reason
    patient_id : Patient ID (0010,0020), for the map of a site; it is never stored with the scan
    source_hash : hash of all that the scan is made from; None if it is not known. A stored scan with another
        hash is stored again
    sex : ``F``, ``M`` or ``O``, empty if not known
    scanner : manufacturer and model, empty if not known
    """

    database: str
    name: str
    patient: str
    annotated: frozenset[str]
    read: Callable[[], Contents]
    age_years: float | None = None
    test: bool = False
    unused: tuple[str, ...] = ()
    patient_id: str = ""
    source_hash: Callable[[], str] | None = None
    sex: str = ""
    scanner: str = ""
    outside: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """Identifier of the scan among all data sets; also the name of its files."""
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
