"""What a guide suspects of an organ, but another organ explains.

A guide suspects an organ wherever it is not much less likely than background, and so inside other organs,
where background is unlikely. That may be the organ itself: the guide may have taken it for another one, as a
kidney for that of the other side, or it may be a part of another one, as the brainstem of the brain. So the
word of the guide explains nothing. A suspected voxel is explained only if the network of the organ that the
guide sees there confirmed the guide on this CT, labelled most of the voxel itself, and has the higher
priority, so that it keeps these voxels of the CT whatever the network of the suspected organ would find.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.boxes import Boxes, Numbers
from orgseg_node.core.organs import Organ
from orgseg_node.inference.merging import MAX_ORGANS

MOST: Final = 0.5
"""An explained voxel of a guide has a larger share than this in other organs."""


def unexplained(
    suspected: Boxes, guide: NDArray[np.uint8], merged: NDArray[np.uint8], ranks: NDArray[np.uint8]
) -> Boxes:
    """The suspected voxels that no other organ explains.

    Parameters
    ----------
    suspected : for each voxel of the guide, the voxels of the CT that depend on it; their middle half along
        each axis is the voxel itself
    guide : (K, J, I) labels of the guide on the grid of the CT
    merged : (K, J, I) ranks of the labels of the networks that were run, see `Merger`
    ranks : (256,) rank of the organ of each label of the guide; see `explaining_ranks`
    """

    def explained(k: Numbers, j: Numbers, i: Numbers) -> NDArray[np.bool_]:
        rank = ranks[guide[k, j, i]]
        found: NDArray[np.bool_] = (rank > 0) & (merged[k, j, i] == rank)
        return found

    return suspected.select(suspected.middle().share(explained) <= MOST)


def explaining_ranks(
    suspected: str, organs: Mapping[int, Organ], confirmed: Collection[str], ranks: Mapping[str, int]
) -> NDArray[np.uint8]:
    """The rank of the organ of each label of a guide; 0 if it explains nothing.

    Parameters
    ----------
    suspected : key of the organ that is suspected
    organs : of each label of the guide
    confirmed : keys of the organs that their networks found where the guide did
    ranks : of the organs in the merged result, see `Merger`

    Returns
    -------
    (256,) uint8
    """
    table = np.zeros(MAX_ORGANS + 1, dtype=np.uint8)
    for number, organ in organs.items():
        if organ.key in confirmed and ranks[organ.key] > ranks[suspected]:
            table[number] = ranks[organ.key]
    return table
