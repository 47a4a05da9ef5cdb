"""The pages over a real store, answered without a port."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydicom
from starlette.routing import Route
from starlette.testclient import TestClient

from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.parts import Parts
from orgseg_node.node.scheduler import Watchdog
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.model import Event, Instance, Job, JobState
from orgseg_node.node.users.accounts import Accounts
from orgseg_node.node.users.roles import Role
from orgseg_node.web.app import http_app
from orgseg_node.web.pages.routes import Pages
from tests.support.node.job_bench import JobBench

PASSWORD = "seven quiet otters"  # noqa: S105  # of accounts in tests
BASE = "http://127.0.0.1:8042"
HTML = {"accept": "text/html"}


class PagesBench:
    """A store with jobs, and browsers that ask for pages.

    Attributes
    ----------
    jobs : makes jobs in the store
    accounts : who may log in
    """

    def __init__(self, folder: Path, **sections: Any) -> None:
        values = {"web": {"port": 8042}, "pages": {"enabled": True}, **sections}
        self.jobs = JobBench(folder, **values)
        self.store = self.jobs.store
        config = CurrentConfig(self.jobs.config)
        self.parts = Parts(config=config, store=self.store, meters=Meters(), watchdog=Watchdog())
        self.new_pages()
        self.accounts = Accounts(self.store.database)

    def new_pages(self) -> None:
        """Pages as of a node that has just started: nobody is logged in, and no case is open."""
        self.pages = Pages()
        self.routes = [one for one in self.pages.routes(self.parts) if isinstance(one, Route)]
        self._app = http_app(self.routes)

    def browser(self) -> TestClient:
        """A browser with cookies of its own that nobody has logged in."""
        return TestClient(self._app, base_url=BASE, follow_redirects=False, headers=HTML)

    def logged_in(self, *roles: Role, name: str = "anna") -> TestClient:
        """A browser in which a person with these roles has logged in by a one-time address."""
        if all(one.name != name for one in self.accounts.all()):
            self.accounts.add(name, set(roles), "by test")
        browser = self.browser()
        answer = browser.post("/login", data={"once": self.accounts.make_ticket(name, "by test")})
        assert answer.status_code == 303, answer.text
        return browser

    def command(self, browser: TestClient, path: str, **fields: str) -> Any:
        """Give a command as the form of a page does."""
        page = browser.get("/").text
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        assert found is not None, page
        return browser.post(path, data={"csrf": found[1], **fields})

    def in_review(self, series: str = "1.2") -> Job:
        """A job that waits for a person."""
        job = self.jobs.job(series)
        for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
            self.store.move(job.job_id, state, "")
        return self.store.move(job.job_id, JobState.REVIEW, "A person has to look at it.")

    def image(self, source: Path, series: str, calling_ae: str = "CT", **attributes: str) -> None:
        """Accept a real image with other attributes in a series."""
        dataset = pydicom.dcmread(source)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{series}.1"
        path = f"inbox/{series}/{series}.1.dcm"
        (self.jobs.data / path).parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(self.jobs.data / path)
        self.store.accept(
            Instance(
                sop_uid=f"{series}.1", series_uid=series, sha256="d" * 64, size=1, path=path,
                transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
                calling_ae=calling_ae, received_at=utc_now(),
            )
        )  # fmt: skip

    def events_of(self, name: str) -> list[str]:
        """What an account did, as change and note."""
        found: Iterable[Event] = self.store.database.read(
            Event, "SELECT * FROM event WHERE kind = 'user' AND subject = ? ORDER BY number", (name,)
        )
        return [f"{one.change}: {one.note}" for one in found]
