"""Where the networks of a run suspect an organ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orgseg_node.core.boxes import Boxes
from orgseg_node.core.geometry import Box, enclosing_box


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Suspected:
    """Where an organ is suspected, in voxels of a CT.

    Attributes
    ----------
    box : around all that is suspected
    voxels : for each voxel of the grid of a network in which the organ is suspected, the voxels of the CT
        that it lies in or is interpolated to; None if they were too many to be kept
    """

    box: Box
    voxels: Boxes | None


def join_suspected(several: Iterable[Mapping[str, Suspected]]) -> dict[str, Suspected]:
    """For each key, what is suspected in one of several mappings; the voxels only if all of them are kept."""
    rows = list(several)
    joined = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        found = [row[key] for row in rows if key in row]
        voxels = [each.voxels for each in found if each.voxels is not None]
        joined[key] = Suspected(
            box=enclosing_box(each.box for each in found),
            voxels=Boxes.joined(voxels) if len(voxels) == len(found) else None,
        )
    return joined
