"""What belongs together under one Series Instance UID: the volumes, and the images that are none of them.

Scanners and archives put localizers, reformats, other fields of view and the phases of a 4DCT under one
series. They are told apart by what is written in the images, never by their number or order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orgseg_node.core.checks import Finding, Level
from orgseg_node.dicom.reading.phases import phases
from orgseg_node.dicom.reading.pixels import PixelSource
from orgseg_node.dicom.reading.slices import Placed, Reason, SetAside
from orgseg_node.dicom.reading.stacking import (
    MIN_SLICES,
    ORIENTATION_TOLERANCE,
    SAME_PLACE_MM,
    along,
    axes,
    is_axial,
    stack,
)
from orgseg_node.errors import DuplicateSlices, InvalidAttribute, MixedGeometry, SeveralPatients

_PARALLEL = 0.985  # cosine of 10 degrees: a localizer or reformat is turned by more
_SAME_POSITION_MM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Slices that make one volume.

    Attributes
    ----------
    name : which part of its series it is, empty where it is all of it
    slices : in any order
    findings : what should be known about how they were told apart
    """

    name: str
    slices: tuple[Placed, ...]
    findings: tuple[Finding, ...] = ()


def parts_of(slices: Sequence[Placed]) -> tuple[tuple[Part, ...], tuple[SetAside, ...]]:
    """The volumes of a series, and its images that are part of none.

    Parameters
    ----------
    slices : all images and frames of one series, at least one

    Raises
    ------
    SeveralPatients, InvalidAttribute
        If they are of several patients or studies.
    MixedGeometry
        If an image that differs from all others lies where one is missing among them.
    DuplicateSlices
        If different images lie at the same place and nothing tells which belong together.
    NotAxial, TooFewSlices
        If there is no volume of axial slices.
    UndecodablePixels
        If images lie at the same place and cannot be compared.
    """
    _of_one_study(slices)
    pixels = PixelSource()
    slices, aside = _once_each(slices, pixels)
    groups = _alike(slices)
    volumes = [group for group in groups if len(group) >= MIN_SLICES and is_axial(group[0])]
    if not volumes:
        stack(max(groups, key=len))  # says why it is none
        raise MixedGeometry("No three of its images share direction, size and frame of reference.")
    stray = [one for group in groups if not any(group is volume for volume in volumes) for one in group]
    _refuse_slices_gone_astray(stray, volumes)
    found: list[Part] = []
    for number, volume in enumerate(volumes, start=1):
        told, copies = _told_apart(volume, pixels)
        aside += [_aside(one, Reason.COPY) for one in copies if one.image.frame is None]
        findings = _left_aside(stray, volume) + _doubled(copies)
        where = _named(number, volume, len(volumes)) if len(volumes) > 1 else ""
        for phase, members in told.items():
            name = ", ".join(text for text in (where, phase) if text)
            found.append(Part(name=name, slices=tuple(members), findings=findings))
    aside += [_aside(one, Reason.OTHER_GEOMETRY) for one in stray if one.image.frame is None]
    return tuple(found), tuple(aside)


def _of_one_study(slices: Sequence[Placed]) -> None:
    if len({s.patient for s in slices}) > 1:
        raise SeveralPatients("They share one series.")
    if len({s.study_uid for s in slices}) > 1:
        raise InvalidAttribute("The slices of one series name different studies.")


def _aside(one: Placed, reason: Reason) -> SetAside:
    return SetAside(path=one.image.path, reason=reason)


def _once_each(slices: Sequence[Placed], pixels: PixelSource) -> tuple[list[Placed], list[SetAside]]:
    """Each instance and frame once; a second file of the same UID must show the same at the same place."""
    known: dict[tuple[str, int | None], Placed] = {}
    again: dict[str, SetAside] = {}
    for one in slices:
        key = (one.image.sop_instance_uid, one.image.frame)
        first = known.setdefault(key, one)
        if first is one:
            continue
        if (
            not _is_alike(first, one)
            or _is_elsewhere(first, one)
            or _shown(first, pixels) != _shown(one, pixels)
        ):
            raise DuplicateSlices("Different images carry the same SOP Instance UID.")
        again[str(one.image.path)] = _aside(one, Reason.COPY)
    return list(known.values()), list(again.values())


def _shown(one: Placed, pixels: PixelSource) -> str:
    return pixels.content(one.image, (one.rows, one.columns))


def _is_elsewhere(one: Placed, other: Placed) -> bool:
    apart = np.subtract(one.image.position_mm, other.image.position_mm)
    return bool(np.linalg.norm(apart) > _SAME_POSITION_MM)


def _is_alike(one: Placed, other: Placed) -> bool:
    """Whether two images may be slices of one volume."""
    if _sort_of(one) != _sort_of(other):
        return False
    turned = np.abs(np.subtract(one.image.orientation, other.image.orientation)).max()
    scaled = np.abs(np.subtract(one.pixel_spacing_mm, other.pixel_spacing_mm)).max()
    return bool(max(turned, scaled) <= ORIENTATION_TOLERANCE)


def _sort_of(one: Placed) -> tuple[object, ...]:
    # frames of one file are put into stacks by who wrote it (PS3.3, C.7.6.16.2.2.4)
    stack_id = one.told.get("StackID", "") if one.image.frame is not None else ""
    return one.frame_uid, one.rows, one.columns, one.patient_position, stack_id


def _alike(slices: Iterable[Placed]) -> list[list[Placed]]:
    """Images that may be slices of one volume, the largest group first."""
    sorts: defaultdict[tuple[object, ...], list[list[Placed]]] = defaultdict(list)
    for one in slices:
        groups = sorts[_sort_of(one)]
        group = next((group for group in groups if _is_alike(group[0], one)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return sorted((group for groups in sorts.values() for group in groups), key=len, reverse=True)


def _refuse_slices_gone_astray(stray: Sequence[Placed], volumes: Sequence[list[Placed]]) -> None:
    """A slice that fits into a gap of a volume belongs there, whatever else its header says."""
    for volume in volumes:
        normal = axes(volume[0].image.orientation)[0]
        heights = np.sort(along(volume[0].image.orientation, volume))
        gaps = np.diff(heights)
        ordinary = float(np.median(gaps[gaps > SAME_PLACE_MM])) if (gaps > SAME_PLACE_MM).any() else 0.0
        for one in stray:
            height = float(np.dot(one.image.position_mm, normal))
            near = float(np.abs(heights - height).min())
            inside = heights[0] - 1.5 * ordinary < height < heights[-1] + 1.5 * ordinary
            parallel = abs(float(axes(one.image.orientation)[0] @ normal)) > _PARALLEL
            if parallel and inside and near > ordinary / 4:
                raise MixedGeometry(f"One where a slice is missing differs in {_difference(one, volume[0])}.")


def _difference(one: Placed, other: Placed) -> str:
    pairs = {
        "frame of reference": (one.frame_uid, other.frame_uid),
        "size": ((one.rows, one.columns), (other.rows, other.columns)),
        "patient position": (one.patient_position, other.patient_position),
        "pixel spacing": (one.pixel_spacing_mm, other.pixel_spacing_mm),
    }
    return next((name for name, (a, b) in pairs.items() if a != b), "orientation")


def _told_apart(
    volume: list[Placed], pixels: PixelSource
) -> tuple[Mapping[str, Sequence[Placed]], list[Placed]]:
    """The phases of a volume by name, and what is there twice.

    Phases come first: where the patient does not move, they may show the same. Only where no attribute tells
    images at one place apart, or all of a phase is the same as another, are they copies.
    """
    try:
        told = phases(volume)
    except DuplicateSlices:
        kept, copies = _without_copies(volume, pixels)
        if not copies:
            raise
        return phases(kept), copies
    different: dict[str, Sequence[Placed]] = {}
    copies = []
    for name, members in told.items():
        if any(_show_the_same(members, other, pixels) for other in different.values()):
            copies += members
        else:
            different[name] = members
    return different if len(different) > 1 else {"": next(iter(different.values()))}, copies


def _show_the_same(members: Sequence[Placed], others: Sequence[Placed], pixels: PixelSource) -> bool:
    def ordered(slices: Sequence[Placed]) -> list[Placed]:
        return [slices[n] for n in np.argsort(along(slices[0].image.orientation, slices), kind="stable")]

    return len(members) == len(others) and all(
        not _is_elsewhere(one, other) and _shown(one, pixels) == _shown(other, pixels)
        for one, other in zip(ordered(members), ordered(others), strict=True)
    )


def _without_copies(volume: list[Placed], pixels: PixelSource) -> tuple[list[Placed], list[Placed]]:
    """One of the images that show the same at the same position; only those at one place are looked into."""
    heights = along(volume[0].image.orientation, volume)
    order = np.argsort(heights, kind="stable")
    near = np.diff(heights[order]) < SAME_PLACE_MM
    doubled = {int(n) for pair in zip(order[:-1][near], order[1:][near], strict=True) for n in pair}
    kept: list[Placed] = []
    copies: list[Placed] = []
    seen: defaultdict[str, list[Placed]] = defaultdict(list)
    for _, n in sorted((one.image.sop_instance_uid, n) for n, one in enumerate(volume)):
        one = volume[n]
        if n in doubled:
            same = seen[_shown(one, pixels)]
            if not all(_is_elsewhere(one, other) for other in same):
                copies.append(one)
                continue
            same.append(one)
        kept.append(one)
    return kept, copies


def _doubled(copies: Sequence[Placed]) -> tuple[Finding, ...]:
    if not copies:
        return ()
    message = f"{len(copies)} images show the same as others at the same place and were left out."
    code, level = "SERIES_DUPLICATE_SLICES", Level.INFO
    return (Finding(level=level, code=code, message=message, value=float(len(copies))),)


def _left_aside(stray: Sequence[Placed], volume: Sequence[Placed]) -> tuple[Finding, ...]:
    if not stray:
        return ()
    kinds = Counter(_difference(one, volume[0]) for one in stray)
    named = ", ".join(f"{count} of another {kind}" for kind, count in sorted(kinds.items()))
    message = f"Images of the series were left aside, they are no part of the volume: {named}."
    code = "SERIES_IMAGES_LEFT_ASIDE"
    return (Finding(level=Level.WARNING, code=code, message=message, value=float(len(stray))),)


def _named(number: int, volume: Sequence[Placed], count: int) -> str:
    first = volume[0]
    row_mm, column_mm = first.pixel_spacing_mm
    return (
        f"{number} of {count}: {len(volume)} images of {first.rows} x {first.columns} pixels "
        f"of {row_mm:.4g} x {column_mm:.4g} mm"
    )
