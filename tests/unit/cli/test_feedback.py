"""``orgseg feedback``, ``orgseg replay`` and ``orgseg dossier``: what one sees, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.node import replay as replaying
from orgseg_node.node.feedback.desk import FeedbackDesk
from orgseg_node.node.feedback.model import SENTENCES
from tests.support.node.command_line import Answer, orgseg
from tests.support.node.feedback_bench import (
    Change,
    FeedbackBench,
    attributes,
    copied,
    deleted,
    run_here,
    shifted,
    written,
)
from tests.support.node.odd_structure_sets import ODD_SETS

NODE = """
[node]
data_dir = "data"
[receiver]
accept_any_calling_ae = true
[destinations.tps]
ae_title = "TPS"
host = "127.0.0.1"
port = 104
"""
CHILD = (sys.executable, "-m", "tests.support.node.node_child", "0")


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory, organ_table: OrganTable) -> Path:
    """The data folder of a node that has delivered."""
    folder = tmp_path_factory.mktemp("delivered") / "data"
    FeedbackBench(folder, organ_table).store.close()
    return folder


class CommandLine:
    """A node that has delivered, and the command line for it."""

    def __init__(self, folder: Path, organs: OrganTable, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.bench = FeedbackBench(folder / "data", organs)
        self._config = folder / "node.toml"
        self._config.write_text(NODE)
        self._capsys = capsys

    def run(self, *words: object) -> Answer:
        return orgseg(self._capsys, *words, "--config", self._config)

    def file(self, *changes: Change) -> Path:
        """A structure set as a file."""
        path = self.folder / "RS.dcm"
        path.write_bytes(written(self.bench.returned(*changes)))
        return path


@pytest.fixture
def cli(
    delivered: Path,
    tmp_path: Path,
    organ_table: OrganTable,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> CommandLine:
    shutil.copytree(delivered, tmp_path / "data")
    monkeypatch.setitem(FeedbackDesk.__init__.__kwdefaults__, "runner", run_here)
    monkeypatch.setitem(replaying.replay.__kwdefaults__, "command", CHILD)
    return CommandLine(tmp_path, organ_table, capsys)


def test_a_file_is_added_once_listed_and_shown(cli: CommandLine) -> None:
    path = cli.file(shifted("Brainstem", x_mm=8.0), deleted("Parotid_R"), copied("Brainstem", "zz_help"))
    assert cli.run("feedback", "list").out.strip() == "0 structure sets came back."
    added = cli.run("feedback", "add", path)
    assert (added.status, added.out.startswith("1: COUNTED")) == (0, True)
    assert "came back before" in cli.run("feedback", "add", path).err
    listed = cli.run("feedback", "list")
    assert "COUNTED" in listed.out
    assert "1 structure sets came back: 1 COUNTED." in listed.out
    shown = cli.run("feedback", "show", 1).out
    (brainstem,) = [line for line in shown.splitlines() if "Brainstem" in line]
    assert "EDITED" in brainstem
    assert "8.0" in brainstem
    assert "DELETED" in shown
    assert "UNMATCHED" in shown
    content = json.loads(cli.run("feedback", "show", 1, "--json").out)
    assert {one["outcome"] for one in content["organs"]} == {"EDITED", "UNCHANGED", "DELETED", "UNMATCHED"}
    assert "Doe" not in json.dumps(content)
    rows = list(csv.DictReader(io.StringIO(cli.run("feedback", "export").out)))
    assert {row["organ"] for row in rows} >= {"brainstem", "parotid_right"}
    assert "roi" not in rows[0]


@pytest.mark.endurance
@pytest.mark.timeout(600)
def test_odd_structure_sets_can_be_added_and_the_answer_names_their_state(cli: CommandLine) -> None:
    for number, odd in enumerate(ODD_SETS, start=1):
        apart = shifted("Parotid_R", x_mm=0.1 * number)  # so that none has the contours of another one
        added = cli.run("feedback", "add", cli.file(apart, odd.change))
        assert (added.status, added.out.split(".")[0]) == (0, f"{number}: {odd.state}"), odd.what
        assert SENTENCES[odd.state] in " ".join(added.out.split()), odd.what
    assert f"{len(ODD_SETS)} structure sets came back" in cli.run("feedback", "list").out


def test_what_is_no_structure_set_or_unknown_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    image = next((cli.bench.data / "inbox").rglob("*.dcm"))
    assert cli.run("feedback", "add", image).code == "OPERATION_NO_STRUCTURE_SET"
    none = tmp_path / "none.dcm"
    none.write_bytes(b"nothing")
    assert cli.run("feedback", "add", none).code == "OPERATION_NO_STRUCTURE_SET"
    assert cli.run("feedback", "show", 7).code == "OPERATION_UNKNOWN_FEEDBACK"
    assert cli.run("feedback", "list").out.strip() == "0 structure sets came back."


def test_it_is_looked_at_again_for_the_job_that_a_person_names(cli: CommandLine) -> None:
    cli.run("feedback", "add", cli.file(shifted("Brainstem", x_mm=8.0)))
    again = cli.run(
        "feedback", "again", 1, "--job", cli.bench.job.job_id[:8], "--by", "anna", "--why", "sure"
    )
    assert again.out.startswith("1: COUNTED")
    assert cli.run("feedback", "again", 9, "--by", "anna").code == "OPERATION_UNKNOWN_FEEDBACK"


def test_charts_persons_and_the_training_source(cli: CommandLine) -> None:
    cli.run("feedback", "add", cli.file(shifted("Brainstem", x_mm=8.0)))
    charts = cli.run("feedback", "charts", "--organ", "brainstem", "--out", cli.folder / "charts")
    assert "too few cases" in charts.out
    assert list((cli.folder / "charts").glob("brainstem-*.png"))
    planners = json.loads(cli.run("feedback", "planners", "--json").out)["planners"]
    assert {one["organ"] for one in planners} >= {"brainstem"}
    assert "Doe" not in json.dumps(planners)
    source = cli.run("feedback", "training-source", "--out", cli.folder / "source")
    assert "organs that nobody edited were left out" in source.out
    assert (cli.folder / "source" / "000001" / "RS.dcm").is_file()


@pytest.mark.endurance
def test_a_job_is_replayed_and_what_differs_is_listed(cli: CommandLine) -> None:
    job = cli.bench.job.job_id
    differs = cli.run("replay", job, "--keep", cli.folder / "kept")
    assert differs.status == 1, "the bench wrote another time into it"
    assert "Every voxel is the same; only the files differ." in differs.out
    result = cli.bench.data / "jobs" / job / "out"
    shutil.rmtree(result)
    shutil.copytree(cli.folder / "kept" / job, result)
    equal = cli.run("replay", job)
    assert (equal.status, "1 of 1 are equal in every byte." in equal.out) == (0, True)
    answer = json.loads(cli.run("replay", job, "--json").out)
    assert (answer["equal"], answer["replays"][0]["changed"]) == (1, {})
    assert cli.run("replay", "nothing").code == "STORAGE_UNKNOWN_JOB"


def test_the_dossier_goes_into_a_new_folder(cli: CommandLine) -> None:
    cli.run("feedback", "add", cli.file(attributes(ApprovalStatus="UNAPPROVED")))
    done = cli.run("dossier", "--out", cli.folder / "papers")
    assert (done.status, "begin with 00-index.md" in done.out) == (0, True)
    assert "1 UNAPPROVED" in (cli.folder / "papers" / "03-feedback.md").read_text(encoding="utf-8")
    assert cli.run("dossier", "--out", cli.folder / "papers").code == "USAGE"
    refused = cli.run("dossier", "--out", cli.folder / "more", "--commissioning", cli.folder / "data")
    assert refused.code == "USAGE"
