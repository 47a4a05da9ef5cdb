"""Organs of several networks become one label map; where they overlap, the better network gets the voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.merging import MergedPredictor, Merger
from orgseg_node.inference.predictor import ModelIdentity, Prediction, ProgressCallback

_WHOLE = (slice(None), slice(None), slice(None))
_SHAPE = (1, 1, 6)


def _row(*labels: int) -> NDArray[np.uint8]:
    return np.array(labels, dtype=np.uint8).reshape(_SHAPE)


def test_the_organ_of_higher_priority_wins_whatever_the_order() -> None:
    maps = [({1: "liver"}, _row(1, 1, 1, 0, 0, 0)), ({1: "spleen"}, _row(0, 0, 1, 1, 0, 0))]
    for order in (maps, maps[::-1]):
        merger = Merger(_SHAPE, {"liver": 0.8, "spleen": 0.9})
        for organs, labels in order:
            merger.add(labels, organs, _WHOLE)
        assert merger.labels().ravel().tolist() == [1, 1, 2, 2, 0, 0]
        assert merger.overlaps == 1


def test_among_equals_the_organ_named_first_wins() -> None:
    merger = Merger(_SHAPE, {"liver": 0.5, "spleen": 0.5})
    merger.add(_row(0, 1, 1, 0, 0, 0), {1: "spleen"}, _WHOLE)
    merger.add(_row(1, 1, 0, 0, 0, 0), {1: "liver"}, _WHOLE)
    assert merger.labels().ravel().tolist() == [1, 1, 2, 0, 0, 0]


def test_labels_that_are_no_organ_are_left_out_and_several_may_be_one_organ() -> None:
    merger = Merger(_SHAPE, {"lungs": 0.0})
    merger.add(_row(1, 2, 3, 1, 0, 0), {1: "lungs", 3: "lungs"}, _WHOLE)
    assert merger.labels().ravel().tolist() == [1, 0, 1, 1, 0, 0]
    assert merger.overlaps == 0


def test_a_part_is_merged_at_its_position_and_16_bit_labels_are_read() -> None:
    merger = Merger(_SHAPE, {"liver": 0.0})
    part = np.array([[[300, 1]]], dtype=np.uint16)
    merger.add(part, {300: "liver"}, (slice(0, 1), slice(0, 1), slice(3, 5)))
    assert merger.labels().ravel().tolist() == [0, 0, 0, 1, 0, 0]


def test_more_organs_than_fit_are_refused() -> None:
    with pytest.raises(BundleInvalid, match="256"):
        Merger(_SHAPE, {str(n): 0.0 for n in range(256)})


@dataclass(frozen=True)
class _Fixed:
    """Returns fixed labels."""

    table: OrganTable
    key: str
    found: Sequence[int]

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        return (ModelIdentity(name=self.key, version="1", sha256="0" * 64, intended_use="test"),)

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        assert body.mask.shape == volume.grid.shape
        on_progress(0.5, self.key)
        on_progress(1.0, self.key)
        labels = LabelMap(grid=volume.grid, labels=_row(*self.found), organs={1: self.table[self.key]})
        return Prediction(
            label_map=labels, models=self.models, method="whole", device="cpu", timings_s={"p": 1.0}
        )


def _case() -> tuple[Volume, Body]:
    grid = Grid(shape=_SHAPE, spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    mask = np.ones(_SHAPE, dtype=bool)
    body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=1.0, findings=())
    return Volume(grid=grid, hu=np.zeros(_SHAPE, dtype=np.int16)), body


def test_several_bundles_become_one_prediction(organ_table: OrganTable) -> None:
    fractions: list[float] = []
    merged = MergedPredictor(
        predictors=(
            _Fixed(organ_table, "liver", (1, 1, 0, 0, 0, 0)),
            _Fixed(organ_table, "spleen", (0, 1, 1, 0, 0, 0)),
        ),
        organs=organ_table,
        priorities={"liver": 0.9},
    )
    found = merged.predict(*_case(), lambda part, _: fractions.append(part))
    assert found.label_map.labels.ravel().tolist() == [1, 1, 2, 0, 0, 0]
    assert [organ.key for organ in found.label_map.organs.values()] == ["liver", "spleen"]
    assert [model.name for model in found.models] == [m.name for m in merged.models] == ["liver", "spleen"]
    assert fractions == [0.25, 0.5, 0.75, 1.0]
    assert [finding.code for finding in found.findings] == ["ORGANS_OVERLAPPED"]
    assert found.timings_s == {"liver: p": 1.0, "spleen: p": 1.0}


def test_one_organ_of_two_bundles_is_refused(organ_table: OrganTable) -> None:
    twice = (_Fixed(organ_table, "liver", (1,) * 6), _Fixed(organ_table, "liver", (1,) * 6))
    with pytest.raises(BundleInvalid, match="liver"):
        MergedPredictor(predictors=twice, organs=organ_table).predict(*_case(), lambda *_: None)
