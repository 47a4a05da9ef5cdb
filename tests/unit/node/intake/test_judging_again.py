"""A series that was judged is judged again by the rules in force now; never after contours were delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.errors import SeriesRefuses
from orgseg_node.node.intake.judging_again import judge_again
from orgseg_node.node.store.model import JobState, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from tests.support.node.command_line import orgseg
from tests.support.node.job_bench import JobBench

CONFIG = '[node]\ndata_dir = "data"\n[[peers]]\nae_title = "CT"\n'


@pytest.fixture
def node(tmp_path: Path) -> JobBench:
    return JobBench(tmp_path / "data")


def judged(node: JobBench, series: str, state: SeriesState, reason: str) -> None:
    node.accept(f"{series}.1")
    assert node.store.judge(node.store.one_series(series), state, reason=reason, note="a rule")


@pytest.mark.parametrize(
    ("state", "reason"), [(SeriesState.HOLD, "RULE_HOLD"), (SeriesState.IGNORED, "no thin slices")]
)
def test_what_a_rule_held_or_ignored_is_judged_again(node: JobBench, state: SeriesState, reason: str) -> None:
    judged(node, "1.2", state, reason)
    judge_again(node.store, "1.2", "by anna")
    series = node.store.one_series("1.2")
    assert (series.state, series.revision, series.reason) == (SeriesState.RECEIVING, 2, "")
    assert any("by anna" in event.note for event in node.store.events("1.2"))


def test_an_order_to_wait_ends(node: JobBench) -> None:
    judged(node, "1.2", SeriesState.HOLD, "RULE_HOLD")
    overrides = SeriesOverrides(node.store.database)
    overrides.wait("1.2", "by anna", None)
    judge_again(node.store, "1.2", "by anna")
    assert overrides.all() == {}


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.REVIEW, JobState.FAILED])
def test_a_job_that_was_not_delivered_is_superseded(node: JobBench, state: JobState) -> None:
    job = node.job()
    if state is JobState.FAILED:
        node.store.move(job.job_id, state, "No memory.", reason="OUT_OF_MEMORY")
    if state is JobState.REVIEW:
        for each in (JobState.PREPARING, JobState.REVIEW):
            node.store.move(job.job_id, each, "REGION_NOT_TRAINED")
    judge_again(node.store, "1.2", "by anna")
    assert node.store.job(job.job_id).state is JobState.SUPERSEDED
    assert node.store.one_series("1.2").state is SeriesState.RECEIVING


def test_after_delivery_it_refuses_and_nothing_changes(node: JobBench) -> None:
    job = node.delivered("tps")
    with pytest.raises(SeriesRefuses, match="delivered"):
        judge_again(node.store, "1.2", "by anna")
    assert node.store.one_series("1.2").state is SeriesState.READY
    assert node.store.job(job.job_id).state is JobState.DONE


def test_while_an_object_is_being_sent_it_refuses(node: JobBench) -> None:
    job = node.sending("tps")
    node.store.claim(job.job_id, "tps")
    with pytest.raises(SeriesRefuses, match="delivered"):
        judge_again(node.store, "1.2", "by anna")


def test_without_images_or_a_judgement_it_refuses(node: JobBench) -> None:
    with pytest.raises(SeriesRefuses, match="never received"):
        judge_again(node.store, "1.9", "by anna")
    node.accept("1.3.1")
    with pytest.raises(SeriesRefuses, match="series force"):
        judge_again(node.store, "1.3", "by anna")
    judged(node, "1.2", SeriesState.IGNORED, "OTHER_CLASSES")
    with node.store.database.write() as tx:
        tx.run("DELETE FROM instance WHERE series_uid = ?", ("1.2",))
    with pytest.raises(SeriesRefuses, match="not here any more"):
        judge_again(node.store, "1.2", "by anna")


def test_all_that_are_held_for_a_reason_are_judged_by_one_command(
    node: JobBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(CONFIG)
    judged(node, "1.2.1", SeriesState.HOLD, "RULE_HOLD")
    judged(node, "1.2.2", SeriesState.HOLD, "RULE_HOLD")
    judged(node, "1.2.3", SeriesState.HOLD, "INPUT_MISSING_SLICES")
    answer = orgseg(capsys, "series", "judge", "--reason", "rule_hold", "--config", config)
    assert "2 series" in answer.out
    states = [node.store.one_series(f"1.2.{n}").state for n in (1, 2, 3)]
    assert states == [SeriesState.RECEIVING, SeriesState.RECEIVING, SeriesState.HOLD]
    one = orgseg(capsys, "series", "judge", "1.2.3", "--by", "anna", "--config", config)
    assert (one.status, node.store.one_series("1.2.3").state) == (0, SeriesState.RECEIVING)
    for words in ((), ("1.2.3", "--reason", "RULE_HOLD")):
        assert orgseg(capsys, "series", "judge", *words, "--config", config).code == "USAGE"
