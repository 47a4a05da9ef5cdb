"""What came back from the planning system, as the pages show it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orgseg_node.node.feedback.charts import note_alarms
from orgseg_node.node.feedback.model import OrganFeedback
from orgseg_node.node.feedback.rows import Arrived, FeedbackRows
from orgseg_node.node.users.roles import Role
from orgseg_node.web.pages.quality import summaries
from tests.support.web.pages_bench import PagesBench

GOOD, BAD = 0.98, 0.60
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def bench(tmp_path: Path) -> PagesBench:
    return PagesBench(tmp_path, feedback={"baseline": 30, "provisional": 20})


def _returned(bench: PagesBench, count: int, job_id: str = "") -> None:
    """Structure sets that count: good ones first, then some of which an organ was drawn anew."""
    rows = FeedbackRows(bench.store.database)
    for index in range(count):
        arrived = Arrived(sop_uid=f"2.25.{index}", sha256=f"{index:064d}", path=f"f{index}", sender="TPS")
        assert rows.register(arrived) == index + 1
        value = (GOOD if index < 30 else BAD) + 0.002 * (index % 5)
        job = job_id if index == 0 else f"{index:016x}"
        with bench.store.database.write() as tx:
            tx.run(
                "UPDATE feedback SET state = 'COUNTED', job_id = ?, planner = 'p1' WHERE number = ?",
                (job, index + 1),
            )
            tx.run(
                "INSERT INTO feedback_organ (number, position, roi, organ, outcome, model, dice,"
                " surface_dice_2mm, hd95_mm, slices_edited)"
                " VALUES (?, 1, ?, 'parotid_left', 'EDITED', 'hn 1', ?, ?, 2.5, 0.2)",
                (index + 1, EVIL, value, value),
            )


def test_without_feedback_the_page_says_where_it_comes_from(bench: PagesBench) -> None:
    assert "No structure set has come back yet" in bench.logged_in(Role.VIEWER).get("/quality").text


def test_a_drift_is_an_alarm_in_the_chart_and_in_the_list(bench: PagesBench) -> None:
    _returned(bench, 40)
    assert note_alarms(bench.store.database, bench.parts.config.config.feedback)
    text = bench.logged_in(Role.VIEWER).get("/quality").text
    assert text.count('class="dot-case"') == 40
    assert 'class="alarm"' in text
    assert "surface_dice_2mm of parotid_left too low" in text
    places = [float(y) for y in re.findall(r'class="dot-case" cx="[\d.]+" cy="([\d.]+)"', text)]
    assert max(places[:30]) < min(places[30:]), "worse cases are drawn lower"
    assert 'class="dot-case"' in bench.logged_in(Role.VIEWER, name="bert").get("/quality?measure=dice").text


def test_how_single_persons_work_is_for_the_physicist_only(bench: PagesBench) -> None:
    _returned(bench, 25)
    assert "Do edits fade?" not in bench.logged_in(Role.REVIEWER).get("/quality").text
    assert "Do edits fade?" in bench.logged_in(Role.PHYSICIST, name="bert").get("/quality").text


def test_a_case_shows_what_came_back_for_it_and_names_are_texts(bench: PagesBench) -> None:
    job = bench.in_review()
    _returned(bench, 1, job.job_id)
    text = bench.logged_in(Role.VIEWER).get(f"/cases/{job.job_id}").text
    assert "Came back" in text
    assert "&lt;script&gt;" in text
    assert EVIL not in text


def test_a_summary_leaves_out_what_was_not_measured() -> None:
    def organ(outcome: str, dice: float) -> OrganFeedback:
        return OrganFeedback(number=1, position=1, roi="x", organ="larynx", outcome=outcome, dice=dice)

    (found,) = summaries([organ("EDITED", 0.9), organ("UNCHANGED", 1.0), organ("DELETED", -1.0)])
    assert (found.cases, found.dice, found.hd95_mm) == (3, 0.95, None)
