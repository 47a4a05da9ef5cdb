"""Cropping a CT to the patient, as it is given to a network in training and in use."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from orgseg_node.core.body.outline import Body
from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import Volume


def cut_to_body(volume: Volume, body: Body, margin_mm: float, *, outside_to_air: bool) -> tuple[Volume, Box]:
    """Crop a CT to the patient, as it is given to a network in training and in use.

    Parameters
    ----------
    volume : CT in HU
    body : the patient in it
    margin_mm : distance from the skin up to which voxels are kept
    outside_to_air : whether voxels outside this margin are set to -1000 HU

    Returns
    -------
    The cropped volume, and its box in the full one.
    """
    reach_k, reach_j, reach_i = (round(margin_mm / s) for s in volume.grid.spacing_mm)
    box = Box.around(body.mask, margin=(reach_k, reach_j, reach_i))
    cropped = volume.crop(box)
    if not outside_to_air:
        return cropped, box
    near = body.mask[box.slices].view(np.uint8)
    for axis, reach in enumerate((reach_k, reach_j, reach_i)):
        if reach:
            near = ndimage.maximum_filter1d(near, 2 * reach + 1, axis=axis, mode="constant")
    return cropped.with_air_outside(near.view(np.bool_)), box
