"""``orgseg demo``: the demonstration, and its patient."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest

from orgseg_node.cli.ct.demo_patient import clinical_masks, demo_ct
from orgseg_node.core.geometry import Grid
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.errors import MixedGeometry
from tests.support.node.command_line import orgseg

ORGANS = {"brainstem", "spinal_cord", "parotid_left", "parotid_right", "esophagus", "larynx", "mandible"}


@pytest.fixture(scope="module")
def series() -> CtSeries:
    return read_series(demo_ct())


def test_the_demo_ct_is_accepted_without_a_finding(series: CtSeries) -> None:
    assert series.grid.shape == (128, 128, 128)
    assert series.findings == ()


def test_the_demo_patient_is_marked_as_derived_and_invented(series: CtSeries) -> None:
    assert list(series.header.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert str(series.header.PatientName) == "DEMO^Head Neck"
    assert "OpenKBP" in series.header.DerivationDescription


def test_the_demo_patient_is_shipped_with_its_licence_and_stays_small() -> None:
    folder = demo_ct().parent
    assert "MIT License" in (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 3_000_000


def test_the_clinical_contours_fit_the_anatomy(series: CtSeries) -> None:
    masks = clinical_masks(series.grid)
    assert masks.keys() == ORGANS
    centre = {key: series.grid.to_lps(np.argwhere(mask)).mean(axis=0) for key, mask in masks.items()}
    assert centre["parotid_left"][0] > centre["parotid_right"][0] + 50  # x to the left
    assert centre["brainstem"][2] > centre["spinal_cord"][2] + 50  # z to the head
    assert centre["mandible"][1] < centre["spinal_cord"][1] - 30  # y to the back
    hu = read_volume(series).hu
    assert np.median(hu[masks["mandible"]]) > 300
    assert 0 < np.median(hu[masks["brainstem"]]) < 80


def test_clinical_contours_on_another_grid_are_refused(series: CtSeries) -> None:
    moved = Grid(shape=series.grid.shape, spacing_mm=series.grid.spacing_mm, origin_mm=(0.0, 0.0, 0.0))
    with pytest.raises(MixedGeometry):
        clinical_masks(moved)


@pytest.mark.endurance
def test_the_demo_ends_with_objects_in_the_tps_a_table_and_a_montage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, series: CtSeries
) -> None:
    answer = orgseg(capsys, "demo", "--out", tmp_path / "demo")
    assert answer.status == 0, answer.err
    assert "/login?once=" in answer.err
    received = [pydicom.dcmread(path) for path in (tmp_path / "demo" / "tps").glob("*.dcm")]
    assert {dataset.Modality for dataset in received} == {"RTSTRUCT", "SEG"}
    assert {dataset.StudyInstanceUID for dataset in received} == {series.study_instance_uid}
    assert "SpinalCord" in answer.out
    assert "Dice" in answer.out
    found = [float(number) for number in re.findall(r"\b[01]\.\d{3}\b", answer.out)]
    assert len(found) == len(ORGANS), "only the Dice of an organ has three decimals"
    assert min(found) > 0.5, "the starter bundle finds every organ of the patient"
    assert (tmp_path / "demo" / "montage.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "demo" / "report.json").read_text())["models"][0]["name"] == "starter-hn"
    assert [child for child in psutil.Process().children(recursive=True) if "orgseg" in child.name()] == []


def test_a_missing_bundle_is_reported_before_the_demo_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answer = orgseg(capsys, "demo", "--out", tmp_path / "demo", "--bundle", "no-such-bundle")
    assert (answer.status, answer.code) == (1, "BUNDLE_UNKNOWN")
    assert not (tmp_path / "demo").exists()
