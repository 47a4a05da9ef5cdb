"""Means and intervals of the report, and the slices on which nothing is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from orgseg_node.commissioning.comparing import compare_organ, known_slices
from orgseg_node.commissioning.results import OrganResult, ScanResult
from orgseg_node.commissioning.summary import MEASURES, organ_rows
from orgseg_node.core.geometry import Grid
from orgseg_node.core.metrics import Comparison, Status, compare
from orgseg_node.core.organs import OrganTable


def results(*values: float) -> dict[str, ScanResult]:
    return {
        f"s{n}": ScanResult(
            organs={
                "brainstem": OrganResult(
                    comparison=Comparison(
                        status=Status.OK if value else Status.PRED_EMPTY,
                        dsc=value, reference_ml=20.0, vd_ml=-5.0,
                        hd95_mm=10 * (1 - value) if value else float("nan"),
                    )
                )
            }
        )
        for n, value in enumerate(values)
    }  # fmt: skip


def test_an_interval_is_by_patient_and_needs_six(organ_table: OrganTable) -> None:
    values = (0.8, 0.82, 0.84, 0.86, 0.88, 0.9)
    (row,) = organ_rows(results(*values), {f"s{n}": str(n) for n in range(6)}, organ_table)
    found = row["measures"]["dsc"]
    assert (row["patients"], row["scans"]) == (6, 6)
    assert found["mean"] == pytest.approx(0.85)
    assert 0.8 < found["low"] < 0.85 < found["high"] < 0.9
    assert (found["worst"], found["worst_scan"]) == (0.8, "s0")
    assert row["measures"]["vd_percent"]["mean"] == pytest.approx(-25.0)
    (row,) = organ_rows(results(*values), {f"s{n}": str(n // 2) for n in range(6)}, organ_table)
    assert (row["patients"], row["scans"], row["measures"]["dsc"]["low"]) == (3, 6, None)


def test_a_missed_organ_is_in_the_overlap_and_in_no_distance(organ_table: OrganTable) -> None:
    (row,) = organ_rows(results(0.9, 0.0), {"s0": "a", "s1": "b"}, organ_table)
    assert row["missed"] == ["s1"]
    assert row["measures"]["dsc"]["mean"] == pytest.approx(0.45)
    assert row["measures"]["hd95_mm"]["patients"] == 1
    assert row["measures"]["hd95_mm"]["worst_scan"] == "s0"


def test_every_measure_can_be_undefined(organ_table: OrganTable) -> None:
    nothing = ScanResult(organs={"brainstem": OrganResult(comparison=Comparison(status=Status.BOTH_EMPTY))})
    (row,) = organ_rows({"s": nothing}, {"s": "p"}, organ_table)
    assert {row["measures"][measure]["mean"] for measure in MEASURES} == {None}
    assert ScanResult.from_json(nothing.as_json).as_json == nothing.as_json


@pytest.mark.parametrize(
    ("open_end", "from_feet", "known"),
    [
        ("", True, slice(0, 10)), ("feet", True, slice(3, 10)), ("feet", False, slice(0, 6)),
        ("head", True, slice(0, 6)), ("both", True, slice(3, 6)),
    ],
)  # fmt: skip
def test_beyond_an_open_end_nothing_is_known(
    organ_table: OrganTable, open_end: str, known: slice, *, from_feet: bool
) -> None:
    drawn = np.zeros((10, 4, 4), dtype=np.bool_)
    drawn[3:6] = True
    organ = dataclasses.replace(organ_table["spinal_cord"], open_end=open_end)
    assert known_slices(drawn, organ, from_feet=from_feet) == known
    longer = np.ones_like(drawn)
    found = compare(drawn[known], longer[known], (1.0, 1.0, 1.0))
    assert found.reference_ml < found.prediction_ml or found.dsc == 1.0


def test_only_the_edge_of_the_scan_cuts_an_organ(organ_table: OrganTable) -> None:
    """The slices that are compared end where a person stopped drawing; that is no edge of the scan."""
    organ = dataclasses.replace(organ_table["spinal_cord"], open_end="both")
    grid = Grid(shape=(10, 8, 8), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    drawn = np.zeros(grid.shape, dtype=np.bool_)
    drawn[3:6, 2:5, 2:5] = True
    assert compare_organ(drawn, drawn, grid, organ).status is Status.OK
    drawn[:3, 2:5, 2:5] = True
    assert compare_organ(drawn, drawn, grid, organ).status is Status.CROPPED_BY_FOV
