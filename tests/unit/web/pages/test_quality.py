"""What came back from the planning system, as the pages show it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orgseg_node.node.feedback.charts import note_alarms
from orgseg_node.node.feedback.model import OrganFeedback
from orgseg_node.node.users.roles import Role
from orgseg_node.web.pages.quality import summaries
from tests.support.web.counted import count_structure_sets
from tests.support.web.pages_bench import PagesBench

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def bench(tmp_path: Path) -> PagesBench:
    return PagesBench(tmp_path, feedback={"baseline": 30, "provisional": 20})


def test_without_feedback_the_page_says_where_it_comes_from(bench: PagesBench) -> None:
    assert "No structure set has come back yet" in bench.logged_in(Role.VIEWER).get("/quality").text


def test_a_drift_is_an_alarm_in_the_chart_and_in_the_list(bench: PagesBench) -> None:
    count_structure_sets(bench, 40)
    assert note_alarms(bench.store.database, bench.parts.config.config.feedback)
    text = bench.logged_in(Role.VIEWER).get("/quality").text
    assert text.count('class="dot-case"') == 40
    assert 'class="alarm"' in text
    assert "surface_dice_2mm of parotid_left too low" in text
    assert '<a href="/models">To the models' in text, "from the alarm to the way back"
    assert re.search(r"The scale is upright: 0\.\d{3} at the bottom, 0\.\d{3} at the top\.", text)
    places = [float(y) for y in re.findall(r'class="dot-case" cx="[\d.]+" cy="([\d.]+)"', text)]
    assert max(places[:30]) < min(places[30:]), "worse cases are drawn lower"
    assert 'class="dot-case"' in bench.logged_in(Role.VIEWER, name="bert").get("/quality?measure=dice").text


def test_how_single_persons_work_is_for_the_physicist_only(bench: PagesBench) -> None:
    count_structure_sets(bench, 25)
    assert "Do edits fade?" not in bench.logged_in(Role.REVIEWER).get("/quality").text
    assert "Do edits fade?" in bench.logged_in(Role.PHYSICIST, name="bert").get("/quality").text


def test_a_case_shows_what_came_back_for_it_and_names_are_texts(bench: PagesBench) -> None:
    job = bench.in_review()
    count_structure_sets(bench, 1, job_id=job.job_id, roi=EVIL)
    text = bench.logged_in(Role.VIEWER).get(f"/cases/{job.job_id}").text
    assert "Came back" in text
    assert "&lt;script&gt;" in text
    assert EVIL not in text


def test_a_summary_leaves_out_what_was_not_measured() -> None:
    def organ(outcome: str, dice: float) -> OrganFeedback:
        return OrganFeedback(number=1, position=1, roi="x", organ="larynx", outcome=outcome, dice=dice)

    (found,) = summaries([organ("EDITED", 0.9), organ("UNCHANGED", 1.0), organ("DELETED", -1.0)])
    assert (found.cases, found.dice, found.hd95_mm) == (3, 0.95, None)
