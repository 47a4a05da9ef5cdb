"""What a planning system takes: the limits to which an RT Structure Set for it is written and checked.

A profile never loosens the standard. It departs from `GENERIC` only where public text supports it; what
nobody has published (points per contour, whether a bridge of no width survives an import) keeps the careful
value of `GENERIC` and is marked "commission it": import the kit of `orgseg commission tps` once and compare
the volumes that the system shows with the table.

Public text, by number, as cited below:

1. AAPM TG-263 (2018): names of at most 16 characters, unique whatever their case, without blanks, so that
   the planning systems in use take them.
2. GSTT-CSC/TotalSegmentator-AIDE issue 11: Eclipse warns of each decimal string above 16 characters.
3. pytrip/pytrip issue 285, pull request 291: Eclipse refuses a set whose label has more than 16 characters.
4. SlicerRt/SlicerRT issue 186: Eclipse reports each attribute of type 2 that is missing.
5. SlicerRt/SlicerRT issue 171: holes are asked for as keyholes; CLOSEDPLANAR_XOR is unknown to many readers.
6. brianmanderson/Dicom_RT_and_Images_to_Mask pull request 15: RayStation makes a second ROI where the
   interpreted type of a name has changed, so the type written must never vary.
7. PS3.3 C.8.8.8: the interpreted types; OAR came late, so older systems get ORGAN for it.
8. pydicom/pydicom issue 1530, CP-1066: Contour Data above 65 534 bytes in explicit VR becomes UN, which
   readers take for damage. Hence implicit VR, and 60 kB for whoever re-encodes.
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
    """What becomes of an organ that was looked for and not found."""

    OMIT = "omit"
    KEEP = "keep"  # listed without contours


@dataclass(frozen=True, slots=True, kw_only=True)
class TpsProfile:
    """The limits of one planning system.

    Attributes
    ----------
    name : how the profile is asked for; part of the object's UID unless generic
    max_name : characters in a ROI name
    characters : what a ROI name may hold
    unique_without_case : whether two names may not differ in case alone
    holes : how holes are written
    decimals : digits after the point of a coordinate in an axial plane, in mm; one more in other planes, and
        more wherever pixels are so small that rounding could move a voxel
    max_ds : characters of a coordinate
    implicit_vr : whether the object is in implicit VR little endian (explicit otherwise)
    max_contour_bytes : size of one Contour Data
    min_points, max_points : points of one contour
    empty_rois : what becomes of organs that were not found
    types : RT ROI Interpreted Types that are taken
    replaced_types : what is written for some types that are not taken
    other_type : what is written for all others; what is no target and no body is spared by it
    source_series, roi_creator : whether these newer sequences are written, which checkers of 2022 do not know
    definition_source : whether an ROI refers to its segment in the segmentation, where there is one
    algorithm, codes : whether the algorithm is identified and the organ coded, in each ROI
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
        """How outlines for this system are to be traced."""
        return Tracing(holes=self.holes, max_points=self.max_points)

    def interpreted_type(self, wanted: str) -> str:
        """The RT ROI Interpreted Type to write for one that is wanted; empty stays empty (type 2)."""
        if not wanted or wanted in self.types:
            return wanted
        return dict(self.replaced_types).get(wanted, self.other_type)


GENERIC = TpsProfile(name="generic")
"""What the standard allows and every reader that was measured takes: for archives and unknown systems."""

# Names by TG-263 [1], the types known longest [7], and no reference to an object that the system may not get.
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
        # Lengths are what Eclipse is known to mind [2, 3, 4]; its IDs have at most 16 characters [1].
        # Commission it: keyholes, points per contour.
        "eclipse": replace(_PLANNING, name="eclipse"),
        # One name, one type, in every set [6]: types are mapped by this table alone, never by what was found.
        # Commission it: keyholes, points per contour.
        "raystation": replace(_PLANNING, name="raystation"),
        # No public text on import limits was found: the careful values. Commission it: all of them.
        "monaco": replace(_PLANNING, name="monaco"),
        # Likewise.
        "pinnacle": replace(_PLANNING, name="pinnacle"),
    }
)
"""Profiles by name."""
