"""``orgseg series`` and ``orgseg jobs``: who gave a command, and which commands are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.node.store.model import SeriesState
from tests.support.node.command_line import Answer, orgseg
from tests.support.node.job_bench import JobBench


class CommandLine:
    """A node's data folder and the command line for it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.node = JobBench(folder / "data")
        self._config = folder / "node.toml"
        self._config.write_text('[node]\ndata_dir = "data"\n[[peers]]\nae_title = "CT"\n')
        self._capsys = capsys

    def run(self, *words: str) -> Answer:
        return orgseg(self._capsys, *words, "--config", self._config)


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, capsys)


def test_who_cancelled_and_why_is_shown(cli: CommandLine) -> None:
    job = cli.node.job()
    done = cli.run("jobs", "cancel", job.job_id, "--by", "anna", "--why", "wrong protocol")
    assert (done.status, "is CANCELLED" in done.out) == (0, True)
    assert "cancel: by anna: wrong protocol" in cli.run("jobs", "show", job.job_id).out


def test_without_a_name_it_is_the_user_of_the_system(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "bernd")
    job = cli.node.job()
    cli.run("jobs", "cancel", job.job_id)
    assert "by bernd" in cli.run("jobs", "show", job.job_id).out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("jobs", "retry", "abc"), "STORAGE_UNKNOWN_JOB"),
        (("jobs", "approve", "JOB"), "JOB_REFUSES"),
        (("jobs", "reject", "JOB"), "JOB_REFUSES"),
        (("jobs", "resend", "JOB"), "JOB_REFUSES"),
        (("jobs", "resend", "JOB", "--destination", "tsp"), "NETWORK_UNKNOWN_DESTINATION"),
        (("jobs", "cancel", "JOB", "--why", "two\nlines"), "USAGE"),
        (("series", "force", "1.2.3"), "STORAGE_UNKNOWN_SERIES"),
        (("series", "release", "1.2"), "SERIES_REFUSES"),
        (("series", "wait", "1.2"), "SERIES_REFUSES"),
        (("series", "settle", "1.2", "--keep", "first"), "SERIES_REFUSES"),
        (("series", "settle", "1.2", "--keep", "best"), "USAGE"),
        (("series", "list", "--state", "LOST"), "USAGE"),
        (("series", "show", "1.2.3"), "STORAGE_UNKNOWN_SERIES"),
    ],
)
def test_a_refused_command_has_a_code_and_a_next_step(
    cli: CommandLine, words: tuple[str, ...], code: str
) -> None:
    job = cli.node.job()
    answer = cli.run(*(job.job_id if word == "JOB" else word for word in words))
    assert answer.status != 0
    assert answer.code == code
    assert "Next step: " in answer.err


def test_a_folder_without_a_node_gets_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata_dir = "data"\n[[peers]]\nae_title = "CT"\n')
    answer = orgseg(capsys, "jobs", "retry", "abc", "--config", config)
    assert (answer.status, answer.code) == (1, "STORAGE_NO_NODE")
    assert not (tmp_path / "data").exists()


def test_an_empty_dead_letter_list_is_reported(cli: CommandLine) -> None:
    cli.node.job()
    assert cli.run("jobs", "dead").out.strip() == "There is none."


def test_a_series_is_listed_by_state(cli: CommandLine) -> None:
    cli.node.job()
    assert "1.2" in cli.run("series", "list", "--state", "ready").out
    assert "1.2" not in cli.run("series", "list", "--state", "hold").out
    assert "1.2" not in cli.run("series", "list", "--state", "hold", "--json").out


def test_no_uid_or_sentence_of_the_list_of_series_is_cut(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = "1.2.840.113619.2.55.3.2831868886.100.1700000000.467.100123456"
    cli.node.accept(f"{uid}.1")
    note = "A rule holds it, and this sentence is longer than any narrow terminal is wide. " * 2
    cli.node.store.judge(cli.node.store.one_series(uid), SeriesState.HOLD, reason="RULE_HOLD", note=note)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = cli.run("series", "list").out
    assert uid in shown
    assert f"RULE_HOLD {note}".strip() in shown
