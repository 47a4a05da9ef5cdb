"""What people come for, done as they do it: by what the pages show, with clicks and time counted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from orgseg_node.errors import SendingBroken
from orgseg_node.node.feedback.charts import note_alarms
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.store.model import Job, JobState, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.users.roles import Role
from tests.browser.conftest import Site, serve
from tests.support.node.model_bench import ModelBench
from tests.support.web.contoured import contour_case
from tests.support.web.counted import count_structure_sets
from tests.support.web.pages_bench import PagesBench

HELD = "1.2.9"


@dataclass(kw_only=True)
class Person:
    """Somebody at a browser, who has logged in and sees Today.

    Attributes
    ----------
    page : what the person sees
    clicks : how often the person has clicked
    """

    page: Page
    clicks: int = field(default=0)

    def click(self, what: Locator) -> None:
        """Click what is in sight."""
        expect(what).to_be_visible()
        what.click()
        self.clicks += 1

    def open(self, name: str) -> None:
        """Go to a page of the navigation."""
        self.click(self.page.get_by_role("navigation").get_by_role("link", name=name))

    def decide(self, where: Locator, step: str, reason: str) -> None:
        """Unfold a next step, give a reason, and confirm it."""
        self.click(where.locator("summary", has_text=step))
        form = where.locator("details[open]")
        form.get_by_label("Reason").fill(reason)
        self.click(form.get_by_role("button", name=step))

    @contextmanager
    def task(self, name: str, most_clicks: int) -> Iterator[None]:
        """Measure a task, and print what it took."""
        self.clicks, started = 0, time.monotonic()
        yield
        seconds = time.monotonic() - started
        sys.stdout.write(f"\nrole play: {name}: {self.clicks} clicks, {seconds:.1f} s\n")
        assert self.clicks <= most_clicks


@pytest.fixture
def clinic(tmp_path: Path, cts: dict[str, Path]) -> Iterator[tuple[Site, Job]]:
    """A node in use: a series is held, a case waits for a review, a model got worse after it was promoted."""
    models = ModelBench(tmp_path)
    models.make_first_live()
    models.promote("2", "1")
    bench = PagesBench(tmp_path / "data", web={"port": 0}, feedback={"baseline": 30, "provisional": 20})
    names = {"PatientName": "Maier^Anna", "PatientID": "4711"}
    bench.image(min(cts["hfs"].rglob("*.dcm")), HELD, **names)
    held = bench.store.one_series(HELD)
    assert bench.store.judge(
        held, SeriesState.HOLD, reason=SendingBroken.code, note="The sending was broken off."
    )
    job = contour_case(bench.store, bench.jobs.data, cts["ffs"], state=JobState.REVIEW)
    count_structure_sets(bench, 40)
    assert note_alarms(bench.store.database, bench.parts.config.config.feedback)
    server = serve(bench)
    assert server.port is not None
    yield Site(bench=bench, port=server.port, jobs={"review": job.job_id}), job
    server.stop()


def test_the_work_of_a_day(clinic: tuple[Site, Job], page: Page) -> None:
    site, job = clinic
    store = site.bench.store
    person = Person(page=page)
    site.log_in(page, Role.VIEWER, name="rtt")
    with person.task("the RTT finds the state of a patient", 1):
        person.open("Cases")
        page.wait_for_load_state()  # a person is not as fast as to type before
        expect(page.get_by_role("searchbox")).to_be_focused()
        page.keyboard.type("maier anna")
        row = page.locator("#rows tbody tr")
        expect(row).to_have_count(1)
        expect(row).to_contain_text("held")
        expect(row).to_contain_text("The sending was broken off.")
    page.context.clear_cookies()
    site.log_in(page, Role.PHYSICIST, name="physicist")
    card = page.locator("article.need", has_text="Maier")
    with person.task("the physicist finds why a series is held, and releases it", 2):
        expect(card).to_contain_text("The sending was broken off.")
        person.decide(card, "Contour as it is", "complete, seen at the scanner")
        expect(page.get_by_role("status")).to_contain_text("judges it in its next cycle")
    assert SeriesOverrides(store.database).all()[HELD].kind == "force"
    page.goto(f"{site.base}/")
    with person.task("the physicist looks at a case and approves it", 3):
        person.click(page.locator(f'article.need a[href="/cases/{job.job_id}"]').first)
        page.wait_for_selector("#viewer[data-drawn]")
        state = page.locator("#case-state")
        person.click(state.locator("summary", has_text="Approve"))
        person.click(state.get_by_role("button", name="Approve"))
        expect(page.get_by_role("status")).to_contain_text("Approved.")
    assert [one.job_id for one in JobCommands(store).approved(1)] == [job.job_id]
    page.goto(f"{site.base}/")
    with person.task("the physicist sees a drift", 1):
        person.click(page.get_by_role("link", name="control charts"))
        expect(page.get_by_text("The surface Dice at 2 mm has become lower").first).to_be_visible()
        expect(page.locator("circle.alarm").first).to_be_visible()
    with person.task("the physicist rolls the model back", 3):
        person.open("Models")
        person.decide(page.locator("section.family"), "Roll back", "parotids got worse")
        expect(page.get_by_role("status")).to_contain_text("earlier version is live again")
        expect(page.locator("section.family header")).to_contain_text("head-neck@1")
