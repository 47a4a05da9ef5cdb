"""A network that must search the whole CT does so with few tiles first, and again where it found something.

The first pass lays tiles side by side, so that each voxel is in one tile or a little more, where nnU-Net's
sliding window has eight. At the border of a tile a network sees too little to draw an organ well, but enough
to suspect it: every voxel counts in which an organ is at least a twentieth as likely as background. Around
all of these voxels the network is run again as in the box of a guide, which grows as long as an organ reaches
its border. Where no voxel is suspected, the organ is not in the CT. Where the passes drew it differently, few
tiles drew it by chance, and those of nnU-Net's sliding window decide, around all that one of the passes drew.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from orgseg_node.core.geometry import Box, Shape, enclosing_box
from orgseg_node.inference.backends.guided.box_search import (
    NOTHING_SEARCHED,
    PartSearch,
    SearchedPart,
    nothing_there,
)
from orgseg_node.inference.backends.guided.drawn import FirstPass, IsCrumb
from orgseg_node.inference.backends.network_run import run_loaded
from orgseg_node.inference.engine.layout import Layout, TileWindow
from orgseg_node.inference.engine.suspicion import SUSPICION
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.predictor import SparseOutcome

SPARSE_STEP: Final = 1.0
"""Step of the tiles of the first pass as a fraction of a tile."""


def search_sparsely(search: PartSearch, budget: int, is_crumb: IsCrumb) -> tuple[SparseOutcome, SearchedPart]:
    """Search the whole CT with few tiles, and again where they show something.

    Parameters
    ----------
    search : the network and the CT
    budget : number of tiles; a search that needs as many is given up
    is_crumb : see `IsCrumb`

    Returns
    -------
    what came of it, and what was found; without labels if the network must be run on the whole CT
    """
    window = sparse_window(search.view.working.shape, search.network.plan.patch)
    if search.needed_tiles(window.tiling) >= budget:
        return SparseOutcome.NO_SAVING, NOTHING_SEARCHED
    drawn = FirstPass(search)
    first = run_loaded(
        search.network,
        search.view,
        search.limits,
        search.on_progress,
        drawn.add,
        region=search.region,
        window=window,
        suspicion=SUSPICION,
    )
    suspected = [each.box for label, each in first.suspected.items() if label in search.organs]
    if not suspected:
        nothing = replace(nothing_there(), tiles=first.tiles, network_s=first.network_s)
        return SparseOutcome.ABSENT, nothing
    second = search.search_box(enclosing_box(suspected), budget - first.tiles)
    second = replace(second, tiles=first.tiles + second.tiles, network_s=first.network_s + second.network_s)
    if second.labels is None:
        return SparseOutcome.EVERYWHERE, second
    if search.layout is Layout.NNUNET or drawn.agrees(second, is_crumb):
        return SparseOutcome.AGAIN, second
    exact = replace(search, layout=Layout.NNUNET)
    third = exact.search_box(drawn.box_with(second), budget - second.tiles)
    outcome = SparseOutcome.DOUBTFUL if third.labels is None else SparseOutcome.DECIDED
    return outcome, replace(
        third, tiles=second.tiles + third.tiles, network_s=second.network_s + third.network_s
    )


def sparse_window(shape: Shape, patch: Shape) -> TileWindow:
    """Tiles side by side over a whole working volume.

    Parameters
    ----------
    shape : of the working volume
    patch : of a tile
    """
    everything = Box(start=(0, 0, 0), stop=shape)
    tiling = Tiling.covering(shape, patch, SPARSE_STEP)
    return TileWindow(tiling=tiling, covered=everything, inner=everything)
