"""ROIs of a structure set as masks of organs on the CT, by the node's own reader and rasteriser.

An ROI that cannot be used is listed with its reason: nothing is known of its organ, and the others count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.organs import PAIRS, Organ, OrganTable
from orgseg_node.core.resample import resample_hu_to_grid
from orgseg_node.core.volume import Mask
from orgseg_node.dicom.objects.clinical_rtstruct import (
    ClinicalRoi,
    DrawnRoi,
    clinical_rois,
    empty_rois,
    read_roi,
    stray_contours,
)
from orgseg_node.dicom.reading.files import open_header
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid
from orgseg_node.inference.orientation import reorientation_to
from orgseg_training.datasets.adapter_base import make_contents
from orgseg_training.datasets.anatomy_check import misplaced_organs
from orgseg_training.datasets.case import Contents
from orgseg_training.datasets.organ_names import RoiNames
from orgseg_training.datasets.rtstruct.drawing_habits import fill_habit, known_slices
from orgseg_training.datasets.rtstruct.structure_sets import Link, is_untrusted
from orgseg_training.errors import AnatomyContradicted, CaseRejected, scan_error

_COPY_DICE: Final = 0.99  # two ROIs that agree so well are copies
_ORDINALS: Final = {2: "second", 3: "third"}
_INSIDE: Final = 1000.0  # between slices a mask is interpolated like a CT, with a threshold at half of this


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenRois:
    """The ROIs of a structure set on one CT.

    Attributes
    ----------
    rois : places of the ROIs that mean an organ among those with contours, by key of the organ table;
        several only if they may be copies of each other
    unused : names of the ROIs that mean no organ
    left_out : why the ROI of an organ cannot be used, by key of the organ table
    findings : about the structure set as a whole
    """

    rois: Mapping[str, tuple[int, ...]]
    unused: tuple[str, ...]
    left_out: Mapping[str, str]
    findings: tuple[Finding, ...] = ()


def choose_rois(link: Link, series: CtSeries, names: RoiNames, *, automatic: bool) -> ChosenRois:
    """The ROI of each organ, and why others are not used.

    Parameters
    ----------
    link : the structure set and how it belongs to the CT
    series : the CT
    names : organs by name
    automatic : whether ROIs that a program made and nobody approved count as drawn

    Raises
    ------
    InputError, ObjectInvalid
        If the object cannot be read.
    """
    dataset, _ = open_header(link.structures.path)
    own = frozenset(image.sop_instance_uid for image in series.slices)
    here = [
        (place, roi, names.organ(roi.name))
        for place, roi in enumerate(clinical_rois(dataset))
        if not _is_elsewhere(roi, own, link)
    ]
    rois: defaultdict[str, list[int]] = defaultdict(list)
    left_out: dict[str, str] = {}
    unused = []
    for place, roi, organ in here:
        if organ is None:
            unused.append(roi.name)
        elif roi.fault:
            left_out[organ] = roi.fault
        elif not automatic and is_untrusted(roi, dataset):
            left_out[organ] = "a program made it and nobody approved it"
        elif link.images and not roi.images & own:
            left_out[organ] = "its contours do not say on which of several CTs they were drawn"
        elif roi.images & link.images:
            left_out[organ] = "its contours refer to several CTs"
        else:
            rois[organ].append(place)
    unedited = [
        organ for organ, places in rois.items() if any(r.is_unedited for p, r, _ in here if p in places)
    ]
    empty = {names.organ(name) for name in empty_rois(dataset)} - {None, *rois, *left_out}
    return ChosenRois(
        rois={organ: tuple(places) for organ, places in rois.items()},
        unused=tuple(sorted(unused)),
        left_out={organ: why for organ, why in left_out.items() if organ not in rois},
        findings=(
            *_set_findings(link, stray_contours(dataset)),
            *map(_not_edited, unedited),
            *(_empty(organ) for organ in sorted(filter(None, empty))),
        ),
    )


def _empty(organ: str) -> Finding:
    message = f"{organ}: its ROI has no contours; nothing is known of the organ."
    return Finding(level=Level.INFO, code="ROI_EMPTY", message=message, organ=organ)


def _not_edited(organ: str) -> Finding:
    return Finding(
        level=Level.WARNING,
        code="ROI_NOT_EDITED",
        message=f"{organ}: a model drew it and nobody edited it; it is no independent truth.",
        organ=organ,
    )


def read_contents(key: str, series: CtSeries, path: Path, chosen: ChosenRois, organs: OrganTable) -> Contents:
    """The voxels of a CT and of some ROIs, reoriented so that k, j, i increase with z, y, x in LPS.

    Parameters
    ----------
    key : identifier of the scan
    series : the CT
    path : of the RTSTRUCT
    chosen : its ROIs
    organs : the organ table

    Raises
    ------
    CaseRejected
        If none of the ROIs can be used.
    AnatomyContradicted
        If most organs are at impossible positions.
    InputError
        If the CT or the structure set cannot be read.
    """
    rois = clinical_rois(open_header(path)[0])
    masks: dict[str, Mask] = {}
    left_out = dict(chosen.left_out)
    findings: list[Finding] = []
    for organ, places in sorted(chosen.rois.items()):
        try:
            drawn = _read_one([rois[place] for place in places], series, organ)
            masks[organ] = _on_grid(drawn.mask, series)
            findings += drawn.findings
        except ObjectInvalid as error:
            left_out[organ] = error.detail
        except Exception as error:  # noqa: BLE001  # one odd ROI must not lose the others
            left_out[organ] = scan_error(error).sentence
    volume = read_volume(series)
    reorientation = reorientation_to(volume.grid)
    volume = reorientation.apply_to_volume(volume)
    masks = {organ: reorientation.apply(mask) for organ, mask in masks.items()}
    known = {}
    for organ, mask in masks.items():
        filled, part, found = _habits(mask, organs[organ], volume.grid.spacing_mm[0])
        masks[organ] = filled
        findings += found
        if part:
            known[organ] = part
    wrong = misplaced_organs(masks, volume.grid)
    if len(wrong) > len(masks) - len(wrong):
        raise AnatomyContradicted(f"{key}: {'. '.join(sorted(set(wrong.values()))[:3])}.")
    left_out |= wrong
    masks = {organ: mask for organ, mask in masks.items() if organ not in wrong}
    if not masks:
        raise CaseRejected(f"{key}: {none_usable(left_out)}")
    contents = make_contents(key, volume, masks)
    return Contents(
        volume=contents.volume,
        masks=contents.masks,
        unusable=_with_pairs(left_out) - contents.masks.keys(),
        findings=(*scan_findings(series), *chosen.findings, *_left_out_findings(left_out), *findings),
        known_slices=_with_known_pairs(known, contents.masks, volume.grid.shape[0]),
    )


def _read_one(rois: Sequence[ClinicalRoi], series: CtSeries, organ: str) -> DrawnRoi:
    """The voxels of an organ; several ROIs that mean it must be copies. Raises ObjectInvalid."""
    drawn = [read_roi(roi, series, organ) for roi in rois]
    first = drawn[0]
    if len(drawn) == 1:
        return first
    for other in drawn[1:]:
        both = int((first.mask & other.mask).sum())
        if 2 * both < _COPY_DICE * (int(first.mask.sum()) + int(other.mask.sum())):
            names = " and ".join(f"'{roi.name}'" for roi in rois)
            raise ObjectInvalid(f"the ROIs {names} mean it and differ; leave one of them out")
    finding = Finding(
        level=Level.WARNING,
        code="ROI_TWICE",
        message=f"{organ}: {len(rois)} ROIs mean it and are alike; the first one is used.",
        organ=organ,
        value=float(len(rois)),
    )
    return DrawnRoi(mask=first.mask, findings=(*first.findings, finding))


def _habits(mask: Mask, organ: Organ, slice_mm: float) -> tuple[Mask, tuple[int, int] | None, list[Finding]]:
    """A mask without the gaps of a habit, the slices in which the organ is known, and what was found."""
    filled = fill_habit(mask, slice_mm)
    part = known_slices(filled.mask, organ, slice_mm)
    findings = []
    if filled.filled:
        message = (
            f"{organ.key}: contours on every {_ORDINALS.get(filled.every, f'{filled.every}th')} slice; "
            f"{filled.filled} slices between them were filled in."
        )
        findings.append(_note("ROI_SLICES_FILLED", message, organ.key, filled.filled))
    if part:
        length = slice_mm * float(np.ptp(np.flatnonzero(filled.mask.any(axis=(1, 2)))) + 1)
        message = f"{organ.key}: drawn in part, {length:.0f} mm; beyond it nothing is known of the organ."
        findings.append(_note("ROI_DRAWN_IN_PART", message, organ.key, length))
    return filled.mask, part, findings


def _note(code: str, message: str, organ: str, value: float) -> Finding:
    return Finding(level=Level.INFO, code=code, message=message, organ=organ, value=float(value))


def _with_known_pairs(
    known: Mapping[str, tuple[int, int]], masks: Mapping[str, Mask], count: int
) -> dict[str, tuple[int, int]]:
    """Also for each pair, the slices in which both sides are known."""
    found = dict(known)
    for both, sides in PAIRS.items():
        if both in masks and both not in known and not known.keys().isdisjoint(sides):
            parts = [known.get(side, (0, count)) for side in sides]
            found[both] = (max(start for start, _ in parts), min(stop for _, stop in parts))
    return found


def none_usable(left_out: Mapping[str, str]) -> str:
    """A sentence about a structure set of which no ROI can be used."""
    organs: defaultdict[str, list[str]] = defaultdict(list)
    for organ, why in sorted(left_out.items()):
        organs[why].append(organ)
    reasons = "; ".join(f"{', '.join(members)}: {why}" for why, members in organs.items())
    return f"None of its ROIs can be used: {reasons}."


def _is_elsewhere(roi: ClinicalRoi, own: frozenset[str], link: Link) -> bool:
    """Whether an ROI was drawn on another CT than others of its structure set, be it here or not."""
    return link.by_images and bool(roi.images) and roi.images.isdisjoint(own)


def scan_findings(series: CtSeries) -> Iterator[Finding]:
    """What is wrong with the CT itself, such as missing slices."""
    return (finding for finding in series.findings if finding.level is not Level.INFO)


def _set_findings(link: Link, stray: int) -> Iterator[Finding]:
    if link.by_frame:
        message = "It refers to no series and no image that is here; frame of reference and patient match."
        yield Finding(level=Level.WARNING, code="STRUCTURES_BY_FRAME", message=message)
    if stray:
        message = f"{stray} ROIs have contours but no name, since their numbers are missing or wrong."
        yield Finding(level=Level.WARNING, code="STRUCTURES_STRAY", message=message, value=float(stray))


def _left_out_findings(left_out: Mapping[str, str]) -> list[Finding]:
    return [
        Finding(
            level=Level.WARNING,
            code="ROI_LEFT_OUT",
            message=f"{organ}: {why}.".replace("..", "."),
            organ=organ,
        )
        for organ, why in sorted(left_out.items())
    ]


def _with_pairs(organs: Mapping[str, str]) -> frozenset[str]:
    """Organs, and each pair of which one side is among them."""
    return frozenset(organs) | {both for both, sides in PAIRS.items() if not set(sides).isdisjoint(organs)}


def _on_grid(mask: Mask, series: CtSeries) -> Mask:
    if series.is_regular:
        return mask
    values = resample_hu_to_grid(mask.astype(np.float32) * np.float32(_INSIDE), series.stack, series.grid)
    inside: Mask = values > _INSIDE / 2
    return inside
