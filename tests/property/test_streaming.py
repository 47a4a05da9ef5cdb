"""For any CT, grid and network that nnU-Net could be given, the engine's labels are nnU-Net's to the voxel.

``ORGSEG_STREAMING_EXAMPLES`` sets how many of them are tried.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from numpy.typing import NDArray

from orgseg_node.inference.backends.context import torch_threads
from orgseg_node.inference.engine.slab import AccumulatorStorage
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import nonzero_box
from tests.support.models.nnunet_reference import engines_labels, net, nnunets_labels, noise
from tests.support.models.tiny_nnunet import TinyModel

pytestmark = pytest.mark.endurance

_EXAMPLES = int(os.environ.get("ORGSEG_STREAMING_EXAMPLES", "50"))
_PASSES = 150  # of the network on one tile, at most: more would be slow and show nothing new
_PLAIN: dict[str, int | list[int]] = {"spleen": 1, "liver": 2, "heart": 3}
_REGIONS: dict[str, int | list[int]] = {"body": [1, 2, 3], "lung": [2, 3], "heart": 3}

_sizes = st.integers(1, 24)
_spacings_mm = st.one_of(st.sampled_from([1.0, 1.5, 2.0, 5.0]), st.floats(0.5, 6.0))
_ratios = st.one_of(st.sampled_from([1.0, 0.5, 2.0, 1.02]), st.floats(0.5, 2.0))
_axes = st.lists(st.integers(0, 2), unique=True, max_size=3).map(lambda axes: tuple(sorted(axes)))


@dataclass(frozen=True, kw_only=True)
class Example:
    """A network and a CT."""

    model: TinyModel
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    step: float
    border: int
    seed: int
    sigma: float
    as_float: bool

    def hu(self) -> NDArray[Any]:
        """The CT, with a border of 0 HU where it is large enough for one."""
        hu = noise(self.shape, self.seed, self.sigma)
        if min(self.shape) > 2 * self.border:
            inner = (slice(self.border, n - self.border or None) for n in self.shape)
            whole = np.zeros_like(hu)
            where = tuple(inner)
            whole[where] = hu[where]
            hu = whole
        hu.flat[hu.size // 2] = 77  # so that there is something to see
        return hu + np.float32(0.37) * (hu != 0) if self.as_float else hu

    def passes(self) -> int:
        """How often the network is run on a tile; 0 where the CT is too thin for one working plane."""
        order = self.model.transpose
        box = nonzero_box(self.hu().transpose(order))
        assert box is not None
        spacing = [self.spacing_mm[axis] for axis in order]
        working = [int(n) for n in compute_new_shape(box.shape, spacing, self.model.spacing_mm)]
        if min(working) == 0:
            return 0
        tiling = Tiling.covering(_three(working), _three(self.model.patch), self.step)
        flips = 2 ** len(self.model.mirror_axes or ())
        return math.prod(len(starts) for starts in tiling.starts) * len(self.model.folds) * flips


def _three(values: Any) -> tuple[Any, Any, Any]:
    a, b, c = values
    return a, b, c


@st.composite
def examples(draw: st.DrawFn) -> Example:
    shape, spacing = _three(draw(_sizes) for _ in range(3)), _three(draw(_spacings_mm) for _ in range(3))
    transpose = draw(st.sampled_from(list(permutations(range(3)))))
    working = _three(draw(_ratios) * spacing[axis] for axis in transpose)
    flat = draw(st.booleans())
    regions = draw(st.booleans())
    model = TinyModel(
        labels=_REGIONS if regions else _PLAIN,
        regions_order=draw(st.permutations([1, 2, 3]).map(tuple)) if regions else None,
        spacing_mm=working,
        patch=(
            draw(st.integers(1, 5)) if flat else 2 * draw(st.integers(2, 6)),
            2 * draw(st.integers(2, 6)),
            2 * draw(st.integers(2, 6)),
        ),
        kernel=(1, 3, 3) if flat else (3, 3, 3),
        stride=(1, 2, 2) if flat else (2, 2, 2),
        folds=tuple(range(draw(st.integers(1, 3)))),
        seed=draw(st.integers(1, 4)),
        mirror_axes=draw(_axes) or None,
        gain=draw(st.sampled_from([20.0, 1.0, 1e-4])),
        twins=draw(st.booleans()),
        residual=draw(st.booleans()),
        transpose=transpose,
        thick=draw(st.sampled_from([None, None, False, True])),
        mean_hu=draw(st.sampled_from([40.0, 33.3])),
    )
    return Example(
        model=model,
        shape=shape,
        spacing_mm=spacing,
        step=draw(st.sampled_from([0.3, 0.5, 0.7, 1.0])),
        border=draw(st.integers(0, 3)),
        seed=draw(st.integers(0, 9)),
        sigma=draw(st.sampled_from([0.0, 0.7, 2.0])),
        as_float=draw(st.booleans()),
    )


@settings(
    max_examples=_EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(
    examples(),
    st.sampled_from([AccumulatorStorage.HOST, AccumulatorStorage.FILE]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 9),
)
def test_the_engine_gives_nnunets_labels_to_the_voxel(
    example: Example,
    accumulators: AccumulatorStorage,
    overlap: bool,  # noqa: FBT001  # a parameter
    precompute: bool,  # noqa: FBT001  # a parameter
    block: int,
) -> None:
    assume(0 < example.passes() <= _PASSES)
    tiny, hu = net(example.model), example.hu()
    with torch_threads(1):
        expected = nnunets_labels(tiny, hu, example.spacing_mm, example.step)
        found, _ = engines_labels(
            tiny,
            hu,
            example.spacing_mm,
            example.step,
            accumulators=accumulators,
            overlap=overlap,
            precompute=precompute,
            block=block,
        )
    assert np.count_nonzero(found != expected) == 0
