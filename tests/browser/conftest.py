"""A served site with contoured cases, and a browser for it."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from orgseg_node.node.store.model import JobState
from orgseg_node.node.users.roles import Role
from orgseg_node.web.http_server import HttpServer
from tests.support.ct.zoo import FFS, HFP, HFS, Scan, regular, turned, write
from tests.support.web.contoured import contour_case
from tests.support.web.pages_bench import PagesBench

SHOTS = Path(os.environ.get("ORGSEG_SCREENSHOTS", "build/browser"))
REAL = {"tilt": "dcm_qa_ct_ge_tilt", "511": "pycerr_hn_pt1", "abdomen": "CRLM-CT-1004", "thorax": "LUNG1-001"}
MOST_SLICES = 30
OBLIQUE = turned(HFS, 17.0, (1.0, 0.4, 0.2))
MADE = {
    "hfs": Scan(),
    "hfp": Scan(orientation=HFP, rows=80, columns=72, spacing_mm=(1.6, 1.9)),
    "ffs": Scan(orientation=FFS),
    "oblique": Scan(orientation=OBLIQUE, heights_mm=[*regular(9), 21.0, 24.5, 27.5, 30.5], rows=70),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a browser."""
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@dataclass(kw_only=True)
class Site:
    """A served site.

    Attributes
    ----------
    bench : its store and accounts
    port : on 127.0.0.1
    jobs : number of the job of each contoured case, by name
    """

    bench: PagesBench
    port: int
    jobs: dict[str, str]

    @property
    def base(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def log_in(self, page: Page, *roles: Role, name: str = "anna") -> None:
        """Log in by a one-time address, as a person does."""
        accounts = self.bench.accounts
        if all(one.name != name for one in accounts.all()):
            accounts.add(name, set(roles or Role), "by test")
        page.goto(f"{self.base}/login?once={accounts.make_ticket(name, 'by test')}")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{self.base}/")


def serve(bench: PagesBench) -> HttpServer:
    """Serve the pages of a bench on a free port."""
    server = HttpServer(bench.pages.routes, before_stop=bench.pages.close)
    server.start(bench.parts)
    return server


@pytest.fixture(scope="session")
def browser_program() -> Iterator[Browser]:
    """Headless Chromium; tests are skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed; 'make browser' installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(browser_program: Browser) -> Iterator[BrowserContext]:
    """A browser window as a person has it."""
    opened = browser_program.new_context(viewport={"width": 1366, "height": 820}, locale="en-GB")
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page of it."""
    return context.new_page()


@pytest.fixture
def probe(browser_program: Browser) -> Iterator[Page]:
    """A page into which a test may put scripts of its own."""
    opened = browser_program.new_context(
        viewport={"width": 1366, "height": 820}, locale="en-GB", bypass_csp=True
    )
    yield opened.new_page()
    opened.close()


@pytest.fixture(scope="session")
def cts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with series: made ones, and real ones if the collected data are here."""
    folder = tmp_path_factory.mktemp("cts")
    found = {}
    for number, (name, scan) in enumerate(MADE.items()):
        changed = {"series": name, "study": name, "frame": name, "number": 10 + number}
        write(folder / name, Scan(**{**{f: getattr(scan, f) for f in scan.__dataclass_fields__}, **changed}))
        found[name] = folder / name
    named = os.environ.get("ORGSEG_TEST_DATA")
    data = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    if (data / "dicom").is_dir():
        for name, source in REAL.items():
            with tarfile.open(data / "dicom" / source / "ct.tar.gz") as archive:
                archive.extractall(folder / name, filter="data")
            _cut(folder / name)
            found[name] = folder / name
    return found


def _cut(folder: Path) -> None:
    """Leave so many neighbouring slices of a real series that the tests stay short."""
    images = [path for path in folder.rglob("*") if path.is_file()]
    images.sort(
        key=lambda path: float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])
    )
    begin = max(0, (len(images) - MOST_SLICES) // 2)
    for path in [*images[:begin], *images[begin + MOST_SLICES :]]:
        path.unlink()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, cts: dict[str, Path]) -> Iterator[Site]:
    """A site with all cases; one of them waits for a review."""
    bench = PagesBench(tmp_path_factory.mktemp("site"), web={"port": 0})
    jobs = {}
    for name, ct in cts.items():
        state = JobState.REVIEW if name == "ffs" else JobState.DONE
        jobs[name] = contour_case(bench.store, bench.jobs.data, ct, state=state).job_id
    bench.in_review("1.2.77")
    server = serve(bench)
    assert server.port is not None
    yield Site(bench=bench, port=server.port, jobs=jobs)
    server.stop()
