"""The labels of requested organs are those of a run of all networks, whatever the bundle and the request."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from orgseg_node.core.geometry import Shape
from orgseg_node.inference.bundles.bundle import Part
from orgseg_node.inference.merging import Merger, rank_organs
from orgseg_node.inference.subset import organs_across, select_networks

_SHAPE: Shape = (3, 4, 5)
_WHOLE = (slice(None), slice(None), slice(None))


@dataclass(frozen=True)
class _Network:
    part: Part
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class _Bundle:
    networks: Sequence[_Network]
    priorities: dict[str, float]

    @property
    def organs(self) -> list[str]:
        return list(self.priorities)


@st.composite
def bundles(draw: st.DrawFn, names: Sequence[str]) -> _Bundle:
    """Networks with one to three organs each, among them organs of several networks, and equal priorities."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    networks = []
    for number in range(draw(st.integers(1, 6))):
        keys = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        part = Part(
            folder=f"parts/{number}",
            configuration="3d_fullres",
            folds=("0",),
            labels=dict(enumerate(keys, start=1)),
        )
        labels = rng.integers(0, len(keys) + 1, _SHAPE) * (rng.random(_SHAPE) < draw(st.floats(0, 1)))
        networks.append(_Network(part, labels.astype(np.uint8)))
    organs = dict.fromkeys(key for network in networks for key in network.part.labels.values())
    return _Bundle(networks, {key: float(draw(st.integers(0, 3))) for key in organs})


def _run(bundle: _Bundle, requested: Collection[str] | None) -> dict[str, NDArray[np.bool_]]:
    """As the streaming engine: contesting networks only where they can take a voxel, background elsewhere."""
    ranks = rank_organs(bundle.priorities)
    selection = select_networks([network.part for network in bundle.networks], ranks, requested)
    merger = Merger(_SHAPE, bundle.priorities, selection.requested)
    by_part = {network.part.folder: network.labels for network in bundle.networks}
    for part in selection.parts:
        labels = by_part[part.folder]
        if part in selection.contesting:
            labels = np.where(merger.can_take(part.labels.values()), labels, 0)
        merger.add(labels, part.labels, _WHOLE)
    merged = merger.labels()
    numbers = {key: number for number, key in enumerate(bundle.priorities, start=1)}
    assert set(np.unique(merged)) <= {0} | {numbers[key] for key in selection.requested}
    return {key: merged == numbers[key] for key in selection.requested}


_ALL = ["a", "b", "c", "d", "e", "f"]


@given(bundles(_ALL), st.sets(st.sampled_from([*_ALL, "no organ of it"])))
def test_requested_organs_of_a_bundle_are_those_of_the_full_run(bundle: _Bundle, requested: set[str]) -> None:
    full, part = _run(bundle, None), _run(bundle, requested)
    assert part.keys() == full.keys() & requested
    for key, mask in part.items():
        assert (mask == full[key]).all()


@given(
    bundles(["a", "b", "c"]), bundles(["d", "e"]), bundles(["f", "g"]), st.sets(st.sampled_from("abcdefg"))
)
def test_requested_organs_of_several_bundles_are_those_of_the_full_run(
    first: _Bundle, second: _Bundle, third: _Bundle, requested: set[str]
) -> None:
    several = [first, second, third]
    priorities = {key: value for bundle in several for key, value in bundle.priorities.items()}
    needed = organs_across([b.organs for b in several], rank_organs(priorities), requested)

    def merged(each: Sequence[Collection[str] | None]) -> dict[str, NDArray[np.bool_]]:
        found = [_run(bundle, keys) for bundle, keys in zip(several, each, strict=True)]
        keys = [key for bundle in several for key in bundle.organs if any(key in masks for masks in found)]
        merger = Merger(_SHAPE, {key: priorities[key] for key in keys}, requested)
        for masks in found:
            labels = np.zeros(_SHAPE, dtype=np.uint8)
            organs = dict(enumerate(sorted(masks), start=1))
            for number, key in organs.items():
                labels[masks[key]] = number
            merger.add(labels, organs, _WHOLE)
        result = merger.labels()
        return {key: result == n for n, key in enumerate(keys, start=1) if key in requested}

    full, part = merged([None] * 3), merged(needed)
    assert part.keys() == full.keys()
    for key, mask in part.items():
        assert (mask == full[key]).all()


@given(bundles(_ALL), st.sets(st.sampled_from(_ALL)))
def test_no_network_is_run_that_cannot_change_a_requested_organ(bundle: _Bundle, requested: set[str]) -> None:
    ranks = rank_organs(bundle.priorities)
    selection = select_networks([network.part for network in bundle.networks], ranks, requested)
    for part in selection.whole:
        assert requested.intersection(part.labels.values())
    for part in selection.contesting:
        assert max(ranks[key] for key in part.labels.values()) > min(
            ranks[key] for key in selection.requested
        )
