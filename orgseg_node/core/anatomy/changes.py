"""Small, definite faults of a contour: a change of measures like theirs is a fault, no unusual patient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from scipy import ndimage

from orgseg_node.core.anatomy.working_grid import WorkingGrid
from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import Mask

_STEPS_MM: Final = (8.0, 16.0)
_WIDER_MM: Final = 5.0
_SHARE: Final = 0.4
_WAYS: Final = (
    ("to the feet", "to the head"),
    ("to the front", "to the back"),
    ("to the right", "to the left"),
)


def changed(scan: WorkingGrid, mask: Mask) -> Iterator[tuple[str, Mask]]:
    """An organ with each of the faults: moved, grown, shrunk, and cut at either end.

    Parameters
    ----------
    scan : the CT and its body
    mask : (K, J, I) bool on the grid of the CT

    Yields
    ------
    the name of the fault, and (K, J, I) bool
    """
    spacing = scan.grid.spacing_mm
    for mm in _STEPS_MM:
        for n, (towards_less, towards_more) in enumerate(_WAYS):
            axis = scan.order[n]
            step = max(1, round(mm / spacing[axis])) * (-1 if n in scan.reversed_axes else 1)
            yield f"moved {mm:.0f} mm {towards_less}", _moved(mask, axis, -step)
            yield f"moved {mm:.0f} mm {towards_more}", _moved(mask, axis, step)
    k, j, i = (int(np.ceil(_WIDER_MM / step)) + 1 for step in spacing)
    box = Box.around(mask, (k, j, i)).slices
    grown, shrunk = mask.copy(), mask.copy()
    grown[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing) <= _WIDER_MM
    padded = np.pad(mask[box], 1, mode="edge")  # an end of the scan is no surface
    depth = ndimage.distance_transform_edt(padded, sampling=spacing)[1:-1, 1:-1, 1:-1]
    shrunk[box] = depth > min(_WIDER_MM, 0.7 * float(depth.max()))
    yield f"grown by {_WIDER_MM:.0f} mm", grown & scan.body
    yield f"shrunk by {_WIDER_MM:.0f} mm", shrunk
    axis = scan.order[0]
    others = tuple(n for n in range(3) if n != axis)
    shown = np.flatnonzero(mask.any(axis=others))
    count = max(1, round(_SHARE * shown.size))
    lower, upper = (
        (shown[-count:], shown[:count]) if 0 in scan.reversed_axes else (shown[:count], shown[-count:])
    )
    for name, gone in (("lower", lower), ("upper", upper)):
        rest = mask.copy()
        np.moveaxis(rest, axis, 0)[gone] = False
        yield f"without its {name} end", rest


def _moved(mask: Mask, axis: int, step: int) -> Mask:
    result = np.zeros_like(mask)
    source, target = np.moveaxis(mask, axis, 0), np.moveaxis(result, axis, 0)
    if step > 0:
        target[step:] = source[:-step]
    else:
        target[:step] = source[-step:]
    return result
