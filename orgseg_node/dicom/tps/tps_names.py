"""ROI names for a planning system, made from the names of organs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orgseg_node.core.organs import Organ
from orgseg_node.dicom.objects.object_header import to_ascii
from orgseg_node.dicom.tps.tps_profile import TpsProfile
from orgseg_node.errors import ObjectInvalid

_FALLBACK = "ROI"
# The end of a TG-263 name distinguishes similar structures: side, margin, number
_END = re.compile(r"((?:[_~-](?:PRV\d*|[LRAPSI]|\d+))+)$")


def names_for(organs: Iterable[Organ], profile: TpsProfile) -> dict[str, str]:
    """The ROI name of each organ for a planning system.

    Characters that the system does not accept become underscores, accents are dropped. A name that is too
    long is shortened in its middle, so that side and margin at its end remain. If two names become equal, the
    later one gets a number. The same organs in the same order give the same names, whichever of them were
    found.

    Parameters
    ----------
    organs : all that may be in the structure set, including those that were not found
    profile : the planning system

    Returns
    -------
    names by `Organ.key`

    Raises
    ------
    ObjectInvalid
        If two organs have the same key.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for organ in organs:
        if organ.key in names:
            raise ObjectInvalid(f"Two structures have the key {organ.key}.")
        wanted = _acceptable(organ.name, profile)
        name, number = wanted, 1
        while _compared(name, profile) in taken:
            number += 1
            name = _shortened(f"{wanted}_{number}", profile.max_name)
        taken.add(_compared(name, profile))
        names[organ.key] = name
    return names


def _acceptable(name: str, profile: TpsProfile) -> str:
    spelled = "".join(c if c in profile.characters else "_" for c in to_ascii(name))
    if spelled != name:
        spelled = re.sub(r"__+", "_", spelled).strip("_")
    return _shortened(spelled.strip() or _FALLBACK, profile.max_name)


def _shortened(name: str, length: int) -> str:
    if len(name) <= length:
        return name
    end = _END.search(name)
    tail = end[0][-(length - 1) :] if end else ""
    return name[: length - len(tail)] + tail


def _compared(name: str, profile: TpsProfile) -> str:
    return name.casefold() if profile.unique_without_case else name
