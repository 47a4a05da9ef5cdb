"""Divides the images under one Series Instance UID into volumes, and images that belong to no volume.

Scanners and archives put localizers, reformats, other fields of view and the phases of a 4DCT into one
series. They are separated by the contents of the images, never by Instance Number or order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NoReturn

import numpy as np

from orgseg_node.core.checks import Finding, Level
from orgseg_node.dicom.reading.image_kind import Reason
from orgseg_node.dicom.reading.joining import (
    Group,
    adjoin,
    alternate,
    difference,
    join_within_rounding,
    stack_id,
)
from orgseg_node.dicom.reading.phases import alternating_attribute, phases
from orgseg_node.dicom.reading.pixels import PixelReader
from orgseg_node.dicom.reading.slices import PlacedSlice, SetAside
from orgseg_node.dicom.reading.stacking import (
    MIN_SLICES,
    ORIENTATION_TOLERANCE,
    PARALLEL,
    SAME_POSITION_MM,
    is_axial,
    leave_gaps,
    normal_positions,
    slice_axes,
    stack,
)
from orgseg_node.errors import DuplicateSlices, InvalidAttribute, MixedGeometry, SeveralPatients

_SAME_POSITION_MM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The slices of one volume.

    Attributes
    ----------
    name : of the part within its series; empty if the series is one volume
    slices : in any order
    findings : what a person should know about how the series was divided
    """

    name: str
    slices: tuple[PlacedSlice, ...]
    findings: tuple[Finding, ...] = ()


def parts_of(slices: Sequence[PlacedSlice]) -> tuple[tuple[Part, ...], tuple[SetAside, ...]]:
    """The volumes of a series, and its images that belong to no volume.

    Parameters
    ----------
    slices : all images and frames of one series, at least one

    Raises
    ------
    SeveralPatients, InvalidAttribute
        If they belong to several patients or studies.
    MixedGeometry
        If an image with another geometry is at the position of a missing slice.
    DuplicateSlices
        If different images are at the same position and no attribute separates them.
    NotAxial, TooFewSlices
        If there is no volume of axial slices.
    UndecodablePixels
        If images are at the same position and cannot be compared.
    """
    _of_one_study(slices)
    pixels = PixelReader()
    slices, aside = _without_repeated_files(slices, pixels)
    groups = join_within_rounding(_groups_of_same_geometry(slices))
    volumes = [one for one in groups if len(one.slices) >= MIN_SLICES and is_axial(one.slices[0])]
    if not volumes:
        _refuse_without_volume(groups)
    ungrouped = [one for group in groups if group not in volumes for one in group.slices]
    _refuse_misplaced_slices(ungrouped, [volume.slices for volume in volumes])
    neighbours = _neighbours_findings(volumes)
    found: list[Part] = []
    for number, (volume, beside) in enumerate(zip(volumes, neighbours, strict=True), start=1):
        by_phase, copies = _phases_and_copies(volume.slices, pixels)
        aside += [_aside(one, Reason.COPY) for one in copies if one.image.frame is None]
        findings = (
            *volume.findings,
            *beside,
            *_excluded_finding(ungrouped, volume.slices),
            *_copies_finding(copies),
            *_phases_findings(by_phase),
        )
        where = _named(number, volume.slices, len(volumes)) if len(volumes) > 1 else ""
        for phase, members in by_phase.items():
            name = ", ".join(text for text in (where, phase) if text)
            found.append(Part(name=name, slices=tuple(members), findings=findings))
    aside += [_aside(one, Reason.OTHER_GEOMETRY) for one in ungrouped if one.image.frame is None]
    return tuple(found), tuple(aside)


def _of_one_study(slices: Sequence[PlacedSlice]) -> None:
    if len({s.patient for s in slices}) > 1:
        raise SeveralPatients("They share one series.")
    if len({s.study_uid for s in slices}) > 1:
        raise InvalidAttribute("The slices of one series name different studies.")


def _aside(one: PlacedSlice, reason: Reason) -> SetAside:
    return SetAside(path=one.image.path, reason=reason)


def _without_repeated_files(
    slices: Sequence[PlacedSlice], pixels: PixelReader
) -> tuple[list[PlacedSlice], list[SetAside]]:
    """Each instance and frame once; a second file of the same UID must have the same content and position."""
    known: dict[tuple[str, int | None], PlacedSlice] = {}
    again: dict[str, SetAside] = {}
    for one in slices:
        key = (one.image.sop_instance_uid, one.image.frame)
        first = known.setdefault(key, one)
        if first is one:
            continue
        if (
            not _has_same_geometry(first, one)
            or _has_other_position(first, one)
            or _content_hash(first, pixels) != _content_hash(one, pixels)
        ):
            raise DuplicateSlices("Different images have the same SOP Instance UID.")
        again[str(one.image.path)] = _aside(one, Reason.COPY)
    return list(known.values()), list(again.values())


def _content_hash(one: PlacedSlice, pixels: PixelReader) -> str:
    return pixels.content_hash(one.image, (one.rows, one.columns))


def _has_other_position(one: PlacedSlice, other: PlacedSlice) -> bool:
    apart = np.subtract(one.image.position_mm, other.image.position_mm)
    return bool(np.linalg.norm(apart) > _SAME_POSITION_MM)


def _has_same_geometry(one: PlacedSlice, other: PlacedSlice) -> bool:
    """Whether two images may be slices of one volume."""
    if _group_key(one) != _group_key(other):
        return False
    turned = np.abs(np.subtract(one.image.orientation, other.image.orientation)).max()
    scaled = np.abs(np.subtract(one.pixel_spacing_mm, other.pixel_spacing_mm)).max()
    return bool(max(turned, scaled) <= ORIENTATION_TOLERANCE)


def _group_key(one: PlacedSlice) -> tuple[object, ...]:
    return one.frame_uid, one.rows, one.columns, one.patient_position, stack_id(one)


def _groups_of_same_geometry(slices: Iterable[PlacedSlice]) -> list[list[PlacedSlice]]:
    """Images that may be slices of one volume, the largest group first."""
    sorts: defaultdict[tuple[object, ...], list[list[PlacedSlice]]] = defaultdict(list)
    for one in slices:
        groups = sorts[_group_key(one)]
        group = next((group for group in groups if _has_same_geometry(group[0], one)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return sorted((group for groups in sorts.values() for group in groups), key=len, reverse=True)


def _refuse_misplaced_slices(
    ungrouped: Sequence[PlacedSlice], volumes: Sequence[Sequence[PlacedSlice]]
) -> None:
    """Refuse a slice that fits into a gap of a volume: it belongs there, whatever its header states."""
    for volume in volumes:
        normal = slice_axes(volume[0].image.orientation)[0]
        heights = np.sort(normal_positions(volume[0].image.orientation, volume))
        gaps = np.diff(heights)
        ordinary = float(np.median(gaps[gaps > SAME_POSITION_MM])) if (gaps > SAME_POSITION_MM).any() else 0.0
        for one in ungrouped:
            height = float(np.dot(one.image.position_mm, normal))
            near = float(np.abs(heights - height).min())
            inside = heights[0] - 1.5 * ordinary < height < heights[-1] + 1.5 * ordinary
            parallel = abs(float(slice_axes(one.image.orientation)[0] @ normal)) > PARALLEL
            if parallel and inside and near > ordinary / 4:
                raise MixedGeometry(f"The slice in a gap differs in {difference(one, volume[0])}.")


def _refuse_without_volume(groups: Sequence[Group]) -> NoReturn:
    """Raise why no images form a volume; if one attribute divides them, name it."""
    largest = groups[0].slices
    others = [one for group in groups[1:] for one in group.slices if is_axial(one)]
    if len(largest) < MIN_SLICES and is_axial(largest[0]):
        heights = np.sort(normal_positions(largest[0].image.orientation, [*largest, *others]))
        if int((np.diff(heights) > SAME_POSITION_MM).sum()) + 1 >= MIN_SLICES:
            differences = Counter(difference(one, largest[0]) for one in others)
            raise MixedGeometry(f"Its slices differ in {differences.most_common(1)[0][0]}.")
    stack(largest)  # raises the reason
    raise MixedGeometry("No three of its images share direction, size and frame of reference.")


def _neighbours_findings(volumes: Sequence[Group]) -> list[tuple[Finding, ...]]:
    """For each volume, how it is placed to the others.

    Raises
    ------
    MixedGeometry
        If the slices of two volumes alternate: each would be half of one volume.
    """
    found: list[list[Finding]] = [[] for _ in volumes]
    for (n, one), (m, other) in combinations(enumerate(volumes), 2):
        differs = difference(one.slices[0], other.slices[0])
        if alternate([one.slices, other.slices]):
            if any(leave_gaps(each.slices, unknown=True) for each in (one, other)):
                raise MixedGeometry(f"Slices that alternate along the series differ in {differs}.")
            finding = _alternating_finding(differs)
        elif adjoin(one.slices, other.slices):
            message = (
                f"Another part of the series, which differs in {differs}, begins where this one ends: "
                "this part alone may be incomplete."
            )
            finding = Finding(level=Level.WARNING, code="SERIES_PART_CONTINUES", message=message)
        else:
            continue
        found[n].append(finding)
        found[m].append(finding)
    return [tuple(dict.fromkeys(each)) for each in found]


def _alternating_finding(differs: str) -> Finding:
    message = (
        f"The slices of this part and of another one, which differs in {differs}, are in each other's gaps: "
        "they may be halves of one volume."
    )
    return Finding(level=Level.WARNING, code="SERIES_PARTS_ALTERNATE", message=message)


def _phases_findings(by_phase: Mapping[str, Sequence[PlacedSlice]]) -> tuple[Finding, ...]:
    """What a person should know about the positions of the phases to each other."""
    members = list(by_phase.values())
    if len(members) == 1:
        attribute = alternating_attribute(members[0])
        if attribute is None:
            return ()
        message = f"Slices that alternate differ in {attribute}; they leave no gaps only as one volume."
        return (Finding(level=Level.WARNING, code="SERIES_ACQUISITIONS_JOINED", message=message),)
    if alternate(members):
        return (_alternating_finding("its acquisition or phase"),)
    orientation = members[0][0].image.orientation
    ends = np.array([(h.min(), h.max()) for h in (normal_positions(orientation, m) for m in members)])
    lengths = ends[:, 1] - ends[:, 0]
    if float(np.ptp(ends, axis=0).max()) < SAME_POSITION_MM:
        return ()
    message = (
        f"The parts of the series cover different lengths, {lengths.min():.0f} to {lengths.max():.0f} mm, "
        "or different places: check that this one is the one to contour."
    )
    return (Finding(level=Level.WARNING, code="SERIES_PARTS_DIFFER", message=message),)


def _phases_and_copies(
    volume: Sequence[PlacedSlice], pixels: PixelReader
) -> tuple[Mapping[str, Sequence[PlacedSlice]], list[PlacedSlice]]:
    """The phases of a volume by name, and the copies.

    Phases are separated first: if the patient does not move, two phases may have equal images. Images count
    as copies only if no attribute separates those at one position, or if a whole phase equals another one.
    """
    try:
        by_phase = phases(volume)
    except DuplicateSlices:
        kept, copies = _without_copies(volume, pixels)
        if not copies:
            raise
        return phases(kept), copies
    different: dict[str, Sequence[PlacedSlice]] = {}
    copies = []
    for name, members in by_phase.items():
        if any(_have_same_content(members, other, pixels) for other in different.values()):
            copies += members
        else:
            different[name] = members
    return different if len(different) > 1 else {"": next(iter(different.values()))}, copies


def _have_same_content(
    members: Sequence[PlacedSlice], others: Sequence[PlacedSlice], pixels: PixelReader
) -> bool:
    def ordered(slices: Sequence[PlacedSlice]) -> list[PlacedSlice]:
        return [
            slices[n]
            for n in np.argsort(normal_positions(slices[0].image.orientation, slices), kind="stable")
        ]

    return len(members) == len(others) and all(
        not _has_other_position(one, other) and _content_hash(one, pixels) == _content_hash(other, pixels)
        for one, other in zip(ordered(members), ordered(others), strict=True)
    )


def _without_copies(
    volume: Sequence[PlacedSlice], pixels: PixelReader
) -> tuple[list[PlacedSlice], list[PlacedSlice]]:
    """One of each group of equal images at one position; only images that share a position are compared."""
    heights = normal_positions(volume[0].image.orientation, volume)
    order = np.argsort(heights, kind="stable")
    near = np.diff(heights[order]) < SAME_POSITION_MM
    doubled = {int(n) for pair in zip(order[:-1][near], order[1:][near], strict=True) for n in pair}
    kept: list[PlacedSlice] = []
    copies: list[PlacedSlice] = []
    seen: defaultdict[str, list[PlacedSlice]] = defaultdict(list)
    for _, n in sorted((one.image.sop_instance_uid, n) for n, one in enumerate(volume)):
        one = volume[n]
        if n in doubled:
            same = seen[_content_hash(one, pixels)]
            if not all(_has_other_position(one, other) for other in same):
                copies.append(one)
                continue
            same.append(one)
        kept.append(one)
    return kept, copies


def _copies_finding(copies: Sequence[PlacedSlice]) -> tuple[Finding, ...]:
    if not copies:
        return ()
    message = f"{len(copies)} images are copies of others at the same position and were left out."
    code, level = "SERIES_DUPLICATE_SLICES", Level.INFO
    return (Finding(level=level, code=code, message=message, value=float(len(copies))),)


def _excluded_finding(ungrouped: Sequence[PlacedSlice], volume: Sequence[PlacedSlice]) -> tuple[Finding, ...]:
    if not ungrouped:
        return ()
    kinds = Counter(difference(one, volume[0]) for one in ungrouped)
    named = ", ".join(f"{count} of another {kind}" for kind, count in sorted(kinds.items()))
    message = f"Images of the series do not belong to the volume and were left out: {named}."
    code = "SERIES_IMAGES_LEFT_ASIDE"
    return (Finding(level=Level.WARNING, code=code, message=message, value=float(len(ungrouped))),)


def _named(number: int, volume: Sequence[PlacedSlice], count: int) -> str:
    first = volume[0]
    row_mm, column_mm = first.pixel_spacing_mm
    return (
        f"{number} of {count}: {len(volume)} images of {first.rows} x {first.columns} pixels "
        f"of {row_mm:.4g} x {column_mm:.4g} mm"
    )
