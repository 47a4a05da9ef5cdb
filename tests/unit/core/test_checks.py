"""What `check_labels` reports, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from orgseg_node.core.checks import Finding, Level, check_labels, worst_level
from orgseg_node.core.geometry import Grid, Vector
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap

SHAPE = (12, 24, 30)
FEET_FIRST: tuple[Vector, Vector, Vector] = ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))


def label_map(
    labels: NDArray[np.uint8],
    table: OrganTable,
    keys: list[str],
    axes: tuple[Vector, Vector, Vector] | None = None,
) -> LabelMap:
    grid = Grid(shape=labels.shape, spacing_mm=(3.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))  # type: ignore[arg-type]  # a 3-D shape
    if axes is not None:
        grid = Grid(shape=grid.shape, spacing_mm=grid.spacing_mm, origin_mm=(0.0, 0.0, 0.0), axes=axes)
    return LabelMap(grid=grid, labels=labels, organs={n: table[key] for n, key in enumerate(keys, start=1)})


def empty() -> NDArray[np.uint8]:
    return np.zeros(SHAPE, np.uint8)


def codes(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.code for finding in findings]


def test_a_whole_organ_in_the_middle_gives_no_finding(organ_table: OrganTable) -> None:
    labels = empty()
    labels[3:8, 8:14, 8:14] = 1
    assert check_labels(label_map(labels, organ_table, ["brainstem"])) == ()


def test_an_organ_that_was_looked_for_and_not_found_is_a_warning(organ_table: OrganTable) -> None:
    labels = empty()
    labels[3:8, 8:14, 8:14] = 1
    (finding,) = check_labels(label_map(labels, organ_table, ["brainstem", "larynx"]))
    assert (finding.code, finding.organ, finding.level) == ("ORGAN_NOT_FOUND", "larynx", Level.WARNING)


@pytest.mark.parametrize(
    ("rows", "words"), [((0, 5), "first"), ((5, 12), "last"), ((0, 12), "first and the last")]
)
def test_an_organ_that_reaches_an_end_of_the_scan_is_named_with_the_end(
    organ_table: OrganTable, rows: tuple[int, int], words: str
) -> None:
    labels = empty()
    labels[rows[0] : rows[1], 8:14, 8:14] = 1
    (finding,) = check_labels(label_map(labels, organ_table, ["mandible"]))
    assert finding.code == "ORGAN_AT_SCAN_END"
    assert finding.level is Level.WARNING
    assert f"the {words} slice" in finding.message


def test_the_spinal_cord_may_leave_the_scan_without_a_warning(organ_table: OrganTable) -> None:
    labels = empty()
    labels[:, 8:10, 8:10] = 1
    (finding,) = check_labels(label_map(labels, organ_table, ["spinal_cord"]))
    assert (finding.code, finding.level) == ("ORGAN_AT_SCAN_END", Level.INFO)


@pytest.mark.parametrize(
    "block", [np.s_[3:6, :4, 8:12], np.s_[3:6, -4:, 8:12], np.s_[3:6, 8:12, :4], np.s_[3:6, 8:12, -4:]]
)
def test_an_organ_at_each_border_of_the_image_is_a_warning(organ_table: OrganTable, block: object) -> None:
    labels = empty()
    labels[block] = 1  # type: ignore[index]  # numpy's s_ gives a tuple of slices
    assert codes(check_labels(label_map(labels, organ_table, ["brainstem"]))) == ["ORGAN_AT_PICTURE_BORDER"]


def test_pieces_are_counted_and_given_as_parts_of_the_organ(organ_table: OrganTable) -> None:
    labels = empty()
    labels[3:7, 5:10, 5:10] = 1  # 100 voxels
    labels[3:7, 15:20, 20:25] = 1  # 100
    labels[9:10, 15:20, 5:15] = 1  # 50
    (finding,) = check_labels(label_map(labels, organ_table, ["brainstem"]))
    assert (finding.code, finding.value, finding.level) == ("ORGAN_IN_PIECES", 3.0, Level.WARNING)
    assert "40.0 %, 40.0 %, 20.0 %" in finding.message


def test_a_crumb_beside_an_organ_is_a_note_and_not_a_warning(organ_table: OrganTable) -> None:
    labels = empty()
    labels[3:8, 5:13, 5:13] = 1
    labels[9, 20, 20] = 1
    (finding,) = check_labels(label_map(labels, organ_table, ["brainstem"]))
    assert (finding.code, finding.level) == ("ORGAN_IN_PIECES", Level.INFO)


def test_voxels_that_touch_at_a_corner_are_one_piece(organ_table: OrganTable) -> None:
    labels = empty()
    labels[3, 5, 5] = labels[4, 6, 6] = 1
    assert check_labels(label_map(labels, organ_table, ["brainstem"])) == ()


def test_organs_of_several_parts_by_nature_are_left_alone(organ_table: OrganTable) -> None:
    labels = empty()
    labels[3:7, 5:10, 5:10] = labels[3:7, 15:20, 20:25] = 1
    assert check_labels(label_map(labels, organ_table, ["kidneys"])) == ()


def pair(left: slice, right: slice) -> NDArray[np.uint8]:
    labels = empty()
    labels[3:8, 8:12, left] = 1
    labels[3:8, 8:12, right] = 2
    return labels


def test_left_at_larger_lps_x_is_right_and_the_other_way_round_is_an_error(organ_table: OrganTable) -> None:
    keys = ["parotid_left", "parotid_right"]
    assert check_labels(label_map(pair(np.s_[20:25], np.s_[5:10]), organ_table, keys)) == ()
    (finding,) = check_labels(label_map(pair(np.s_[5:10], np.s_[20:25]), organ_table, keys))
    assert (finding.code, finding.level, finding.value) == ("LEFT_RIGHT_SWAPPED", Level.ERROR, -15.0)


def test_sides_are_judged_in_the_patient_and_not_in_the_array(organ_table: OrganTable) -> None:
    keys = ["parotid_left", "parotid_right"]
    left_at_small_i = pair(np.s_[5:10], np.s_[20:25])
    assert check_labels(label_map(left_at_small_i, organ_table, keys, axes=FEET_FIRST)) == ()


def test_a_left_organ_alone_is_not_compared(organ_table: OrganTable) -> None:
    labels = pair(np.s_[5:10], np.s_[20:25])
    labels[labels == 2] = 0
    findings = check_labels(label_map(labels, organ_table, ["parotid_left", "parotid_right"]))
    assert codes(findings) == ["ORGAN_NOT_FOUND"]


def test_the_worst_level_of_findings_is_the_gravest() -> None:
    def of(level: Level) -> Finding:
        return Finding(level=level, code="X", message="x")

    assert worst_level(()) is None
    assert worst_level((of(Level.INFO), of(Level.WARNING))) is Level.WARNING
    assert worst_level((of(Level.ERROR), of(Level.INFO))) is Level.ERROR
