"""What is done to a CT before a network sees it: turned upright, cut to the patient, the room set to air.

The cutting is `orgseg_node.core.body.cut_to_body`, which training calls too: what is trained is what is run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.body import Body, cut_to_body
from orgseg_node.core.geometry import Box, Shape
from orgseg_node.core.volume import Mask, Volume
from orgseg_node.errors import BodyNotFound
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.orientation import Turn, turn_to


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A CT ready for a network, and the way back.

    Attributes
    ----------
    volume : the part around the patient; slices grow to the head, rows to the back, columns to the left (LPS)
    mask : (K, J, I) bool on the same grid, true inside the patient
    box : where the part lies in the turned CT
    turn : how the CT was turned
    shape : of the turned CT
    """

    volume: Volume
    mask: Mask
    box: Box
    turn: Turn
    shape: Shape

    def restore(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels of the part, on the grid of the original CT; 0 outside the part."""
        whole = labels
        if self.box.shape != self.shape:
            whole = np.zeros(self.shape, dtype=np.uint8)
            whole[self.box.slices] = labels
        return np.ascontiguousarray(self.turn.back(whole))


def prepare(volume: Volume, body: Body, preprocessing: Preprocessing) -> Prepared:
    """Turn a CT to LPS, cut it to the patient with a margin and, if asked for, set the room to air.

    Parameters
    ----------
    volume : CT in HU, any orientation
    body : the patient in it
    preprocessing : what the model's manifest asks for

    Raises
    ------
    BodyNotFound
        If the body mask is empty.
    """
    if not body.mask.any():
        raise BodyNotFound
    turn = turn_to(volume.grid)
    turned, mask = turn.volume(volume), turn.array(body.mask)
    upright = replace(body, mask=np.ascontiguousarray(mask), box=Box.around(mask))
    part, box = cut_to_body(
        turned, upright, preprocessing.body_margin_mm, outside_to_air=preprocessing.outside_to_air
    )
    return Prepared(volume=part, mask=mask[box.slices], box=box, turn=turn, shape=turned.grid.shape)
