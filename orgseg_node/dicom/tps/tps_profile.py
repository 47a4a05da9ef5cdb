"""Profiles of planning systems: the limits within which an RT Structure Set is written and checked.

A profile never relaxes the standard. It differs from `GENERIC` only where a public source supports it; where
nothing is published (points per contour, import of keyholes) it keeps the cautious value of `GENERIC` and is
marked "commission it": import the kit of `orgseg commission tps` once and compare the volumes that the system
shows with the table.

Public sources, cited below by number:

1. AAPM TG-263 (2018): names of at most 16 characters, unique without case, without blanks, so that the
   planning systems in use accept them.
2. GSTT-CSC/TotalSegmentator-AIDE issue 11: Eclipse warns of each decimal string above 16 characters.
3. pytrip/pytrip issue 285, pull request 291: Eclipse refuses a set whose label has more than 16 characters.
4. SlicerRt/SlicerRT issue 186: Eclipse reports each attribute of type 2 that is missing.
5. SlicerRt/SlicerRT issue 171: holes are requested as keyholes; CLOSEDPLANAR_XOR is unknown to many readers.
6. brianmanderson/Dicom_RT_and_Images_to_Mask pull request 15: RayStation makes a second ROI where the
   interpreted type of a name has changed, so the written type must never vary.
7. PS3.3 C.8.8.8: the interpreted types; OAR was added late, so older systems get ORGAN instead.
8. pydicom/pydicom issue 1530, CP-1066: Contour Data above 65 534 bytes in explicit VR becomes UN, which
   readers treat as damage. Hence implicit VR, and at most 60 kB in case an archive re-encodes the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from orgseg_node.core.contours import MAX_POINTS, Holes, Tracing

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

# Classic interpreted types, known to every system since the first RT supplements [7]
_TYPES = frozenset(
    {
        "EXTERNAL",
        "PTV",
        "CTV",
        "GTV",
        "TREATED_VOLUME",
        "IRRAD_VOLUME",
        "BOLUS",
        "AVOIDANCE",
        "ORGAN",
        "MARKER",
        "REGISTRATION",
        "ISOCENTER",
        "CONTRAST_AGENT",
        "CAVITY",
        "BRACHY_CHANNEL",
        "BRACHY_ACCESSORY",
        "BRACHY_SRC_APP",
        "BRACHY_CHNL_SHLD",
        "SUPPORT",
        "FIXATION",
        "DOSE_REGION",
        "CONTROL",
    }
)
_NEWER_TYPES = frozenset({"OAR", "DOSE_MEASUREMENT"})


class EmptyRois(StrEnum):
    """What is written for an organ that was not found."""

    OMIT = "omit"
    KEEP = "keep"  # listed without contours


@dataclass(frozen=True, slots=True, kw_only=True)
class TpsProfile:
    """The limits of one planning system.

    Attributes
    ----------
    name : of the profile in the configuration; part of the object's UID unless generic
    max_name : most characters of an ROI name
    characters : allowed characters of an ROI name
    unique_without_case : whether two names must differ in more than case
    holes : how holes are written
    decimals : digits after the point of a coordinate in mm in an axial plane; one more in other planes, and
        more if pixels are so small that rounding could move a voxel across a contour
    max_ds : most characters of a coordinate
    implicit_vr : whether the object is in implicit VR little endian (explicit otherwise)
    max_contour_bytes : most bytes of one Contour Data
    min_points, max_points : limits on the points of one contour
    empty_rois : what is written for organs that were not found
    types : RT ROI Interpreted Types that the system accepts
    replaced_types : replacements for some types that it does not accept
    other_type : replacement for all other types; neither a target nor the external contour
    source_series, roi_creator : whether these newer sequences are written, which validators of 2022 do not
        know
    definition_source : whether an ROI refers to its segment in the Segmentation, if there is one
    algorithm, codes : whether each ROI has the algorithm identification and the code of the organ
    """

    name: str
    max_name: int = 64
    characters: str = LETTERS + " _-+.~^()[]#%&@!=,;:'/<>|*?"
    unique_without_case: bool = True
    holes: Holes = Holes.KEYHOLE
    decimals: int = 2
    max_ds: int = 16
    implicit_vr: bool = True
    max_contour_bytes: int = 60_000
    min_points: int = 3
    max_points: int = MAX_POINTS
    empty_rois: EmptyRois = EmptyRois.OMIT
    types: frozenset[str] = _TYPES | _NEWER_TYPES
    replaced_types: tuple[tuple[str, str], ...] = (("OAR", "ORGAN"),)
    other_type: str = "CONTROL"
    source_series: bool = False
    roi_creator: bool = False
    definition_source: bool = True
    algorithm: bool = True
    codes: bool = True

    @property
    def tracing(self) -> Tracing:
        """How contours for this system are traced."""
        return Tracing(holes=self.holes, max_points=self.max_points)

    def interpreted_type(self, wanted: str) -> str:
        """The RT ROI Interpreted Type that is written for an organ's type; empty stays empty (type 2)."""
        if not wanted or wanted in self.types:
            return wanted
        return dict(self.replaced_types).get(wanted, self.other_type)


GENERIC = TpsProfile(name="generic")
"""Accepted by the standard and by every reader that was tested: for archives and unknown systems."""

# Names by TG-263 [1], the oldest types [7], and no reference to an object that the system may not receive.
_PLANNING = replace(
    GENERIC,
    max_name=16,
    characters=LETTERS + "_-+.~^",
    types=_TYPES,
    definition_source=False,
)

PROFILES: Mapping[str, TpsProfile] = MappingProxyType(
    {
        "generic": GENERIC,
        # Lengths that Eclipse is known to check [2, 3, 4]; its IDs have at most 16 characters [1].
        # Commission it: keyholes, points per contour.
        "eclipse": replace(_PLANNING, name="eclipse"),
        # One type for each name in every set [6]: types are mapped by this table only, never by the result.
        # Commission it: keyholes, points per contour.
        "raystation": replace(_PLANNING, name="raystation"),
        # No public source on import limits was found: the cautious values. Commission it: all of them.
        "monaco": replace(_PLANNING, name="monaco"),
        # As for Monaco.
        "pinnacle": replace(_PLANNING, name="pinnacle"),
    }
)
"""Profiles by name."""
