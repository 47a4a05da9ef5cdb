"""In what numbers the short trainer computes on a CPU."""

from __future__ import annotations

import pytest

from orgseg_training.nnunet.trainer_short import computes_bf16, feature_map_depths


@pytest.mark.parametrize("name", ["amx_bf16", "avx512_bf16", "bf16"])
def test_bf16_is_used_where_the_cpu_has_it(name: str) -> None:
    assert computes_bf16({"architecture": "x86_64", "avx2": True, name: True})


def test_bf16_is_not_emulated() -> None:
    # An AVX2 machine without it took 3.8 s for a step of 0.16 s.
    assert not computes_bf16({"architecture": "x86_64", "amx_bf16": False, "avx512_bf16": False})
    assert not computes_bf16({})


@pytest.mark.parametrize(
    ("patch_depth", "strides", "depths"),
    [
        (16, [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]], (16, 8, 4, 2)),
        (20, [[1, 1, 1], [1, 2, 2], [2, 2, 2]], (20, 20, 10)),
    ],
)
def test_depths_of_feature_maps(patch_depth: int, strides: list[list[int]], depths: tuple[int, ...]) -> None:
    # bf16 is not used where one of them is 2: weight gradients were NaN there.
    assert feature_map_depths(patch_depth, strides) == depths
