"""A structure set that came back, as a second line beside what was delivered, and where the two differ most.

It is drawn by the rules by which it was measured. Only structure sets are read that a process of its own has
read and measured before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.rasterise import Contour, crossings, mask_of
from orgseg_node.dicom.objects.clinical_rtstruct import clinical_rois, roi_lines
from orgseg_node.dicom.objects.structure_set_facts import read_structure_set
from orgseg_node.errors import ObjectInvalid, ResultMissing
from orgseg_node.node.feedback.model import MEASURED, Feedback, OrganFeedback, OrganOutcome
from orgseg_node.web.case_content.images import DrawnOrgan, OpenCase, lines_of, points_of

_WORST: Final = 5
_LEAST_MM2: Final = 1.0
_NOT_DRAWN: Final = frozenset({OrganOutcome.DELETED, OrganOutcome.UNUSABLE})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SecondOrgan:
    """One ROI that came back.

    Attributes
    ----------
    roi : its name
    drawn : position among the delivered organs; None if it stands for none of them
    slices, contours : as of `DrawnOrgan`
    worst : slices on which it differs most from what was delivered, each with the area in mm2 that only one
        of the two encloses; the largest first
    """

    roi: str
    drawn: int | None
    slices: tuple[int, ...]
    contours: tuple[NDArray[np.float64], ...]
    worst: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SecondLine:
    """The ROIs of a structure set that came back."""

    organs: tuple[SecondOrgan, ...]

    def description(self) -> dict[str, Any]:
        """Everything that the viewer needs besides the points."""
        return {
            "organs": [
                {
                    "roi": one.roi,
                    "drawn": one.drawn,
                    "worst": [list(row) for row in one.worst],
                    **lines_of(one),
                }
                for one in self.organs
            ]
        }

    def points(self) -> bytes:
        """The points of all contours in the order of the description: pairs of float32, little-endian."""
        return points_of(self.organs)


def second_line(
    case: OpenCase,
    path: Path,
    feedback: Feedback,
    measured: Sequence[OrganFeedback],
    keys: Mapping[str, str],
) -> SecondLine:
    """The second line of a case.

    Parameters
    ----------
    case : with what was delivered
    path : file of the structure set that came back
    feedback : its state
    measured : its ROIs as they were measured
    keys : key of each delivered organ, by its name

    Raises
    ------
    ResultMissing
        If it was not measured, or its file is not here.
    InputError
        If it cannot be read any more.
    """
    if feedback.state not in MEASURED or not path.is_file():
        raise ResultMissing("The structure set that came back was not measured, or is not here.")
    drawn = {keys[organ.name]: index for index, organ in enumerate(case.organs) if keys.get(organ.name)}
    rois = {roi.name: roi for roi in clinical_rois(read_structure_set(path))}
    found = []
    for row in measured:
        if row.outcome in _NOT_DRAWN or row.roi not in rois:
            continue
        with suppress(ObjectInvalid):  # it was measured, and the table says with what result
            lines = roi_lines(rois[row.roi], case.series)
            index = drawn.get(row.organ) if row.organ else None
            worst = () if index is None else _worst(case, case.organs[index], lines)
            found.append(
                SecondOrgan(
                    roi=row.roi,
                    drawn=index,
                    slices=tuple(line.k for line in lines),
                    contours=tuple(line.points for line in lines),
                    worst=worst,
                )
            )
    return SecondLine(organs=tuple(found))


def _worst(case: OpenCase, organ: DrawnOrgan, lines: Sequence[Contour]) -> tuple[tuple[int, float], ...]:
    """The slices with the largest area that only one of two sets of contours encloses."""
    before = [Contour(k=k, points=points) for k, points in zip(organ.slices, organ.contours, strict=True)]
    every = [*before, *lines]
    if not every:
        return ()
    points = np.concatenate([one.points for one in every])
    first = np.floor(points.min(axis=0)).astype(int)
    columns, rows = (np.ceil(points.max(axis=0)).astype(int) - first + 2).tolist()
    lowest = min(one.k for one in every)
    shape = (max(one.k for one in every) - lowest + 1, rows, columns)
    masks = [
        mask_of(
            crossings([Contour(k=one.k - lowest, points=one.points - first) for one in some], shape), shape
        )
        for some in (before, lines)
    ]
    areas = np.count_nonzero(masks[0] != masks[1], axis=(1, 2)) * float(np.prod(case.series.pixel_spacing_mm))
    order = np.argsort(-areas, kind="stable")[:_WORST]
    return tuple((int(k) + lowest, round(float(areas[k]), 1)) for k in order if areas[k] >= _LEAST_MM2)
