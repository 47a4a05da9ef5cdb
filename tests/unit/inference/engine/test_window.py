"""By nnU-Net's own tile positions, a part of a CT gets the labels that it has in a run over all of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from orgseg_node.core.geometry import Box, Shape
from orgseg_node.inference.backends.forward import EagerForward
from orgseg_node.inference.engine.label_planes import Labels, axes_within
from orgseg_node.inference.engine.layout import Layout, lay_tiles
from orgseg_node.inference.engine.run import LabellingTask, RunSummary, run_network
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import WorkingPart, working_volume
from tests.support.models.nnunet_reference import CPU, engines_labels, net, noise
from tests.support.models.tiny_nnunet import TinyModel

_SHAPE: Shape = (30, 34, 32)
_SPACING = (2.0, 1.5, 1.5)


@pytest.mark.parametrize("folds", [(0,), (0, 1)])
@pytest.mark.parametrize("start", [(3, 6, 5), (0, 0, 0), (14, 20, 22)])
def test_labels_of_a_window_are_those_of_the_whole_ct(start: Shape, folds: tuple[int, ...]) -> None:
    model = net(TinyModel(patch=(8, 8, 8), folds=folds, spacing_mm=(2.5, 2.0, 1.5)))
    hu = noise(_SHAPE)
    hu[0, 0, 0] = hu[-1, -1, -1] = 77  # nothing is cropped
    whole, _ = engines_labels(model, hu, _SPACING)
    plan = model.plan
    working = working_volume(
        hu, plan.preprocessing.normalisation, plan.preprocessing.regrid(hu.shape, _SPACING)
    )
    tiling = Tiling.covering(working.shape, plan.patch, 0.5)
    a, b, c = start
    window = lay_tiles(
        working.shape, plan.patch, Box(start=start, stop=(a + 4, b + 2, c + 3)), Layout.NNUNET, tiling
    )
    to_ct = plan.regrid(working.shape, _SHAPE, _SPACING)
    part, _ = axes_within(to_ct, window.inner)
    labels: NDArray[np.uint16] = np.full(whole[part].shape, 999, dtype=np.uint16)

    def on_plane(k: int, found: Labels) -> None:
        labels[k] = found

    task = LabellingTask(
        working=WorkingPart(working, window.covered),
        to_ct=to_ct,
        tiling=window.tiling,
        regions=plan.regions,
        region=None,
        accumulators=AccumulatorStorage.HOST,
        overlap=False,
        window=window,
    )
    forward = EagerForward(model.network, model.states, CPU)
    summary: RunSummary = run_network(task, forward, plan.heads, lambda *_: None, on_plane)
    assert (labels == whole[part]).all()
    assert labels.size
    assert summary.tiles == window.tiles < np.prod([len(starts) for starts in tiling.starts])
