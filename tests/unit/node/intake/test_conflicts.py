"""The same image in another encoding changes nothing; another image stops the job of its own series only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from orgseg_node.node.intake.conflicts import Keep, resolve
from orgseg_node.node.store.data_folder import INBOX, QUARANTINE
from orgseg_node.node.store.model import JobState, SeriesState
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.ct.recode import recode
from tests.unit.node.intake.test_inbox import Node

Change = Callable[[pydicom.Dataset], None]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return build_ct_series(tmp_path / "ct", PhantomOptions(slices=4, rows=32, columns=32))


@pytest.fixture
def node(tmp_path: Path, files: list[Path]) -> Node:
    """A node that has contoured nothing yet: one series with one job."""
    node = Node(tmp_path)
    for path in files:
        node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    (job,) = node.store.jobs()
    assert job.state is JobState.QUEUED
    return node


def again(node: Node, files: list[Path], change: Change, syntax: str = ExplicitVRLittleEndian) -> None:
    for path in files:
        dataset = pydicom.dcmread(path)
        change(dataset)
        recode(dataset, path, syntax)
        node.take(path, association=2)
    node.inbox.association_ended(2, released=True)


def nothing(_: pydicom.Dataset) -> None:
    return None


def coerced(dataset: pydicom.Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = str(dataset.PatientName).upper() + "^^Dr."
    dataset.PatientBirthDate, dataset.StudyDate, dataset.SeriesDate = "19500101", "20260101", "20260101"
    dataset.AccessionNumber, dataset.StudyID, dataset.StationName = "4711", "1", "PACS"
    dataset.InstitutionName, dataset.SeriesDescription = "Klinikum Köln", "coerced"
    dataset.ImagePositionPatient = [f"{float(value):.6f}" for value in dataset.ImagePositionPatient]
    dataset.PixelSpacing = [f"{float(value):.4f}" for value in dataset.PixelSpacing]
    dataset.add_new(0x00091010, "LO", "private")


ENCODINGS = [
    ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless,
    JPEG2000Lossless,
]  # fmt: skip


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda uid: uid.name)
@pytest.mark.parametrize("change", [nothing, coerced])
def test_the_same_image_in_another_encoding_changes_nothing(
    node: Node, files: list[Path], syntax: str, change: Change
) -> None:
    before, stored = node.store.series(), sorted((node.data / INBOX).rglob("*"))
    again(node, files, change, syntax)
    assert node.store.series() == before
    assert sorted((node.data / INBOX).rglob("*")) == stored
    assert [job.state for job in node.store.jobs()] == [JobState.QUEUED]


def other_patient(dataset: pydicom.Dataset) -> None:
    dataset.PatientID = "RIGHT1"


def other_name(dataset: pydicom.Dataset) -> None:
    dataset.PatientName = "Other^Name"


def moved(dataset: pydicom.Dataset) -> None:
    dataset.ImagePositionPatient = [float(dataset.ImagePositionPatient[0]) + 0.1, 0, 0]


def other_scale(dataset: pydicom.Dataset) -> None:
    dataset.RescaleIntercept = float(dataset.RescaleIntercept) + 1


def one_pixel(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = bytes((dataset.PixelData[0] ^ 1,)) + dataset.PixelData[1:]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (other_patient, "the patient"), (other_name, "the patient"), (moved, "the geometry"),
        (other_scale, "the pixels"), (one_pixel, "the pixels"),
    ],
)  # fmt: skip
def test_another_image_under_the_uid_is_a_conflict_that_says_in_what(
    node: Node, files: list[Path], change: Change, word: str
) -> None:
    again(node, files[:1], change, ImplicitVRLittleEndian)
    assert node.series().state is SeriesState.CONFLICT
    assert f"({word})" in node.series().note
    assert "orgseg series settle" in node.series().note


def new_series(dataset: pydicom.Dataset) -> None:
    dataset.SeriesInstanceUID = "1.2.3.4"


def test_a_copy_under_a_new_series_uid_stops_only_the_new_series(node: Node, files: list[Path]) -> None:
    first = node.series()
    again(node, files, new_series)
    assert node.store.one_series(first.series_uid) == first
    assert [job.state for job in node.store.jobs()] == [JobState.QUEUED]
    copy = node.store.one_series("1.2.3.4")
    assert copy.state is SeriesState.CONFLICT
    assert first.series_uid in copy.note
    assert "orgseg series settle" in copy.note


def test_of_a_copy_the_first_is_kept_and_its_job_continues(node: Node, files: list[Path]) -> None:
    first = node.series()
    again(node, files, new_series)
    assert resolve(node.store, node.data, "1.2.3.4", Keep.FIRST, "n") == len(files)
    assert node.store.one_series("1.2.3.4").state is SeriesState.IGNORED
    assert node.store.one_series(first.series_uid) == first
    assert [job.state for job in node.store.jobs()] == [JobState.QUEUED]


def test_of_a_copy_the_last_is_kept_and_the_job_of_the_first_is_stopped(
    node: Node, files: list[Path]
) -> None:
    first = node.series()
    again(node, files, new_series)
    assert resolve(node.store, node.data, "1.2.3.4", Keep.LAST, "n") == len(files)
    assert node.store.one_series("1.2.3.4").state is SeriesState.RECEIVING
    assert node.store.one_series(first.series_uid).state is SeriesState.IGNORED
    assert [job.state for job in node.store.jobs()] == [JobState.SUPERSEDED]
    assert len(list((node.data / QUARANTINE).iterdir())) == len(files)


def test_a_file_in_another_encoding_that_got_no_row_is_no_conflict_at_the_start(
    node: Node, files: list[Path]
) -> None:
    before = node.store.series()
    dataset = pydicom.dcmread(files[0])
    left = node.data / INBOX / before[0].series_uid / f"{dataset.SOPInstanceUID}~0123456789abcdef.dcm"
    recode(dataset, left, ImplicitVRLittleEndian)
    compared = node.data / INBOX / ".compared1234.part"
    compared.touch()
    assert node.inbox.adopt() == (0, 0)
    assert node.store.series() == before
    assert not left.exists()
    assert not compared.exists()
