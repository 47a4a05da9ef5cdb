"""The whole way under routing rules: DCMTK calls the node by two titles, and each series goes its own way."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pydicom
import pytest

from orgseg_node.node.store.model import Job, JobState, Series, SeriesState
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import NodeProcess, running_node, wait_for
from tests.support.peers.dcmtk import free_port, storescp, storescu

pytestmark = [pytest.mark.peer, *LEAKS]

ALSO = 'also_called = ["ORGSEG_HN", "ORGSEG_URGENT"]'
MORE = """
[rules]
file = "rules.toml"

[destinations.second]
ae_title = "SECOND"
host = "127.0.0.1"
port = {port}
"""
RULES = """
[[rule]]
name = "few-images"
action = "ignore"
when.slices = { less_than = 5 }

[[rule]]
name = "trial"
when.SeriesDescription = { like = "*trial*" }
review = true

[[rule]]
name = "head"
when.called_ae = "ORGSEG_HN"
protocol = "own.toml"
destinations = ["second"]

[[rule]]
name = "urgent"
when.called_ae = "ORGSEG_URGENT"
priority = "urgent"
"""
OWN = """
others = "keep"
[[structures]]
name = "Cord_Own"
derive = "margin"
from = ["spinal_cord"]
margin_mm = 5
"""


def ct(folder: Path, slices: int = 24, **attributes: str) -> list[Path]:
    options = PhantomOptions(slices=slices, series=folder.name, frame=folder.name, attributes=attributes)
    return build_ct_series(folder, options)


def push(node: NodeProcess, files: list[Path], called: str = "ORGSEG") -> str:
    assert storescu(node.port, files, "-aec", called).returncode == 0
    return str(pydicom.dcmread(files[0]).SeriesInstanceUID)


def jobs_of(node: NodeProcess, uid: str) -> list[Job]:
    with contextlib.closing(node.store()) as store:
        return [job for job in store.jobs() if job.series_uid == uid]


def job_in(node: NodeProcess, uid: str, state: JobState) -> Job:
    def look() -> Job | None:
        return next((job for job in jobs_of(node, uid) if job.state is state), None)

    return wait_for(look, 60, f"{state} of {uid}")


def series_in(node: NodeProcess, uid: str, state: SeriesState) -> Series:
    def look() -> Series | None:
        with contextlib.closing(node.store()) as store:
            return next((s for s in store.series() if s.series_uid == uid and s.state is state), None)

    return wait_for(look, 30, f"{state} of {uid}")


def names_in(folder: Path) -> list[set[str]]:
    structure_sets = [pydicom.dcmread(path) for path in folder.iterdir()]
    return [
        {str(roi.ROIName) for roi in one.StructureSetROISequence}
        for one in structure_sets
        if one.Modality == "RTSTRUCT"
    ]


def test_each_series_goes_the_way_of_its_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "own.toml").write_text(OWN)
    tps_port, second_port = free_port(), free_port()
    plain, few = ct(tmp_path / "plain"), ct(tmp_path / "few", slices=4)
    trial = ct(tmp_path / "trial", SeriesDescription="A Trial of things")
    with (
        storescp(tmp_path / "tps", tps_port, "-aet", "TPS") as tps,
        storescp(tmp_path / "second", second_port, "-aet", "SECOND") as second,
        running_node(tmp_path, tps_port, inference=MORE.format(port=second_port), node=ALSO) as node,
    ):
        uid = push(node, plain)
        first = job_in(node, uid, JobState.DONE)
        assert (first.rule, first.protocol, first.destinations) == ("default", "default", ("tps", "second"))
        assert (len(list(tps.iterdir())), len(list(second.iterdir()))) == (2, 2)

        assert push(node, plain, "ORGSEG_HN") == uid
        head = wait_for(
            lambda: next((j for j in jobs_of(node, uid) if j.rule == "head" and j.state == "DONE"), None),
            60,
            "the series under another title is another job",
        )
        assert head.job_id != first.job_id
        assert head.config_revision == first.config_revision
        assert (len(list(tps.iterdir())), len(list(second.iterdir()))) == (2, 4), "it goes to one of them"
        assert sorted("Cord_Own" in names for names in names_in(second)) == [False, True]

        ignored = series_in(node, push(node, few), SeriesState.IGNORED)
        assert (ignored.reason, ignored.note) == ("few-images", "Rule 'few-images' ignores it.")

        review = job_in(node, push(node, trial), JobState.REVIEW)
        assert (review.rule, review.reason) == ("trial", "REVIEW_BY_RULE")
        assert (len(list(tps.iterdir())), len(list(second.iterdir()))) == (2, 4), "nothing of it is sent"

        config = tmp_path / "node.toml"
        answer = orgseg(capsys, "rules", "test", uid, "--config", config, "--json")
        (series,) = json.loads(answer.out)["series"]
        assert (series["rule"], [missed["rule"] for missed in series["not_fitting"]]) == (
            "head",
            ["few-images", "trial"],
        )
        assert node.stop() == 0


@pytest.mark.endurance
def test_an_edit_of_a_protocol_does_not_change_a_job_that_is_queued_and_urgent_ones_go_first(
    tmp_path: Path,
) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "own.toml").write_text(OWN)
    tps_port, second_port = free_port(), free_port()
    with (
        storescp(tmp_path / "tps", tps_port, "-aet", "TPS"),
        storescp(tmp_path / "second", second_port, "-aet", "SECOND") as second,
        running_node(
            tmp_path, tps_port, seconds=600, inference=MORE.format(port=second_port), node=ALSO
        ) as node,
    ):
        busy = push(node, ct(tmp_path / "busy"), "ORGSEG_URGENT")
        job_in(node, busy, JobState.INFERRING)
        waiting = push(node, ct(tmp_path / "waiting"), "ORGSEG_HN")
        before = job_in(node, waiting, JobState.QUEUED)
        assert before.priority == 50
        urgent = push(node, ct(tmp_path / "soon"), "ORGSEG_URGENT")
        assert job_in(node, urgent, JobState.QUEUED).priority == 10
        node.kill()

        (tmp_path / "own.toml").write_text(OWN.replace("Cord_Own", "Cord_Edited"))
        (tmp_path / "rules.toml").write_text(RULES.replace('"second"', '"tps"'))
        node.seconds = 0.0
        node.start()
        after = job_in(node, waiting, JobState.DONE)
        assert after.config_revision == before.config_revision
        assert (after.destinations, after.protocol_json) == (("second",), before.protocol_json)
        for uid in (busy, urgent):
            job_in(node, uid, JobState.DONE)
        assert [names for names in names_in(second) if "Cord_Own" in names]
        assert not [names for names in names_in(second) if "Cord_Edited" in names]
        assert node.stop() == 0
