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
    listed = text[text.index('id="q-alarms"') : text.index('id="q-organs"')]
    assert "parotid_left, hn 1: The surface Dice at 2 mm has become lower than in the baseline." in listed
    assert not re.search("surface_dice_2mm|EWMA", listed), "words, not names of fields"
    german = bench.logged_in(Role.VIEWER, name="carl").get("/", headers={"accept-language": "de"}).text
    assert "Der Oberflächen-Dice bei 2 mm war einen Monat lang kleiner" in german
    assert '<a href="/models">To the models' in text, "from the alarm to the way back"
    assert re.search(r"The scale is upright: 0\.\d{3} at the bottom, 0\.\d{3} at the top\.", text)
    places = [float(y) for y in re.findall(r'class="dot-case" cx="[\d.]+" cy="([\d.]+)"', text)]
    assert max(places[:30]) < min(places[30:]), "worse cases are drawn lower"
    assert 'class="dot-case"' in bench.logged_in(Role.VIEWER, name="bert").get("/quality?measure=dice").text


def test_the_moving_mean_has_a_scale_of_its_own_and_leaves_its_corridor_where_the_alarm_is(
    bench: PagesBench,
) -> None:
    count_structure_sets(bench, 40)
    note_alarms(bench.store.database, bench.parts.config.config.feedback)
    text = bench.logged_in(Role.VIEWER).get("/quality").text
    lines = re.findall(r'class="ewma" points="([^"]+)"', text)
    areas = re.findall(r'<polygon class="band" points="([^"]+)"', text)
    assert (len(lines), len(areas)) == (2, 2), "judged by provisional and by full limits"
    means, corners = ([float(point.split(",")[1]) for point in each[-1].split()] for each in (lines, areas))
    lowest = corners[: len(means) - 1 : -1]  # the lower edge, from left to right
    assert all(6 <= y <= 38 for y in means), "ranks between 0 and 1 fill the strip, whatever the measure"
    assert means[-1] > lowest[-1], "y grows downwards: worse cases are below the corridor"
    assert means[0] < lowest[0]


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
