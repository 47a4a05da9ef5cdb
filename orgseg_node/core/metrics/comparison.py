"""All metrics of one organ in one patient, with a status that states what could be compared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from orgseg_node.core.geometry import Box, Vector
from orgseg_node.core.metrics.overlap import dice, jaccard, volume_difference_ml
from orgseg_node.core.metrics.path_length import added_path
from orgseg_node.core.metrics.surfaces import surface_distances
from orgseg_node.core.volume import Mask

_NAN = float("nan")


class Status(StrEnum):
    """What could be compared; to be read before any number."""

    OK = "ok"
    """Both masks contain the organ."""
    CROPPED_BY_FOV = "cropped_by_fov"
    """Both contain it, and the reference touches the edge of the scan: a part of the organ is not visible."""
    PRED_EMPTY = "pred_empty"
    """False negative: overlaps are 0, distances are undefined."""
    REF_EMPTY = "ref_empty"
    """False positive: reported separately, never averaged into overlaps."""
    BOTH_EMPTY = "both_empty"
    """True negative."""
    NOT_LABELLED = "not_labelled"
    """The organ was not contoured in the reference: unknown, not scored."""

    @property
    def is_scored(self) -> bool:
        """Whether the case counts in means of overlaps."""
        return self in {Status.OK, Status.CROPPED_BY_FOV, Status.PRED_EMPTY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Every metric of one organ; NaN if it is undefined for the status.

    Attributes
    ----------
    status : what could be compared
    dsc, jaccard : overlap, 0 to 1
    msd_mm, hd_mm, hd95_mm : mean surface distance, Hausdorff distance, its 95 % version
    sdsc_2mm, sdsc_3mm, sdsc : surface Dice at 2 mm, 3 mm and the organ's own tolerance
    tolerance_mm : this tolerance
    vd_ml : volume of the prediction minus that of the reference
    reference_ml, prediction_ml : the volumes
    apl_mm, apl_percent, apl_1px_mm : added path length, the same in per cent of the contour, and with a
        tolerance of one pixel
    """

    status: Status
    dsc: float = _NAN
    jaccard: float = _NAN
    msd_mm: float = _NAN
    hd_mm: float = _NAN
    hd95_mm: float = _NAN
    sdsc_2mm: float = _NAN
    sdsc_3mm: float = _NAN
    sdsc: float = _NAN
    tolerance_mm: float = _NAN
    vd_ml: float = _NAN
    reference_ml: float = _NAN
    prediction_ml: float = _NAN
    apl_mm: float = _NAN
    apl_percent: float = _NAN
    apl_1px_mm: float = _NAN


NOT_LABELLED = Comparison(status=Status.NOT_LABELLED)


def compare(reference: Mask, prediction: Mask, spacing_mm: Vector, tolerance_mm: float = 2.0) -> Comparison:
    """Compare a prediction with the reference contours of one organ.

    Parameters
    ----------
    reference, prediction : (K, J, I) bool, the whole scan or a box of it with a margin of one voxel, so that
        a mask touches the edge of the array only if it touches the edge of the scan
    spacing_mm : distance of voxel centres along ``(k, j, i)``
    tolerance_mm : of the surface Dice of this organ

    Raises
    ------
    ValueError
        If the masks differ in shape.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"Masks of {reference.shape} and {prediction.shape} voxels cannot be compared.")
    reference, prediction = _cropped(reference, prediction)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    volumes = {
        "reference_ml": int(np.count_nonzero(reference)) * voxel_ml,
        "prediction_ml": int(np.count_nonzero(prediction)) * voxel_ml,
        "vd_ml": volume_difference_ml(reference, prediction, voxel_ml),
        "tolerance_mm": tolerance_mm,
    }
    if not reference.any():
        return Comparison(status=Status.REF_EMPTY if prediction.any() else Status.BOTH_EMPTY, **volumes)
    path = added_path(reference, prediction, spacing_mm)
    paths = {
        "apl_mm": path.added_mm,
        "apl_percent": path.percent,
        "apl_1px_mm": path.added_beyond_1px_mm,
    }
    if not prediction.any():
        zeros = dict.fromkeys(("dsc", "jaccard", "sdsc_2mm", "sdsc_3mm", "sdsc"), 0.0)
        return Comparison(status=Status.PRED_EMPTY, **volumes, **paths, **zeros)
    distances = surface_distances(reference, prediction, spacing_mm)
    return Comparison(
        status=Status.CROPPED_BY_FOV if touches_edge(reference) else Status.OK,
        dsc=dice(reference, prediction),
        jaccard=jaccard(reference, prediction),
        msd_mm=distances.mean_mm,
        hd_mm=distances.hausdorff_mm,
        hd95_mm=distances.hausdorff95_mm,
        sdsc_2mm=distances.surface_dice(2.0),
        sdsc_3mm=distances.surface_dice(3.0),
        sdsc=distances.surface_dice(tolerance_mm),
        **volumes,
        **paths,
    )


def _cropped(reference: Mask, prediction: Mask) -> tuple[Mask, Mask]:
    """Both masks cropped to their common bounding box with a margin of one voxel, within the array."""
    either = reference | prediction
    if not either.any():
        return reference, prediction
    box = Box.around(either, margin=(1, 1, 1))
    return reference[box.slices], prediction[box.slices]


def touches_edge(mask: Mask) -> bool:
    """Whether an organ reaches the edge of the scan, so that a part of it may not be visible."""
    box = Box.around(mask)
    return any(a == 0 or b == n for a, b, n in zip(box.start, box.stop, mask.shape, strict=True))
