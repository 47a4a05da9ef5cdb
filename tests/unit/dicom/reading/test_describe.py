"""The description of a series and the table of its slices."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orgseg_node.dicom.reading.describe import describe, slice_table
from orgseg_node.dicom.reading.series import read_series
from tests.support.ct.phantom import PhantomOptions, build_ct_series

SECRETS = ("Phantom^Ellipse", "PHANTOM-1", "19500101")


def small(**settings: object) -> PhantomOptions:
    """A series of a few kilobytes."""
    given = {"slices": 6, "rows": 16, "columns": 16, "pixel_spacing_mm": (16.0, 16.0)} | settings
    return PhantomOptions(**given)  # type: ignore[arg-type]  # the test's own keywords


def test_the_description_has_no_patient_data(ct_folder: Path) -> None:
    series = read_series(ct_folder)
    described = describe(series)
    assert (described["slices"], described["rows"], described["slice_spacing_mm"], described["kvp"]) == (
        24,
        64,
        3.0,
        "120",
    )
    assert (
        described["is_regular"],
        described["missing_slices"],
        described["tilt_deg"],
        described["part"],
    ) == (True, 0, 0.0, "")
    assert described["transfer_syntaxes"] == ["Explicit VR Little Endian"]
    for secret in SECRETS:
        assert secret not in str(described) + str(slice_table(series))


def test_gaps_and_tilt_are_described(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(positions_mm=[0, 3, 6, 12, 15, 18], shear=0.2))
    described = describe(read_series(tmp_path))
    assert (described["narrowest_gap_mm"], described["widest_gap_mm"], described["missing_slices"]) == (
        3.0,
        6.0,
        1,
    )
    assert described["slice_spacing_mm"] == 3.0
    assert described["tilt_deg"] == pytest.approx(11.31, abs=0.01)
    assert not described["is_regular"]
    assert described["grid_shape"] == [7, 17, 16]
    assert described["grid_spacing_mm"] == [3.0, 16.0, 16.0]


def test_each_slice_has_its_position_gap_and_scale(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        dataset.InstanceNumber = 60 - k
        if k == 2:
            dataset.RescaleSlope = "2"

    build_ct_series(tmp_path, small(positions_mm=[0, 3, 6, 12, 15, 19.5], shear=0.2), change)
    rows = slice_table(read_series(tmp_path))
    assert [row["slice"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["instance"] for row in rows] == [60, 59, 58, 57, 56, 55]
    assert [row["height_mm"] for row in rows] == [0, 3, 6, 12, 15, 19.5]
    assert [row["gap_mm"] for row in rows] == [None, 3, 3, 6, 3, 4.5]
    assert [row["sideways_mm"] for row in rows] == [[0, down] for down in (0, 0.6, 1.2, 2.4, 3, 3.9)]
    assert [(row["slope"], row["intercept"]) for row in rows][1:3] == [(1, -1024), (2, -1024)]
    assert [row["notes"] for row in rows] == [
        [],
        [],
        ["HU scale of its own"],
        ["1 missing before"],
        [],
        ["gap is not the ordinary 3.00 mm"],
    ]


def test_a_slice_beside_the_others_is_noted(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 3:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x + 0.3, y, z]

    build_ct_series(tmp_path, small(), change)
    rows = slice_table(read_series(tmp_path))
    assert [row["slice"] for row in rows if "shifted sideways" in row["notes"]] == [4, 5]
    assert rows[3]["sideways_mm"] == [0.3, 0]


def test_an_instance_number_that_is_none_is_reported_as_none(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(attributes={"InstanceNumber": None}))
    assert {row["instance"] for row in slice_table(read_series(tmp_path))} == {None}
