"""Commands of a review on the pages: an organ is left out, two persons approve, a volume is chosen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orgseg_node.errors import SeveralParts
from orgseg_node.node.operations.overview import overview
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.model import JobState, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.users.roles import Role
from orgseg_node.web.pages.steps import steps_of_entry
from tests.support.node.leaks import LEAKS
from tests.support.web.pages_bench import PagesBench
from tests.support.web.reviewed import review_case

pytestmark = LEAKS

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.mark.endurance
def test_an_organ_is_left_out_and_the_page_says_so(tmp_path: Path, ct_folder: Path) -> None:
    bench = PagesBench(tmp_path)
    job = review_case(bench.store, bench.jobs.config, ct_folder)
    browser, path = bench.logged_in(Role.REVIEWER), f"/cases/{job.job_id}"
    page = browser.get(path).text
    assert re.search(r'<select name="organ" required>.*<option value="Parotid_L">Parotid_L</option>', page)
    assert 'name="seen" value="1"' in page
    refused = bench.command(browser, f"{path}/drop-organ", organ="Parotid_L", why=" ")
    assert "needs a reason" in refused.text
    assert bench.command(browser, f"{path}/drop-organ", organ="", why="x").status_code != 303
    done = bench.command(browser, f"{path}/drop-organ", organ="Parotid_L", why=EVIL)
    assert done.headers["location"] == f"{path}?done=drop-organ"
    page = browser.get(f"{path}?done=drop-organ").text
    assert "Nothing was sent" in page
    assert "A person has left out: Parotid_L." in page
    assert "left out by a person" in page
    assert '<option value="Parotid_L">' not in page
    assert "&lt;script&gt;alert(1)" in page
    for text in (page, browser.get("/cases").text, browser.get("/").text):
        assert not re.search(r"<script>alert|<img src=x", text)
    old = bench.command(browser, f"{path}/approve", seen="1")
    assert (old.status_code, "made anew meanwhile" in old.text) == (409, True)
    assert bench.command(browser, f"{path}/approve", seen="2").status_code == 303
    assert [one.job_id for one in JobCommands(bench.store).approved(1)] == [job.job_id]
    assert f"drop-organ: job {job.job_id}" in bench.events_of("anna")
    shown = browser.get(f"{path}/contours").json()
    assert "Parotid_L" not in {one["name"] for one in shown["organs"]}
    german = browser.get(path, headers={"accept-language": "de"}).text
    assert "Von einer Person weggelassen: Parotid_L." in german


def test_with_four_eyes_the_second_person_releases_it(tmp_path: Path) -> None:
    bench = PagesBench(tmp_path, review={"persons": 2})
    job = bench.in_review()
    anna, bert = bench.logged_in(Role.REVIEWER), bench.logged_in(Role.REVIEWER, name="bert")
    path = f"/cases/{job.job_id}"
    assert bench.command(anna, f"{path}/approve").headers["location"] == f"{path}?done=approve-more"
    assert "Approved by 1 of 2 persons." in bert.get(path).text
    action = f'action="{path}/approve"'
    assert (action in anna.get(path).text, action in bert.get(path).text) == (False, True)
    (entry,) = overview(bench.parts.config.config, bench.store, utc_now())
    offered = [[step.key for step in steps_of_entry(entry, (), name)] for name in ("Anna", "bert")]
    assert offered == [["step.reject"], ["step.approve", "step.reject"]], "nobody is asked twice"
    assert bench.command(anna, f"{path}/approve").headers["location"] == f"{path}?done=approve-more"
    bench.jobs.dispatcher.dispatch()
    assert bench.store.job(job.job_id).state is JobState.REVIEW
    assert bench.command(bert, f"{path}/approve").headers["location"] == f"{path}?done=approve"
    assert "Approved by 2 of 2 persons." in bert.get(path).text
    assert action not in bert.get(path).text, "it waits for the node only"
    (entry,) = overview(bench.parts.config.config, bench.store, utc_now())
    assert (entry.needs_person, entry.commands) == (False, (f"orgseg jobs reject {job.job_id}",))


def test_one_of_several_volumes_is_chosen(tmp_path: Path) -> None:
    bench = PagesBench(tmp_path)
    bench.jobs.accept("1.2.3.1")
    series = bench.store.one_series("1.2.3")
    assert bench.store.judge(series, SeriesState.HOLD, reason=SeveralParts.code, note="Several.")
    overrides = SeriesOverrides(bench.store.database)
    overrides.offer_volumes(series, [("phase 0%", 90), (EVIL, 91)])
    browser = bench.logged_in(Role.PHYSICIST)
    for path in ("/series/1.2.3", "/"):
        page = browser.get(path).text
        assert '<option value="1">phase 0% (90)</option>' in page, path
        assert not re.search(r"<script>alert|<img src=x", page), path
    assert 'action="/series/1.2.3/choose"' not in bench.logged_in(Role.REVIEWER, name="bert").get("/").text
    unknown = bench.command(browser, "/series/1.2.3/choose", volume="3")
    assert "Its volumes are 1: phase 0%" in unknown.text
    assert bench.command(browser, "/series/1.2.3/choose", volume="1", why="end of breath").status_code == 303
    now = bench.store.one_series("1.2.3")
    assert now.state is SeriesState.RECEIVING
    assert overrides.chosen(now) == "phase 0%"
    assert "by anna, on the pages: end of breath" in bench.store.events("1.2.3")[-1].note
    assert bench.command(browser, "/series/1.2.3/choose", volume="1").status_code == 409
