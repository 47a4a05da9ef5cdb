"""The inbox: files found at the start, and the judging of stable series."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from orgseg_node.dicom.reading import part10
from orgseg_node.dicom.reading.series import files_in, survey
from orgseg_node.errors import OptionInvalid, SeriesRefuses
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.intake.inbox import Inbox, InboxCallbacks
from orgseg_node.node.store.model import Incoming, JobState, Series, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.store.store import Store
from tests.support.ct.phantom import Change, PhantomOptions, build_ct_series, uid


class Node:
    """An inbox with its store; the clock is an hour ahead of every arrival."""

    def __init__(self, folder: Path, **inference: Any) -> None:
        self.data = folder / "data"
        self.ahead = timedelta(hours=1)
        self.config = NodeConfig.model_validate(
            {
                "node": {"data_dir": self.data},
                "receiver": {"accept_any_calling_ae": True, "min_free_mb": 0, "quiet_seconds": 5},
                "inference": inference,
            }
        )
        self.start()

    def start(self) -> None:
        self.store = Store(self.data)
        self.inbox = Inbox(self.config, self.store, clock=lambda: datetime.now(UTC) + self.ahead)

    def take(self, path: Path, association: int = 1) -> SeriesState:
        dataset = pydicom.dcmread(path)
        encoded, syntax = part10.split_part10(path.read_bytes())
        return self.inbox.accept(
            Incoming(
                sop_class_uid=dataset.SOPClassUID,
                sop_uid=dataset.SOPInstanceUID,
                transfer_syntax=syntax,
                calling_ae="CT",
                association=association,
                encoded=encoded,
            )
        )

    def series(self) -> Series:
        (series,) = self.store.series()
        return series


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_clean_series_becomes_ready_with_one_job(node: Node, ct_folder: Path) -> None:
    for path in sorted(ct_folder.iterdir()):
        node.take(path)
    assert node.inbox.judge_stable_series() == [], "its association is open"
    node.inbox.association_ended(1, released=True)
    assert node.inbox.judge_stable_series() == [node.series().series_uid]
    assert node.series().state is SeriesState.READY
    (job,) = node.store.jobs()
    assert (job.state, job.slices, job.bundles) == (JobState.QUEUED, 24, ("starter-hn",))
    assert node.inbox.judge_stable_series() == []


def test_another_way_to_the_labels_is_another_job_and_more_memory_is_not(tmp_path: Path) -> None:
    files = build_ct_series(tmp_path / "ct", PhantomOptions(slices=3, rows=16, columns=16))

    def job(**inference: Any) -> str:
        node = Node(tmp_path / str(len(list(tmp_path.iterdir()))), **inference)
        for path in files:
            node.take(path)
        node.inbox.association_ended(1, released=True)
        node.inbox.judge_stable_series()
        (found,) = node.store.jobs()
        node.store.close()
        return found.job_id

    others = [
        job(method="whole"), job(method="chunked"), job(method="chunked", overlap_mm=10), job(backend="fast"),
        job(skip_outside_body=True), job(skip_outside_body=False), job(guided=False),
    ]  # fmt: skip
    assert len({job(), *others}) == 8
    assert job(memory_budget_mb=4000, threads=2, time_limit_s=60, overlap_mm=10) == job()


def test_a_series_is_not_judged_before_it_is_stable(node: Node, ct_folder: Path) -> None:
    node.inbox = Inbox(node.config, node.store)
    for path in sorted(ct_folder.iterdir()):
        node.take(path)
    node.inbox.association_ended(1, released=True)
    assert node.inbox.judge_stable_series() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda index, _: index != 10, "INPUT_MISSING_SLICES"),
        (lambda index, _: index < 2, "INPUT_TOO_FEW_SLICES"),
        (lambda _, dataset: dataset.__delattr__("FrameOfReferenceUID"), "INPUT_MISSING_ATTRIBUTE"),
    ],
    ids=["gap", "few", "frame"],
)
def test_a_series_that_cannot_be_used_is_held_with_its_reason(
    node: Node, tmp_path: Path, change: Change, reason: str
) -> None:
    for path in build_ct_series(tmp_path / "ct", change=change):
        node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    series = node.series()
    assert (series.state, series.reason) == (SeriesState.HOLD, reason)
    assert series.note.endswith(".")
    assert node.store.jobs() == []


def test_a_held_series_is_ready_once_the_missing_slice_has_come(node: Node, ct_folder: Path) -> None:
    files = sorted(ct_folder.iterdir())
    for path in [*files[:10], *files[11:]]:
        node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    assert node.series().state is SeriesState.HOLD
    node.take(files[10])
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    assert node.series().state is SeriesState.READY


def test_a_series_of_localizers_is_ignored_by_its_rule(node: Node, tmp_path: Path) -> None:
    def localizer(index: int, dataset: pydicom.Dataset) -> bool:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        return index < 2

    for path in build_ct_series(tmp_path / "ct", change=localizer):
        node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    assert node.series().state is SeriesState.IGNORED
    assert "Nothing to contour: 2" in node.series().note


def test_files_without_a_row_are_adopted_at_the_start(node: Node, ct_folder: Path) -> None:
    files = sorted(ct_folder.iterdir())
    for path in files:
        node.take(path)
    node.store.close()
    shutil.rmtree(node.data / "db")
    node.start()
    assert node.inbox.adopt() == (24, 0)
    assert node.series().instances == 24
    assert node.inbox.adopt() == (0, 0)
    assert node.take(files[0]) is SeriesState.RECEIVING
    assert node.series().instances == 24, "the same bytes again are no news"


def test_unfinished_and_foreign_files_go_to_quarantine_at_the_start(node: Node, ct_folder: Path) -> None:
    path = min(ct_folder.iterdir())
    node.take(path)
    folder = node.data / "inbox" / node.series().series_uid
    (folder / ".1.2.3.abcd.part").write_bytes(b"half")
    (folder / "1.2.3.dcm").write_bytes(b"not DICOM")
    shutil.copy(next(folder.glob("2*.dcm")), folder / "1.9.9.dcm")
    (node.data / "inbox" / "1.7").mkdir()
    shutil.copy(next(folder.glob("2*.dcm")), node.data / "inbox" / "1.7")
    assert node.inbox.adopt() == (0, 4)
    assert len(list((node.data / "quarantine").iterdir())) == 4
    assert node.series().instances == 1


def test_a_file_whose_row_was_never_committed_is_completed_by_the_repeat(node: Node, ct_folder: Path) -> None:
    path = min(ct_folder.iterdir())
    node.take(path)
    node.store.close()
    shutil.rmtree(node.data / "db")
    node.start()
    node.take(path)
    assert node.series().instances == 1
    assert len(list((node.data / "inbox").rglob("*.dcm"))) == 1


def test_an_accepted_file_that_has_vanished_is_written_again(node: Node, ct_folder: Path) -> None:
    path = min(ct_folder.iterdir())
    node.take(path)
    (kept,) = (node.data / "inbox").rglob("*.dcm")
    kept.unlink()
    node.take(path)
    assert kept.exists()


@pytest.fixture
def push(node: Node, tmp_path: Path) -> Callable[[str], None]:
    def build(series: str) -> None:
        for path in build_ct_series(tmp_path / series, PhantomOptions(slices=5, series=series)):
            node.take(path, association=hash(series))
        node.inbox.association_ended(hash(series), released=True)

    return build


def test_series_are_judged_each_for_itself(node: Node, push: Callable[[str], None]) -> None:
    push("one")
    push("two")
    assert len(node.inbox.judge_stable_series()) == 2
    assert len(node.store.jobs()) == 2


def test_a_series_interrupted_by_a_stop_is_not_judged_before_its_sender_could_continue(
    node: Node, ct_folder: Path
) -> None:
    for path in sorted(ct_folder.iterdir())[:12]:
        node.take(path)
    now = datetime.now(UTC) + timedelta(hours=2)
    inbox = Inbox(node.config, node.store, clock=lambda: now)
    inbox.adopt()
    assert inbox.judge_stable_series() == []
    now += timedelta(seconds=node.config.completeness.broken_wait_s - 1)
    assert inbox.judge_stable_series() == []
    now += timedelta(seconds=1)
    assert inbox.judge_stable_series() == [node.series().series_uid]


def test_a_series_is_preloaded_before_it_is_stable_and_again_when_more_images_arrived(
    node: Node, ct_folder: Path
) -> None:
    shown: list[Path] = []
    now = datetime.now(UTC)
    node.inbox = Inbox(
        node.config, node.store, clock=lambda: now, callbacks=InboxCallbacks(preload=shown.append)
    )
    *most, last = sorted(ct_folder.iterdir())
    for path in most:
        node.take(path)
    node.inbox.judge_stable_series()
    assert not shown, "its association is open"
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    assert not shown, "more of it may come any moment"
    now = node.series().last_received_at + timedelta(seconds=3)
    node.inbox.judge_stable_series()
    node.inbox.judge_stable_series()
    folder = node.data / "inbox" / node.series().series_uid
    assert shown == [folder]
    node.take(last, association=2)
    node.inbox.association_ended(2, released=True)
    now = node.series().last_received_at + timedelta(seconds=3)
    node.inbox.judge_stable_series()
    assert shown == [folder, folder]
    assert node.series().state is SeriesState.RECEIVING


def test_the_volume_that_a_person_chooses_is_contoured(node: Node, tmp_path: Path) -> None:
    for n in (1, 2):
        attributes = {"SeriesInstanceUID": uid("study", "series"), "AcquisitionNumber": n}
        options = PhantomOptions(
            slices=6, rows=16, columns=16, pixel_spacing_mm=(16.0, 16.0), series=str(n), noise_hu=5.0,
            attributes=attributes, seed=n,
        )  # fmt: skip
        for path in build_ct_series(tmp_path / str(n), options):
            node.take(path)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    assert (node.series().state, node.series().reason) == (SeriesState.HOLD, "INPUT_SEVERAL_PARTS")
    overrides = SeriesOverrides(node.store.database)
    assert [(one.name, one.slices) for one in overrides.volumes(node.series())] == [
        ("acquisition 1", 6),
        ("acquisition 2", 6),
    ]
    with pytest.raises(OptionInvalid):
        overrides.choose(node.series(), "acquisition 3", "by anna")
    overrides.choose(node.series(), "2", "by anna")
    with pytest.raises(SeriesRefuses):
        overrides.choose(node.series(), "1", "by anna")
    node.inbox.judge_stable_series()
    assert node.series().state is SeriesState.READY
    assert node.series().note.startswith("6 slices of acquisition 2")
    (job,) = node.store.jobs()
    parts = {one.part: one for one in survey(files_in(node.data / "inbox")).accepted}
    assert job.content_sha256 == parts["acquisition 2"].content_sha256
