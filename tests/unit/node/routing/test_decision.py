"""From images that arrive to jobs that carry a decision: rules, called AE titles, and what is sent again."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from orgseg_node.dicom.reading import part10
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.model import (
    DeliveryState,
    Incoming,
    Job,
    JobState,
    OutputObject,
    Series,
    SeriesState,
)
from orgseg_node.node.store.store import Store
from tests.support.ct.phantom import PhantomOptions, build_ct_series

STEPS = (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING)
RTSTRUCT = OutputObject(role="RTSTRUCT", path="jobs/x/out/RTSTRUCT.dcm", sop_uid="2.25.1")
HN = {"name": "hn", "when": {"called_ae": "ORGSEG_HN"}, "protocol": "head_and_neck", "priority": "high"}
ELSEWHERE = {"name": "elsewhere", "when": {"called_ae": "ORGSEG_HN"}, "destinations": ["pacs"]}


class Node:
    """An inbox with its store; every series in it is stable at once."""

    def __init__(self, folder: Path, *rules: dict[str, Any], **sections: Any) -> None:
        self.data = folder / "data"
        self.ahead = timedelta(hours=1)
        self.config = NodeConfig.model_validate(
            {
                "node": {"data_dir": self.data, "also_called": ["ORGSEG_HN"]},
                "receiver": {"accept_any_calling_ae": True, "min_free_mb": 0, "quiet_seconds": 5},
                "destinations": {
                    "tps": {"ae_title": "TPS", "host": "127.0.0.1", "port": 104},
                    "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 105},
                },
                "rule": list(rules),
                **sections,
            }
        )
        self.start()
        self.files = build_ct_series(folder / "ct", PhantomOptions(slices=4, rows=16, columns=16))

    def start(self) -> None:
        self.store = Store(self.data)
        self.inbox = Inbox(self.config, self.store, clock=lambda: datetime.now(UTC) + self.ahead)

    def take(self, path: Path, called: str) -> SeriesState:
        dataset = pydicom.dcmread(path)
        encoded, syntax = part10.split_part10(path.read_bytes())
        return self.inbox.accept(
            Incoming(
                sop_class_uid=dataset.SOPClassUID, sop_uid=dataset.SOPInstanceUID, transfer_syntax=syntax,
                calling_ae="CT", association=1, encoded=encoded, called_ae=called,
            )
        )  # fmt: skip

    def push(self, called: str = "ORGSEG", files: list[Path] | None = None) -> Series:
        for path in self.files if files is None else files:
            self.take(path, called)
        self.inbox.association_ended(1, released=True)
        self.inbox.judge_stable_series()
        (series,) = self.store.series()
        return series

    def jobs(self) -> list[Job]:
        return sorted(self.store.jobs(), key=lambda job: job.created_at)

    def job(self) -> Job:
        (job,) = self.jobs()
        return job

    def deliver(self, job: Job, *names: str) -> None:
        for state in STEPS:
            self.store.move(job.job_id, state, "")
        self.store.begin_sending(job.job_id, [(RTSTRUCT, name) for name in job.destinations or ()])
        for name in names:
            for delivery in self.store.claim(job.job_id, name):
                self.store.record_delivery(
                    delivery, DeliveryState.STORED, status=0, note="", next_at=datetime.now(UTC)
                )


def test_the_called_title_selects_a_rule_and_the_job_carries_its_decision(tmp_path: Path) -> None:
    node = Node(tmp_path, HN)
    series = node.push("ORGSEG_HN")
    assert (series.state, series.called_ae) == (SeriesState.READY, "ORGSEG_HN")
    job = node.job()
    assert (job.rule, job.protocol, job.priority, job.review) == ("hn", "head_and_neck", 30, False)
    assert job.destinations == ("tps", "pacs")
    assert any(
        entry.get("name") == "SpinalCord_PRV05" for entry in json.loads(job.protocol_json)["structures"]
    )
    assert len(job.config_revision) == 16


def test_without_a_matching_rule_the_default_decides(tmp_path: Path) -> None:
    node = Node(tmp_path, HN)
    node.push()
    assert (node.job().rule, node.job().protocol, node.job().priority) == ("default", "default", 50)


def test_an_ignored_series_has_the_name_of_its_rule(tmp_path: Path) -> None:
    node = Node(tmp_path, {"name": "few-images", "action": "ignore", "when": {"slices": {"less_than": 5}}})
    series = node.push()
    assert (series.state, series.reason) == (SeriesState.IGNORED, "few-images")
    assert node.jobs() == []


def test_a_rule_may_ignore_a_series_that_cannot_be_contoured(tmp_path: Path) -> None:
    node = Node(tmp_path, {"name": "few-images", "action": "ignore", "when": {"slices": {"less_than": 5}}})
    assert node.push(files=node.files[:1]).state is SeriesState.IGNORED


def test_a_rule_never_makes_a_series_usable(tmp_path: Path) -> None:
    node = Node(tmp_path, {"name": "all"})
    series = node.push(files=node.files[:1])
    assert (series.state, series.reason) == (SeriesState.HOLD, "INPUT_TOO_FEW_SLICES")


@pytest.mark.parametrize(
    ("sections", "code"),
    [
        ({"rule": [{"name": "wait", "action": "hold"}]}, "RULE_HOLD"),
        ({"rules": {"otherwise": "hold"}}, "RULE_HOLD"),
        ({"rule": [{"name": "x", "protocol": "absent.toml"}]}, "CONFIG_PROTOCOL"),
        ({"contours": {"protocol": "absent.toml"}}, "CONFIG_PROTOCOL"),
    ],
)
def test_a_held_series_has_the_reason(tmp_path: Path, sections: dict[str, Any], code: str) -> None:
    node = Node(tmp_path, **sections)
    series = node.push()
    assert (series.state, series.reason) == (SeriesState.HOLD, code)
    assert node.jobs() == []


def test_files_found_at_the_start_are_held_where_a_rule_asks_for_their_title(tmp_path: Path) -> None:
    node = Node(tmp_path, HN)
    series = node.push("")
    assert (series.state, series.reason) == (SeriesState.HOLD, "RULE_UNDECIDED")
    assert node.push("").state is SeriesState.HOLD
    assert node.push("ORGSEG").state is SeriesState.READY, "sent again, its title is known"
    assert node.job().rule == "default"


def test_files_found_at_the_start_get_their_sender_when_sent_again(tmp_path: Path) -> None:
    node = Node(tmp_path, {"name": "scanner", "when": {"calling_ae": "CT"}})
    for path in node.files:
        node.take(path, "ORGSEG")
    node.store.close()
    shutil.rmtree(node.data / "db")
    node.start()
    assert node.inbox.adopt() == (4, 0)
    node.ahead += timedelta(minutes=6)  # its sender had time to go on
    series = node.push(files=[])
    assert (series.state, series.reason) == (SeriesState.HOLD, "RULE_UNDECIDED")
    assert node.push().state is SeriesState.READY
    assert node.job().rule == "scanner"


def test_the_same_series_under_another_title_with_another_protocol_is_another_job(tmp_path: Path) -> None:
    node = Node(tmp_path, HN)
    node.push()
    first = node.job()
    series = node.push("ORGSEG_HN")
    assert (series.state, series.revision, series.called_ae) == (SeriesState.READY, 2, "ORGSEG_HN")
    assert "several called AE titles; the last one counts: ORGSEG_HN" in series.note
    second = next(job for job in node.jobs() if job.job_id != first.job_id)
    assert (second.rule, second.state) == ("hn", JobState.QUEUED)
    assert node.store.job(first.job_id).state is JobState.SUPERSEDED, "nothing of it was delivered"
    notices = [event.note for event in node.store.events(series.series_uid) if event.change == "notice"]
    assert notices == ["Called as ORGSEG_HN, before as ORGSEG."]


def test_what_was_delivered_stays_when_the_series_comes_under_another_title(tmp_path: Path) -> None:
    node = Node(tmp_path, HN)
    node.push()
    first = node.job()
    node.deliver(first, "tps", "pacs")
    node.push("ORGSEG_HN")
    assert node.store.job(first.job_id).state is JobState.DONE
    second = next(job for job in node.jobs() if job.job_id != first.job_id)
    notices = [e.note for e in node.store.events(first.job_id) if e.change == "notice"]
    assert notices == [f"The series was routed again; see job {second.job_id}."]


def test_the_same_title_again_changes_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path, HN)
    node.push("ORGSEG_HN")
    assert node.push("ORGSEG_HN").revision == 1
    assert len(node.jobs()) == 1


def test_two_titles_at_once_make_one_notice_however_often_they_alternate(tmp_path: Path) -> None:
    node = Node(tmp_path, HN)
    for path in node.files:
        for title in ("ORGSEG", "ORGSEG_HN", "ORGSEG", "ORGSEG_HN"):
            node.take(path, title)
    node.inbox.association_ended(1, released=True)
    node.inbox.judge_stable_series()
    (series,) = node.store.series()
    assert (series.state, series.revision, node.job().rule) == (SeriesState.READY, 1, "hn")
    assert len([e for e in node.store.events(series.series_uid) if e.change == "notice"]) == 1


def test_destinations_priority_and_review_make_no_other_job(tmp_path: Path) -> None:
    numbers = []
    for number, more in enumerate(({}, {"destinations": []}, {"priority": 3}, {"review": True})):
        node = Node(tmp_path / str(number), {"name": f"r{number}", **more})
        node.push()
        numbers.append(node.job().job_id)
    assert len(set(numbers)) == 1
    node = Node(tmp_path / "other", {"name": "other", "protocol": "thorax"})
    node.push()
    assert node.job().job_id not in numbers


def test_a_queued_job_follows_the_latest_decision(tmp_path: Path) -> None:
    node = Node(tmp_path, ELSEWHERE)
    node.push()
    node.push("ORGSEG_HN")
    assert (node.job().state, node.job().rule, node.job().destinations) == (
        JobState.QUEUED,
        "elsewhere",
        ("pacs",),
    )


def test_a_delivery_to_a_destination_that_is_no_longer_selected_is_dropped(tmp_path: Path) -> None:
    node = Node(tmp_path, ELSEWHERE)
    node.push()
    node.deliver(node.job())
    node.push("ORGSEG_HN")
    states = {d.destination: d.state for d in node.store.deliveries(node.job().job_id)}
    assert states == {"tps": DeliveryState.DROPPED, "pacs": DeliveryState.PENDING}


def test_a_finished_job_with_a_new_destination_is_sent_only_there(tmp_path: Path) -> None:
    first = {"name": "first", "when": {"called_ae": "ORGSEG"}, "destinations": ["tps"]}
    node = Node(tmp_path, first, ELSEWHERE)
    node.push()
    node.deliver(node.job(), "tps")
    assert node.job().state is JobState.DONE
    node.push("ORGSEG_HN")
    again = node.job()
    assert (again.state, again.run, again.destinations) == (JobState.QUEUED, 2, ("tps", "pacs"))
    node.deliver(again)
    states = {d.destination: d.state for d in node.store.deliveries(again.job_id)}
    assert states == {"tps": DeliveryState.STORED, "pacs": DeliveryState.PENDING}


def test_a_job_that_is_being_sent_has_a_notice_about_a_new_destination(tmp_path: Path) -> None:
    first = {"name": "first", "when": {"called_ae": "ORGSEG"}, "destinations": ["tps"]}
    node = Node(tmp_path, first, ELSEWHERE)
    node.push()
    node.deliver(node.job())
    node.store.claim(node.job().job_id, "tps")
    node.push("ORGSEG_HN")
    assert node.job().state is JobState.SENDING
    (notices,) = [e.note for e in node.store.events(node.job().job_id) if e.change == "notice"]
    assert notices.startswith("It is also wanted at pacs, but is SENDING.")
