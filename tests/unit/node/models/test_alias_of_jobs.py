"""Jobs and aliases: a job keeps the version it was made with; a rollback decides waiting jobs again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest

from orgseg_node.dicom.reading import part10
from orgseg_node.errors import BundleReplaced
from orgseg_node.inference.bundles.bundle import open_bundles, require_versions
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.processing.child_request import ChildRequest
from orgseg_node.node.processing.request_building import build_request
from orgseg_node.node.routing.warnings import config_warnings
from orgseg_node.node.store.model import Incoming, Job, JobState, SeriesState
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.model_bench import FAMILY, ModelBench

ALIAS = {"bundles": [f"{FAMILY}@live"]}


class Clinic(ModelBench):
    """A node whose configuration names an alias; series are stable at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, inference=ALIAS)
        self.inbox = Inbox(self.config, self.store, clock=lambda: datetime.now(UTC) + timedelta(hours=1))

    def receive(self, name: str) -> str:
        """Receive a CT and judge it; its Series Instance UID."""
        options = PhantomOptions(slices=4, rows=16, columns=16)
        uid = ""
        for path in build_ct_series(self.folder / name, options):
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID = uid = f"1.2.3.{name}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
                f"{uid}.{dataset.InstanceNumber}"
            )
            dataset.save_as(path)
            encoded, syntax = part10.split_part10(path.read_bytes())
            self.inbox.accept(
                Incoming(
                    sop_class_uid=dataset.SOPClassUID, sop_uid=dataset.SOPInstanceUID,
                    transfer_syntax=syntax, calling_ae="CT", association=1, encoded=encoded,
                )
            )  # fmt: skip
        self.inbox.association_ended(1, released=True)
        self.inbox.judge_stable_series()
        return uid

    def jobs_of(self, uid: str) -> list[Job]:
        """The jobs of a series that were not superseded."""
        return [job for job in self.store.jobs_of(uid) if job.state is not JobState.SUPERSEDED]


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    made = Clinic(tmp_path)
    made.make_first_live()
    yield made
    made.store.close()


def test_a_job_keeps_the_version_it_was_made_with(clinic: Clinic) -> None:
    (first,) = clinic.jobs_of(clinic.receive("1"))
    assert first.bundles == (f"{FAMILY}@1",)
    assert first.models == (clinic.bundles["1"].sha256,)
    clinic.promote("2", "1")
    assert clinic.store.job(first.job_id).bundles == (f"{FAMILY}@1",), "a promotion is not seen by jobs"
    (second,) = clinic.jobs_of(clinic.receive("2"))
    assert second.bundles == (f"{FAMILY}@2",)
    wanted = build_request(clinic.config, first, [], clinic.folder)
    assert ChildRequest.from_json(wanted.to_json()).models == first.models


def test_another_bundle_of_the_same_name_is_never_used_for_the_job(clinic: Clinic) -> None:
    (job,) = clinic.jobs_of(clinic.receive("1"))
    bundles = open_bundles(job.bundles, clinic.config.bundle_paths)
    require_versions(bundles, job.models)
    require_versions(bundles, ("",))
    manifest = clinic.bundles["1"].path / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("A bundle of paper", "Another one"))
    with pytest.raises(BundleReplaced):
        require_versions(open_bundles(job.bundles, clinic.config.bundle_paths), job.models)


def test_the_next_job_after_a_rollback_has_the_version_before_also_if_it_waited(clinic: Clinic) -> None:
    clinic.promote("2", "1")
    waiting, running, failed = (clinic.receive(name) for name in "124")
    (job,) = clinic.jobs_of(running)
    (lost,) = clinic.jobs_of(failed)
    clinic.store.move(job.job_id, JobState.PREPARING, "")
    clinic.store.move(lost.job_id, JobState.FAILED, "It is damaged.", reason="BUNDLE_HASH")
    done = clinic.registry.roll_back(FAMILY, "by A")
    assert set(done.kept) == {job.job_id, lost.job_id}, "a person would start the failed one again"
    assert len(done.decided_again) == 1
    clinic.inbox.judge_stable_series()
    (again,) = clinic.jobs_of(waiting)
    assert (again.state, again.bundles) == (JobState.QUEUED, (f"{FAMILY}@1",))
    assert [one.bundles for one in clinic.jobs_of(running)] == [(f"{FAMILY}@2",)]
    assert clinic.jobs_of(clinic.receive("3"))[0].bundles == (f"{FAMILY}@1",)


def test_without_a_live_version_a_series_is_held_and_nothing_is_lost(tmp_path: Path) -> None:
    clinic = Clinic(tmp_path)
    series = clinic.store.one_series(clinic.receive("1"))
    assert (series.state, series.reason) == (SeriesState.HOLD, "MODEL_NO_LIVE_VERSION")
    assert "orgseg models promote" in series.note
    assert any(
        "No version of this family of models is live" in line for line in config_warnings(clinic.config)
    )
    clinic.make_first_live()
    assert not any("is live" in line for line in config_warnings(clinic.config))
