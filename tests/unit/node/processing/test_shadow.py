"""The version in the shadow: it gives way to patients, is compared, and leaves nothing behind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.node.models.agreement import report_agreement
from tests.support.node.model_bench import FAMILY
from tests.support.node.shadow_bench import Shadowed


@pytest.fixture
def node(tmp_path: Path, organ_table: OrganTable) -> Iterator[Shadowed]:
    made = Shadowed(tmp_path, organ_table)
    yield made
    made.store.close()


def test_a_scan_is_compared_and_nothing_is_sent_or_left(node: Shadowed) -> None:
    runner = node.runner("works")
    runner.poll()
    wait_until(lambda: any(run.outcome for run in node.outcomes()))
    runner.stop()
    (run,) = node.outcomes()
    assert run.is_compared
    assert list(run.organs) == [
        {"organ": "aorta", "live": False, "shadow": True},
        {"organ": "liver", "live": True, "shadow": True, "dice": 1.0, "surface_dice": 1.0},
        {"organ": "spleen", "live": True, "shadow": False},
    ]
    rows = {row.organ: row for row in report_agreement(node.outcomes())}
    assert (rows["liver"].scans, rows["liver"].mean_dice) == (1, 1.0)
    assert (rows["aorta"].only_shadow, rows["spleen"].only_live, rows["spleen"].mean_dice) == (1, 1, None)
    assert list((node.data / "shadow").iterdir()) == []
    assert node.store.deliveries(node.job.job_id) == []
    seen: dict[str, Any] = json.loads((node.folder / "seen.json").read_text())
    assert seen["bundles"] == [f"{FAMILY}@2"]
    assert seen["models"] == [node.bundles["2"].sha256]
    assert seen["job_id"] != node.job.job_id, "its objects never have the UIDs of the delivered ones"
    again = node.runner("works")
    again.poll()
    assert len(node.outcomes()) == 1


def test_what_a_killed_process_left_is_deleted_at_the_start(node: Shadowed) -> None:
    (node.data / "shadow" / "left").mkdir(parents=True)
    with node.runner("works"):
        assert not (node.data / "shadow").exists()


def test_it_does_not_begin_while_a_patient_waits(node: Shadowed) -> None:
    node.add_job("1.2.4", "c" * 64)
    runner = node.runner("works")
    runner.poll()
    runner.stop()
    assert node.outcomes() == []


def test_it_stops_at_once_for_a_patient_and_that_counts_for_nothing(node: Shadowed) -> None:
    runner = node.runner("waits")
    shadow, live = node.versions()
    thread = threading.Thread(target=lambda: (runner.run(shadow, live, node.job), node.store.close()))
    thread.start()
    wait_until(lambda: any(run.attempts for run in node.outcomes()))
    node.add_job("1.2.4", "c" * 64)
    thread.join(120)
    assert not thread.is_alive()
    (run,) = node.outcomes()
    assert (run.outcome, run.attempts) == ("", 0)
    assert list((node.data / "shadow").iterdir()) == []


@pytest.mark.parametrize(("what", "note"), [("fails", "BUNDLE_HASH"), ("dies", "again and again")])
def test_a_scan_that_cannot_be_contoured_is_given_up_with_the_reason(
    node: Shadowed, what: str, note: str
) -> None:
    runner = node.runner(what)
    shadow, live = node.versions()
    for _ in range(3):
        if node.outcomes() and node.outcomes()[0].is_failed:
            break
        runner.run(shadow, live, node.job)
    (run,) = node.outcomes()
    assert run.is_failed
    assert note in run.note


def wait_until(seen: Any) -> None:
    """Wait up to two minutes: the process computes at a low priority."""
    end = time.monotonic() + 120
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.05)
