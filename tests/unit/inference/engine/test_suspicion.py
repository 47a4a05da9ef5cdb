"""Labels of what is only suspected come from the same logits as the labels, and change none of these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.network_run import run_loaded
from orgseg_node.inference.engine.run import number_of_tiles
from orgseg_node.inference.engine.suspicion import Suspicion, raise_organs
from tests.support.models.guided_bench import SHAPE, block, make_bench

_SURE, _UNSURE = block((10, 14, 16), (18, 24, 26)), block((24, 26, 30), (32, 36, 40))


def _run(hu: int, region: Mask | None = None) -> tuple[NDArray[np.uint16], NDArray[np.uint16], float]:
    """Labels, labels of what is suspected, and the tiles in times of a run.

    One piece of the organ is sure, the other one has a number of HU.
    """
    bench = make_bench(_SURE, (3.0, 1.5, 1.5), more=(_UNSURE, hu))  # planes are interpolated from two
    labels, suspected = np.zeros((2, *bench.view.box.shape), dtype=np.uint16)

    def keep(to: NDArray[np.uint16], k: int, plane: NDArray[np.uint16]) -> None:
        to[k] = plane

    run_loaded(
        bench.network,
        bench.view,
        bench.limits,
        lambda *_: None,
        lambda k, plane: keep(labels, k, plane),
        region=region,
        suspicion=Suspicion(probability=0.05, on_plane=lambda k, plane: keep(suspected, k, plane)),
    )
    assert (labels == bench.whole() * (1 if region is None else region)).all()
    forward: Any = bench.network.forward
    return labels, suspected, forward.tiles / number_of_tiles(bench.limits.tiling(bench.network, bench.view))


@pytest.mark.parametrize(("hu", "expected"), [(150, False), (260, True)])
def test_what_has_a_probability_of_a_twentieth_is_suspected(hu: int, *, expected: bool) -> None:
    labels, suspected, runs = _run(hu)
    assert labels[_SURE].any()
    assert not labels[_UNSURE].any()
    assert suspected[labels > 0].all()
    assert suspected[_UNSURE].any() == expected
    assert runs == 2, "the run with labels of both, and the one that it is compared with"


def test_nothing_is_suspected_outside_the_region_that_is_searched() -> None:
    region = block((0, 0, 0), (22, SHAPE[1], SHAPE[2]))
    _, suspected, _ = _run(260, region)
    assert suspected[_SURE].any()
    assert not suspected[22:].any()


def test_each_region_is_suspected_for_itself() -> None:
    def raised(*, regions: bool) -> list[float]:
        logits = torch.tensor([-2.0, -4.0])[:, None, None, None]
        found: list[float] = raise_organs(logits, 0.05, regions=regions).flatten().tolist()
        return found

    assert [logit > 0 for logit in raised(regions=True)] == [True, False]
    background, organ = raised(regions=False)
    assert background < -2.0
    assert organ == -4.0
