"""``orgseg qa explain``: what was flagged, the farthest measure of every organ, and coded errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.node.store.model import JobState
from tests.support.node.command_line import Answer, orgseg
from tests.support.node.job_bench import JobBench

NODE = '[node]\ndata_dir = "data"\n[[peers]]\nae_title = "CT"\n'


def _row(organ: str, *, worst: str, spreads: float, values: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "organ": organ, "volume_ml": 12.0, "reference": "87 training contours", "worst": worst,
        "spreads": spreads, "unusual_from": 3.0, "implausible_from": 5.4, "values": values,
    }  # fmt: skip


CONTENT = {
    "organs": [
        {"key": "cord", "name": "SpinalCord", "voxels": 9, "grade": None, "left_out": False},
        {"key": "parotid_left", "name": "Parotid_L", "voxels": 9, "grade": "unusual", "left_out": False},
        {"key": "brain", "name": "Brain", "voxels": 0, "grade": None, "left_out": False},
    ],
    "findings": [
        {"level": "warning", "code": "ORGAN_UNUSUAL", "organ": "parotid_left", "message": "It is large."},
        {"level": "info", "code": "ORGAN_AT_SCAN_END", "organ": "cord", "message": "Cut by the scan."},
        {"level": "warning", "code": "BODY_X", "organ": None, "message": "A body finding."},
    ],
    "anatomy": [
        _row("cord", worst="tissue", spreads=1.25, values={"volume": ["12 ml", "10 ml", "30 ml"]}),
        _row(
            "parotid_left",
            worst="size",
            spreads=3.5,
            values={"volume": ["80 ml", "10 ml", "62.5 ml"], "mean HU inside": ["40 HU", "-10 HU", "90 HU"]},
        ),
    ],
}


class Bench:
    """A node's data folder, and the command line for it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.node = JobBench(folder / "data")
        self._config = folder / "node.toml"
        self._config.write_text(NODE)
        self._capsys = capsys

    def explain(self, job: str, *words: str) -> Answer:
        return orgseg(self._capsys, "qa", "explain", job, *words, "--config", self._config)

    def report(self, job_id: str, text: str = json.dumps(CONTENT)) -> None:
        place = self.node.data / "jobs" / job_id / "out"
        place.mkdir(parents=True)
        (place / "report.json").write_text(text)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


def test_only_what_was_flagged_is_explained_and_each_organ_has_one_line(bench: Bench) -> None:
    job = bench.node.job()
    bench.report(job.job_id)
    lines = bench.explain(job.job_id).out.splitlines()
    organs = [line for line in lines if line[2:].startswith(("SpinalCord", "Parotid_L", "Brain"))]
    assert [line[0] for line in organs] == [" ", "!", " "]
    assert "as expected" in organs[0]
    assert "farthest is 'tissue', 1.2 spreads" in organs[0]
    assert "unusual: look at it" in organs[1]
    assert "It is large." in "\n".join(lines)
    assert [line.split()[0:2] for line in lines if " ml to " in line] == [["!", "volume"]]
    assert "mean HU inside" not in "\n".join(lines)
    assert "Cut by the scan." not in "\n".join(lines)
    assert "1 of 3 organs are flagged (!)." in lines


def test_all_shows_every_measure_and_marks_those_outside_of_the_reference(bench: Bench) -> None:
    job = bench.node.job()
    bench.report(job.job_id)
    shown = bench.explain(job.job_id, "--all").out
    assert "Cut by the scan." in shown
    rows = [line for line in shown.splitlines() if " to " in line and "spreads" not in line]
    assert [("!" in row, row.replace("!", "").split()[0]) for row in rows] == [
        (False, "volume"),
        (True, "volume"),
        (False, "mean"),
    ]


def test_the_folder_of_a_result_needs_no_node(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.report("abc")
    folder = bench.node.data / "jobs" / "abc" / "out"
    assert "Parotid_L" in orgseg(capsys, "qa", "explain", folder).out
    document = json.loads(orgseg(capsys, "qa", "explain", folder, "--json").out)
    assert len(document["organs"]) == 3
    assert document["cohort"] is None


def test_the_cohort_of_the_patient_and_of_the_training_is_shown(bench: Bench) -> None:
    trained = {"adults": 60, "children": 0, "age_unknown": 0, "diameters_mm": [150.0, 180.0, 230.0]}
    cohort = {
        "age": "child",
        "effective_diameter_mm": 141.2,
        "ap_mm": 150.0,
        "lat_mm": 133.0,
        "cut_by_field_of_view": 0.0,
        "models": [
            {"name": "hn", "trained_on": trained, "age_trained": False, "size_trained": True},
            {"name": "old", "trained_on": None, "age_trained": None, "size_trained": None},
        ],
    }
    job = bench.node.job()
    bench.report(job.job_id, json.dumps(CONTENT | {"cohort": cohort}))
    lines = bench.explain(job.job_id).out.splitlines()
    assert lines[0] == "Cohort: child, effective diameter 141 mm (AP 150 mm, LAT 133 mm)"
    assert "hn: trained on 60 adults, 0 children, 0 of unknown age, 150 to 230 mm" in lines[1]
    assert "such an age: NO, such a size: yes" in lines[1]
    assert lines[2] == "  old: does not say on which patients it was trained"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"organs": [{"name": "x"}], "findings": []}'])
def test_a_damaged_report_is_an_error_with_a_code(bench: Bench, text: str) -> None:
    job = bench.node.job()
    bench.report(job.job_id, text)
    answer = bench.explain(job.job_id)
    assert (answer.status, answer.code) == (1, "JOB_RESULT_UNREADABLE")


def test_jobs_without_a_result_have_errors_of_their_own(bench: Bench, tmp_path: Path) -> None:
    waiting = bench.node.job("1.2.1")
    failed = bench.node.job("1.2.2")
    bench.node.store.move(failed.job_id, JobState.FAILED, "No disk.", reason="STORAGE")
    for job in (waiting, failed):
        assert bench.explain(job.job_id).code == "JOB_NO_RESULT"
    purged = bench.node.delivered("tps", series="1.2.3")
    bench.node.store.mark_purged(purged)
    assert bench.explain(purged.job_id).code == "JOB_RESULT_DELETED"
    assert bench.explain("ffff").code == "STORAGE_UNKNOWN_JOB"
    assert bench.explain(str(tmp_path)).code == "USAGE"
