"""What counts in a measurement of guided runs: organs, and not crumbs that a network sees in other tissue."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import pytest

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.inference.backends.guided_calibrating import (
    GuidedPredictors,
    ReferenceCase,
    measure_guided,
)
from orgseg_node.inference.bundles.tables.guided_calibration import GuidedAgreement
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.predictor import (
    GuidedNetwork,
    GuidedOutcome,
    ModelIdentity,
    Prediction,
    ProgressCallback,
    SparseOutcome,
)
from orgseg_node.organ_table import organ_table

_KEY = "esophagus"  # 0.5 to 250 ml
_GRID = Grid(shape=(30, 60, 60), spacing_mm=(5.0, 5.0, 5.0), origin_mm=(0.0, 0.0, 0.0))  # 0.125 ml


@dataclass(frozen=True, kw_only=True)
class _Finds:
    """A predictor that labels the first voxels of a row."""

    voxels: int
    outcome: GuidedOutcome | None = None
    models: tuple[ModelIdentity, ...] = ()

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        labels = np.zeros(_GRID.shape, dtype=np.uint8)
        labels[15, 30, 10 : 10 + self.voxels] = 1
        row = GuidedNetwork(
            guide="g",
            organs=(_KEY,),
            outcome=self.outcome or GuidedOutcome.BOX,
            tiles=1,
            whole_tiles=8,
            sparse=SparseOutcome.ABSENT,
        )
        return Prediction(
            label_map=LabelMap(grid=_GRID, labels=labels, organs={1: organ_table()[_KEY]}),
            models=(),
            method="streaming",
            device="cpu",
            guided=() if self.outcome is None else (row,),
        )


def _measure(unguided: int, guided: int, outcome: GuidedOutcome = GuidedOutcome.MISSED) -> GuidedAgreement:
    hu = np.full(_GRID.shape, -1000, dtype=np.int16)
    hu[:, 10:50, 10:50] = 0
    runs = GuidedPredictors(
        backend="exact",
        margin_mm=5.0,
        sparse=True,
        suspicion=0.05,
        unguided=_Finds(voxels=unguided),
        guided={Layout.FEW: _Finds(voxels=guided, outcome=outcome)},
    )
    cases = [ReferenceCase(ct=Volume(grid=_GRID, hu=hu))]
    (candidate,) = measure_guided(runs, cases, dt.date(2026, 2, 1), lambda *_: None).candidates
    assert (candidate.calibration.sparse, candidate.calibration.explained) == (True, True)
    assert candidate.differing == abs(unguided - guided)
    return candidate.calibration.organs[_KEY]


@pytest.mark.parametrize(
    ("unguided", "guided", "dice", "found_on", "missed_on"),
    [
        (1, 0, 1.0, 0, 0),  # a crumb of 0.125 ml that only one run saw
        (1, 3, 1.0, 0, 0),
        (0, 0, 1.0, 0, 0),
        (10, 0, 0.0, 1, 1),
        (10, 10, 1.0, 1, 1),  # found by the network, but not by its guide
        (3, 10, 0.4615, 0, 0),  # only the guided run found an organ: they differ
    ],
)
def test_an_organ_of_which_neither_run_found_more_than_a_crumb_is_not_there(
    unguided: int, guided: int, dice: float, found_on: int, missed_on: int
) -> None:
    found = _measure(unguided, guided)
    assert (found.dice, found.found_on, found.missed_on) == (dice, found_on, missed_on)


@pytest.mark.parametrize(
    ("outcome", "guided", "missed_on", "whole_on"),
    [
        (GuidedOutcome.SUSPECTED, 10, 0, 0),
        (GuidedOutcome.SUSPECTED, 2, 1, 0),
        (GuidedOutcome.REFUTED, 0, 1, 0),
        (GuidedOutcome.ABSENT, 0, 1, 0),
        (GuidedOutcome.EXPLAINED, 0, 1, 0),
        (GuidedOutcome.MISSED, 10, 1, 1),
    ],
)
def test_an_organ_is_missed_where_the_guide_was_silent_and_it_is_lost(
    outcome: GuidedOutcome, guided: int, missed_on: int, whole_on: int
) -> None:
    found = _measure(10, guided, outcome)
    assert (found.missed_on, found.whole_on) == (missed_on, whole_on)


def test_an_organ_in_its_box_of_which_only_a_crumb_is_left_was_lost() -> None:
    found = _measure(10, 2, GuidedOutcome.BOX)
    assert (found.found_on, found.missed_on) == (1, 1)
