"""What goes wrong with one series stays with it: the others are judged, and it is held with a reason."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pydicom
import pytest
import structlog
from pydicom.uid import (
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
)

from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.model import Series, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.unit.node.intake.test_inbox import Node


class Several(Node):
    """A node with a clock that the test sets, to which several series were sent."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.now = datetime.now().astimezone() + timedelta(hours=1)
        self.inbox = Inbox(self.config, self.store, clock=lambda: self.now)
        self.uids: dict[str, str] = {}

    def send(self, name: str, **attributes: str) -> None:
        options = PhantomOptions(
            slices=6, rows=16, columns=16, pixel_spacing_mm=(16.0, 16.0), series=name, study=name
        )
        for path in build_ct_series(self.folder / name, options):
            if attributes:
                _write_as_text(path, attributes)
            self.take(path)
            self.uids[name] = path_uid(self.store.series())
        self.inbox.association_ended(1, released=True)

    def of(self, name: str) -> Series:
        return self.store.one_series(self.uids[name])


def path_uid(series: list[Series]) -> str:
    return series[-1].series_uid


def _write_as_text(path: Path, attributes: dict[str, str]) -> None:
    """Write whole numbers as Integer String, as only a faulty program does."""
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        dataset[keyword].VR = "IS"
        dataset[keyword]._value = value
    dataset.save_as(path)


@pytest.fixture
def node(tmp_path: Path) -> Several:
    return Several(tmp_path)


def test_a_series_with_negative_columns_is_held_and_the_good_ones_are_judged(node: Several) -> None:
    node.send("odd", Columns="-8")
    for name in ("a", "b", "c"):
        node.send(name)
    node.inbox.judge_stable_series()
    assert {node.of(name).state for name in "abc"} == {SeriesState.READY}
    assert node.of("odd").state is SeriesState.HOLD
    assert node.of("odd").reason


def test_a_read_error_is_tried_again_and_then_holds_the_series_alone(node: Several) -> None:
    node.send("lost")
    node.send("good")
    image = node.store.instances_of(node.uids["lost"])[0]
    (node.data / image.path).unlink()
    (node.data / image.path).mkdir()
    states = []
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            node.inbox.judge_stable_series()
            node.inbox.judge_stable_series()  # its pause is not over
            states.append(node.of("lost").state)
            node.now += timedelta(minutes=5)
    assert states == [SeriesState.RECEIVING] * 4 + [SeriesState.HOLD]
    assert node.of("good").state is SeriesState.READY
    failed = [entry for entry in logs if entry["event"] == "series not judged"]
    assert [entry["attempt"] for entry in failed] == [1, 2, 3, 4, 5]
    assert {entry["series"] for entry in failed} == {node.uids["lost"]}
    assert node.of("lost").reason == "SERIES_UNREADABLE"
    assert "series judge" in node.of("lost").note
    assert str(node.data) not in node.of("lost").note


def test_the_count_survives_a_restart_and_a_repaired_series_is_judged(node: Several) -> None:
    node.send("lost")
    folder = node.data / "inbox" / node.uids["lost"]
    image = min(folder.iterdir())
    kept = node.folder / "kept.dcm"
    shutil.move(image, kept)
    image.mkdir()
    for _ in range(4):
        node.inbox = Inbox(node.config, node.store, clock=lambda: node.now)
        node.inbox.judge_stable_series()
        node.now += timedelta(minutes=5)
    assert node.of("lost").state is SeriesState.RECEIVING
    node.inbox.judge_stable_series()
    assert node.of("lost").state is SeriesState.HOLD
    image.rmdir()
    shutil.move(kept, image)
    SeriesOverrides(node.store.database).force(node.uids["lost"], "by anna: disk repaired")
    node.inbox.judge_stable_series()
    assert node.of("lost").state is SeriesState.READY


def test_a_forced_series_that_fails_is_held_again_at_once(node: Several) -> None:
    node.send("lost")
    image = node.store.instances_of(node.uids["lost"])[0]
    (node.data / image.path).unlink()
    (node.data / image.path).mkdir()
    SeriesOverrides(node.store.database).force(node.uids["lost"], "by anna: try it")
    node.inbox.judge_stable_series()
    assert node.of("lost").state is SeriesState.HOLD
    assert not SeriesOverrides(node.store.database).all()


def test_a_series_that_cannot_be_preloaded_does_not_stop_the_judging(node: Several) -> None:
    node.send("good")
    node.send("lost")
    image = node.store.instances_of(node.uids["lost"])[0]
    (node.data / image.path).unlink()
    (node.data / image.path).mkdir()
    node.now = node.of("lost").last_received_at + timedelta(seconds=3)
    for _ in range(3):
        try:
            node.inbox.judge_stable_series()
        except Exception as error:  # noqa: BLE001
            assert getattr(error, "code", "") == "OPERATION_ITEMS"  # noqa: PT017
    node.now += timedelta(seconds=10)
    node.inbox.judge_stable_series()
    assert node.of("good").state is SeriesState.READY


@pytest.mark.parametrize(
    "sop_class", [MRImageStorage, PositronEmissionTomographyImageStorage, SecondaryCaptureImageStorage]
)
def test_half_a_ct_that_came_as_another_class_is_held(node: Several, sop_class: str) -> None:
    def change(k: int, dataset: pydicom.Dataset) -> None:
        if k % 2:
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class

    for path in build_ct_series(node.folder / "half", PhantomOptions(slices=12, rows=16, columns=16), change):
        node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    (series,) = node.store.series()
    assert (series.state, series.reason, series.instances) == (SeriesState.HOLD, "INPUT_MISSING_SLICES", 12)
