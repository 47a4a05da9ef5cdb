"""Trying a protocol on a contoured CT: what its objects would have, beside what was delivered.

The networks are not run again: the protocol is applied to what they found at that time. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.contouring.objects import RequestedObjects, Result, trace_contours
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.revision.found_result import FoundResult
from orgseg_node.contouring.structures import AppliedProtocol, apply_protocol
from orgseg_node.core.anatomy.plausibility import Judgement
from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.contours import Contour
from orgseg_node.core.geometry import Box, VoxelGeometry
from orgseg_node.core.organs import Organ, OrganTable
from orgseg_node.core.volume import LabelMap, Mask

_WORST: Final = 5
_LEAST_MM2: Final = 1.0


class Change(StrEnum):
    """How a structure differs from the delivered one."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    RENAMED = "renamed"
    SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A structure as it is written.

    Attributes
    ----------
    name : ROI Name
    color : ROI Display Color
    type : RT ROI Interpreted Type
    ml : its volume
    flag : what the objects say of it, such as ``LOOK AT IT: unusual``; empty if nothing
    """

    name: str
    color: tuple[int, int, int]
    type: str
    ml: float
    flag: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TriedStructure:
    """One structure before and after.

    Attributes
    ----------
    key : of the organ, or of the derived structure
    change : how the two differ
    before, after : None where there is none
    dice : of the two, by volume; None unless there are both
    why : why it is not there, or was not; empty if that is plain
    worst : slices on which the two differ most, each with the area in mm2; the largest first
    contours : after, if it is added or changed
    """

    key: str
    change: Change
    before: Look | None
    after: Look | None
    dice: float | None
    why: str
    worst: tuple[tuple[int, float], ...]
    contours: tuple[Contour, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """What a protocol would do with a case.

    Attributes
    ----------
    structures : every structure of before and after, in the order of the protocol
    new, gone : findings that only the one or the other has
    held : whether a person would have to decide before anything is sent
    absent : keys of what the protocol names and neither has, and why
    not_searched : keys of organs that the protocol wants, and that the networks were not asked for here
    drifted : names of structures that the old protocol itself would give otherwise today, as the program
        or the reference of a model has changed since
    """

    structures: tuple[TriedStructure, ...]
    new: tuple[Finding, ...]
    gone: tuple[Finding, ...]
    held: bool
    absent: Mapping[str, str]
    not_searched: tuple[str, ...]
    drifted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """A contoured CT on which a protocol is tried.

    Attributes
    ----------
    kept : what was delivered
    found : what the networks found
    protocol : that was applied
    body : (K, J, I) bool, the patient on the slices of the CT
    judge : judges organs, see `apply_protocol`
    """

    kept: Result
    found: FoundResult
    protocol: Protocol
    body: Mask
    judge: Callable[[LabelMap], Judgement]


def try_protocol(case: Case, protocol: Protocol, table: OrganTable) -> Trial:
    """Apply a protocol to a contoured CT and compare.

    Parameters
    ----------
    case : the CT
    protocol : that is tried
    table : the organ table

    Raises
    ------
    ConfigError
        If the protocol names an organ that is not in the table.
    NothingFound, NothingPlausible
        If nothing is left that could be sent.
    """
    applied = apply_protocol(protocol, case.found.label_map, case.body, table, case.judge)
    requested = RequestedObjects(profile=protocol.profile)
    (traced,) = trace_contours(applied, requested).values()
    contours = {one.organ.key: one.contours for one in traced.structures}
    before, after = _structures(case.kept.applied), _structures(applied)
    place = case.found.label_map.grid
    reasons = _reasons(case.kept.applied) | _reasons(applied)
    rows = []
    for key in _in_order(applied, before, after):
        row = _compared(key, before.get(key), after.get(key), place)
        rows.append(_completed(row, reasons, contours))
    earlier = (*case.kept.applied.findings, *case.kept.applied.judgement.findings)
    later = (*applied.findings, *applied.judgement.findings)
    return Trial(
        structures=tuple(rows),
        new=_only_in(later, earlier),
        gone=_only_in(earlier, later),
        held=any(one.level is Level.ERROR for one in later),
        absent={
            key: reasons.get(key) or "not found in this case"
            for key in applied.order
            if key not in before and key not in after
        },
        not_searched=_not_searched(case, protocol),
        drifted=_drifted(case, before, table),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Structure:
    organ: Organ
    box: Box
    mask: Mask
    flag: str

    def look(self, place: VoxelGeometry) -> Look:
        ml = float(self.mask.sum(axis=(1, 2)) @ place.slice_ml[self.box.slices[0]])
        organ = self.organ
        return Look(
            name=organ.name, color=organ.color, type=organ.interpreted_type, ml=round(ml, 3), flag=self.flag
        )


def _structures(applied: AppliedProtocol) -> dict[str, _Structure]:
    """Every structure that is not empty, by key."""
    label_map, flags = applied.label_map, applied.warnings
    found = {}
    for index, slices in enumerate(ndimage.find_objects(label_map.labels)):
        organ = label_map.organs.get(index + 1)
        if slices is not None and organ is not None:
            k, j, i = slices
            mask = np.equal(label_map.labels[slices], index + 1)
            box = Box(start=(k.start, j.start, i.start), stop=(k.stop, j.stop, i.stop))
            found[organ.key] = _Structure(organ, box, mask, flags.get(organ.key, ""))
    for one in applied.regions:
        if one.mask.any():
            key = one.organ.key
            found[key] = _Structure(one.organ, one.box, one.mask, flags.get(key, ""))
    return found


def _in_order(
    applied: AppliedProtocol, before: Mapping[str, _Structure], after: Mapping[str, _Structure]
) -> Iterable[str]:
    present = before.keys() | after.keys()
    return dict.fromkeys(key for key in (*applied.order, *after, *before) if key in present)


def _compared(
    key: str, before: _Structure | None, after: _Structure | None, place: VoxelGeometry
) -> TriedStructure:
    if before is None or after is None:
        return _one_sided(key, before, after, place)
    first, second, lowest = _in_one_box(before, after)
    one, other, differs = before.look(place), after.look(place), first != second
    is_renamed = (one.name, one.color, one.type) != (other.name, other.color, other.type)
    return TriedStructure(
        key=key,
        change=Change.CHANGED if differs.any() else Change.RENAMED if is_renamed else Change.SAME,
        before=one,
        after=other,
        dice=_dice(first, second, place, lowest),
        why="",
        worst=_worst(differs, place, lowest),
    )


def _one_sided(
    key: str, before: _Structure | None, after: _Structure | None, place: VoxelGeometry
) -> TriedStructure:
    only = before or after
    return TriedStructure(
        key=key,
        change=Change.ADDED if before is None else Change.REMOVED,
        before=None if before is None else before.look(place),
        after=None if after is None else after.look(place),
        dice=None,
        why="",
        worst=() if only is None else _worst(only.mask, place, only.box.start[0]),
    )


def _completed(
    row: TriedStructure, reasons: Mapping[str, str], contours: Mapping[str, tuple[Contour, ...]]
) -> TriedStructure:
    """With the reason, and with its contours if they are others than before."""
    is_one_sided = row.before is None or row.after is None
    is_drawn = row.change in {Change.ADDED, Change.CHANGED}
    return replace(
        row,
        why=reasons.get(row.key, "") if is_one_sided else "",
        contours=contours.get(row.key, ()) if is_drawn else (),
    )


def _in_one_box(before: _Structure, after: _Structure) -> tuple[Mask, Mask, int]:
    """Both masks in the smallest box that holds them, and its first slice."""
    start = np.minimum(before.box.start, after.box.start)
    stop = np.maximum(before.box.stop, after.box.stop)
    masks = []
    for one in (before, after):
        whole: NDArray[np.bool_] = np.zeros(tuple((stop - start).tolist()), dtype=np.bool_)
        lower, upper = np.subtract(one.box.start, start), np.subtract(one.box.stop, start)
        whole[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))] = one.mask
        masks.append(whole)
    return masks[0], masks[1], int(start[0])


def _dice(first: Mask, second: Mask, place: VoxelGeometry, lowest: int) -> float:
    slice_ml = place.slice_ml[lowest : lowest + first.shape[0]]
    both, one, other = (float(mask.sum(axis=(1, 2)) @ slice_ml) for mask in (first & second, first, second))
    return 2 * both / (one + other)


def _worst(differs: Mask, place: VoxelGeometry, lowest: int) -> tuple[tuple[int, float], ...]:
    """The slices with the largest area of a mask."""
    areas = np.count_nonzero(differs, axis=(1, 2)) * float(np.prod(place.pixel_spacing_mm))
    order = np.argsort(-areas, kind="stable")[:_WORST]
    return tuple((int(k) + lowest, round(float(areas[k]), 1)) for k in order if areas[k] >= _LEAST_MM2)


def _reasons(applied: AppliedProtocol) -> dict[str, str]:
    """Why structures are not there, by key."""
    rows = {str(row["structure"]): row for row in applied.recorded}
    found = {key: str(row["done"]) for key, row in rows.items() if "done" in row}
    found |= {
        key: f"{row['left_out_ml']:.2f} ml are less than the protocol's min_ml"
        for key, row in rows.items()
        if "left_out_ml" in row
    }
    return found | dict.fromkeys(applied.removed, "left out by a person, before sending")


def _only_in(these: Iterable[Finding], those: Iterable[Finding]) -> tuple[Finding, ...]:
    known = {(one.code, one.organ, one.message) for one in those}
    return tuple(one for one in these if (one.code, one.organ, one.message) not in known)


def _not_searched(case: Case, protocol: Protocol) -> tuple[str, ...]:
    """Organs that the models of the case know and did not look for, though the protocol wants them."""
    needed = protocol.needed_organs
    return tuple(key for key in case.found.not_searched if needed is None or key in needed)


def _drifted(case: Case, before: Mapping[str, _Structure], table: OrganTable) -> tuple[str, ...]:
    """What the old protocol gives otherwise today; else each difference comes from the new protocol."""
    applied = apply_protocol(case.protocol, case.found.label_map, case.body, table, case.judge)
    again, gone = _structures(applied), set(case.kept.applied.removed)
    names = []
    for key in dict.fromkeys((*before, *again)):
        one, other = before.get(key), again.get(key)
        if key in gone or (one is not None and other is not None and _is_same(one, other)):
            continue
        names.append(next(each.organ.name for each in (one, other) if each is not None))
    return tuple(names)


def _is_same(one: _Structure, other: _Structure) -> bool:
    return one.box == other.box and np.array_equal(one.mask, other.mask)


def trial_document(trial: Trial) -> dict[str, Any]:
    """A trial as JSON, without its contours."""
    return {
        "structures": [
            {
                "key": row.key,
                "change": row.change.value,
                "before": _look(row.before),
                "after": _look(row.after),
                "dice": row.dice,
                "why": row.why,
                "worst": [list(one) for one in row.worst],
            }
            for row in trial.structures
        ],
        "new": [_finding(one) for one in trial.new],
        "gone": [_finding(one) for one in trial.gone],
        "held": trial.held,
        "absent": dict(trial.absent),
        "not_searched": list(trial.not_searched),
        "drifted": list(trial.drifted),
    }


def _look(look: Look | None) -> dict[str, Any] | None:
    if look is None:
        return None
    return {
        "name": look.name, "color": list(look.color), "type": look.type, "ml": look.ml, "flag": look.flag
    }  # fmt: skip


def _finding(finding: Finding) -> dict[str, Any]:
    return {"level": finding.level.value, "code": finding.code, "message": finding.message}
