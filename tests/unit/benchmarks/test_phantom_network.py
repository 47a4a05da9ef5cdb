"""The networks of the guided benchmark find the organs of its phantom: each its own, or one all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.guided.phantom import possible_names
from benchmarks.guided.phantom_network import phantom_bundle
from benchmarks.inference.phantom import organs
from orgseg_node.inference.backends.network import open_network
from orgseg_node.inference.bundles.bundle import ModelBundle, Part


def _labels(bundle: ModelBundle, part: Part, hu: NDArray[np.float64]) -> NDArray[np.int64]:
    opened = open_network(bundle, part)
    opened.network.load_state_dict(opened.states[0])
    image = torch.from_numpy((hu.clip(-1000, 1000) + 300) / 500).float()
    with torch.inference_mode():
        found: NDArray[np.int64] = opened.network(image[None, None])[0].argmax(dim=0).numpy()
    return found


@pytest.mark.parametrize("single", [False, True])
def test_each_organ_is_found_inside_its_surface_and_nothing_else(tmp_path: Path, *, single: bool) -> None:
    keys = possible_names()
    bundle = phantom_bundle(keys, 3.0, tmp_path, single=single)
    hus = [organ[-1] for organ in organs(len(keys) + 1)]
    hu = np.full((48, 48, 48), 30.0)
    hu[:, :6] = -1000.0
    block, inside = (slice(16, 26),) * 3, (slice(17, 25),) * 3
    for number in (0, 9, 25):
        hu[block] = hus[number]
        part = next(part for part in bundle.manifest.parts if keys[number] in part.labels.values())
        label = next(label for label, key in part.labels.items() if key == keys[number])
        found = _labels(bundle, part, hu + np.random.default_rng(0).normal(scale=5.0, size=hu.shape))
        assert (found[inside] == label).mean() > 0.95
        found[block] = 0
        assert np.count_nonzero(found) < 10
    assert phantom_bundle(keys, 3.0, tmp_path, single=single).sha256 == bundle.sha256, "made once"
