"""The pages as a person uses them: by eye, by keyboard, live; and what an attacker stores in images."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from orgseg_node.node.review.protocol_files import protocol_files
from orgseg_node.node.store.model import JobState
from orgseg_node.node.users.roles import Role
from orgseg_node.web.http_server import HttpServer
from tests.browser.conftest import SHOTS, Site, serve
from tests.support.web.contoured import contour_case
from tests.support.web.pages_bench import PagesBench
from tests.support.web.returned import return_contours

AXE = Path(__file__).with_name("axe.min.js")
SERIOUS = {"serious", "critical"}
RED = """() => {
  const { viewer } = document.getElementById("viewer");
  viewer.drawNow();
  const { width, height } = viewer.axial.lines;
  const { data } = viewer.axial.lines.getContext("2d").getImageData(0, 0, width, height);
  let found = 0;
  for (let index = 0; index < data.length; index += 4) {
    const [r, g, b, alpha] = data.subarray(index, index + 4);
    if (alpha > 80 && alpha < 140 && r > 240 && g < 110 && b < 110) found += 1;
  }
  return found;
}"""
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[PagesBench, HttpServer]]:
    """A site of a test's own, which it may change."""
    bench = PagesBench(tmp_path, web={"port": 0})
    server = serve(bench)
    yield bench, server
    server.stop()


def addresses(site: Site) -> dict[str, str]:
    """Every kind of page."""
    return {
        "today": "/",
        "cases": "/cases",
        "case": f"/cases/{site.jobs['hfs']}",
        "review": f"/cases/{site.jobs['ffs']}",
        "series": "/series/1.2.77",
        "models": "/models",
        "quality": "/quality",
        "node": "/node",
        "rules": "/node/rules?series=1.2.77",
        "protocols": "/node/protocols",
        "protocol": f"/node/protocols/{protocol_files(site.bench.jobs.config)[0].key}",
        "history": "/history",
        "error": "/cases/ffffffff",
    }


def settled(page: Page) -> None:
    """Wait until the viewer of a page, if it has one, has drawn."""
    if page.locator("#viewer").count():
        page.wait_for_selector("#viewer[data-drawn]")
        page.wait_for_selector("#viewer progress", state="hidden")


def test_no_page_breaks_its_own_policy_or_writes_an_error(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text) if _is_bad(one) else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    site.log_in(page)
    for name, path in addresses(site).items():
        page.goto(site.base + path)
        settled(page)
        if name == "case":
            page.locator(".panes").press("ArrowUp")
        said = [one for one in said if name != "error" or "404" not in one]
    assert said == []


def _is_bad(message: ConsoleMessage) -> bool:
    return message.type in {"error", "warning"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1366, 390])
def test_every_page_is_accessible_and_photographed(
    site: Site, browser_program: Browser, scheme: str, width: int
) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    window = browser_program.new_context(
        viewport={"width": width, "height": 820},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-GB",
        bypass_csp=True,
    )
    page = window.new_page()
    page.goto(f"{site.base}/login")
    found = _findings(page, "login")
    page.screenshot(path=SHOTS / f"login-{scheme}-{width}.png", full_page=True)
    site.log_in(page)
    for name, path in addresses(site).items():
        page.goto(site.base + path)
        settled(page)
        found += _findings(page, name)
        page.screenshot(path=SHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (
            f"{name} is wider than the screen"
        )
    window.close()
    assert found == []


def _findings(page: Page, name: str) -> list[str]:
    """What axe calls serious or critical, with the element."""
    page.add_script_tag(path=AXE)
    result: dict[str, Any] = page.evaluate("axe.run()")
    return [
        f"{name}: {one['id']} {json.dumps(one['nodes'][0]['html'])[:150]}"
        for one in result["violations"]
        if one["impact"] in SERIOUS
    ]


def test_a_case_is_approved_by_keyboard_alone(own: tuple[PagesBench, HttpServer], page: Page) -> None:
    bench, server = own
    job = bench.in_review()
    site = Site(bench=bench, port=server.port or 0, jobs={})
    site.log_in(page, Role.REVIEWER)
    _tab_to(page, "summary", "Approve")
    page.keyboard.press("Enter")
    _tab_to(page, "input", "")
    page.keyboard.type("seen by me")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Approved")
    assert bench.store.events(job.job_id)[-1].note == "by anna, on the pages: seen by me"


def _tab_to(page: Page, tag: str, text: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        at = page.locator("*:focus")
        if at.count() and at.evaluate("e => e.tagName").lower() == tag and text in (at.text_content() or ""):
            return
    raise AssertionError(f"the keyboard does not reach {tag} {text}")


def test_every_page_is_walked_by_keyboard_and_shows_where_it_is(site: Site, probe: Page) -> None:
    site.log_in(probe)
    for name, path in addresses(site).items():
        probe.goto(site.base + path)
        settled(probe)
        wanted = probe.locator(
            "main a:visible, main button:visible, main summary:visible, main input:visible"
        ).count()
        seen = set()
        for _ in range(min(wanted, 60) + 12):
            probe.keyboard.press("Tab")
            at = probe.locator("*:focus")
            if at.count():
                seen.add(
                    at.evaluate("e => e.tagName + (e.id || e.textContent.slice(0, 40) + e.outerHTML.length)")
                )
                style = at.evaluate("e => getComputedStyle(e).outlineStyle")
                assert style != "none" or at.evaluate("e => e.id === 'main'"), (
                    name,
                    at.evaluate("e => e.outerHTML"),
                )
        assert len(seen) >= min(wanted, 8), name


def test_the_viewer_obeys_keys_and_no_drag_changes_a_contour(site: Site, probe: Page) -> None:
    site.log_in(probe)
    probe.goto(f"{site.base}/cases/{site.jobs['hfs']}")
    settled(probe)
    asked: list[str] = []
    probe.on("request", lambda one: asked.append(f"{one.method} {one.url}"))
    label = probe.locator("[data-slice]")
    before = int((label.text_content() or "0").split("/")[0])
    panes = probe.locator(".panes")
    panes.press("ArrowUp")
    expect(label).to_have_text(f"{before + 1} / 20")
    panes.press("Home")
    expect(label).to_have_text("20 / 20")
    panes.press("3")
    expect(probe.locator("[data-window]")).to_have_text("400 / 1800 HU")
    organ = "document.getElementById('viewer').viewer.organs[0]"
    points = f"() => Array.from({organ}.values()).flat().map((points) => Array.from(points))"
    first = probe.evaluate(points)
    box = probe.locator(".pane.axial").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for _ in range(3):
        probe.mouse.move(x, y)
        probe.mouse.down()
        probe.mouse.move(x + 60, y + 30, steps=5)
        probe.mouse.up()
        panes.press("+")
    probe.mouse.wheel(0, -300)
    assert probe.evaluate(points) == first
    assert [one for one in asked if not one.startswith("GET")] == []


def test_what_came_back_is_a_dashed_second_line_with_red_differences(
    own: tuple[PagesBench, HttpServer], probe: Page, cts: dict[str, Path]
) -> None:
    bench, server = own
    job = contour_case(bench.store, bench.jobs.data, cts["hfs"])
    site = Site(bench=bench, port=server.port or 0, jobs={})
    site.log_in(probe)
    case = f"{site.base}/cases/{job.job_id}"
    organs = probe.request.get(f"{case}/contours").json()["organs"]
    report = json.loads((bench.jobs.data / "jobs" / job.job_id / "out" / "report.json").read_text())
    key = next(one["key"] for one in report["organs"] if one["name"] == organs[0]["name"])
    return_contours(bench, job, organ=key)
    probe.goto(case)
    settled(probe)
    probe.get_by_role("button", name="Second line").press("Enter")
    jumps = probe.locator("[data-worst] button")
    expect(jumps.first).to_be_visible()
    jumps.first.press("Enter")
    expect(probe.locator("[data-slice]")).to_contain_text(
        f"{(jumps.first.text_content() or '').split()[0]} / "
    )
    drawn = probe.evaluate(RED)
    assert drawn > 30, "the area that only one of the two encloses is red"
    probe.locator(".panes").press("d")
    assert probe.evaluate(RED) < drawn / 4
    probe.get_by_role("button", name="Second line").press("Enter")
    assert probe.evaluate("document.getElementById('viewer').viewer.second") is None


def test_a_change_appears_by_itself(own: tuple[PagesBench, HttpServer], page: Page) -> None:
    bench, server = own
    job = bench.jobs.job("1.2")
    site = Site(bench=bench, port=server.port or 0, jobs={})
    site.log_in(page, Role.REVIEWER)
    expect(page.locator(".need")).to_have_count(0)
    for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
        bench.store.move(job.job_id, state, "")
    bench.store.move(job.job_id, JobState.REVIEW, "A person has to look at it.")
    expect(page.locator(".need")).to_have_count(1, timeout=10_000)
    page.get_by_text("Reject", exact=True).first.click()
    page.locator("details[open] input[name=why]").fill("half a sentence")
    bench.jobs.job("1.3")
    time.sleep(4)
    assert page.locator("details[open] input[name=why]").input_value() == "half a sentence", "not torn away"


def test_texts_of_images_and_contours_are_never_run(
    own: tuple[PagesBench, HttpServer], page: Page, cts: dict[str, Path]
) -> None:
    bench, server = own
    job = contour_case(bench.store, bench.jobs.data, cts["hfs"], evil=EVIL)
    source = min(cts["hfp"].iterdir())
    bench.image(source, "1.2.9", calling_ae="<b>AE</b>", PatientName=EVIL, SeriesDescription=EVIL)
    assert EVIL[:20] in str(
        pydicom.dcmread(bench.jobs.data / bench.store.attempts.objects(job.job_id)[0].path)
    )
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text))
    page.on("dialog", lambda one: said.append(one.message))
    site = Site(bench=bench, port=server.port or 0, jobs={})
    site.log_in(page)
    for path in ("/", "/cases", f"/cases/{job.job_id}", "/series/1.2.9", "/history", "/cases?q=img"):
        page.goto(site.base + path)
        settled(page)
        assert page.locator("main img, main script, main b").count() == 0, path
    page.goto(f"{site.base}/cases/{job.job_id}")
    assert page.locator("[data-jump]", has_text="<img src=x").count() >= 1, "shown as a text"
    assert said == []


def test_scrolling_and_memory(site: Site, probe: Page, record_property: Any) -> None:
    """Numbers of this machine; the limits are far off, so that a loaded machine does not fail them."""
    site.log_in(probe)
    name = "thorax" if "thorax" in site.jobs else "hfs"
    begun = time.monotonic()
    probe.goto(f"{site.base}/cases/{site.jobs[name]}")
    probe.wait_for_selector("#viewer[data-drawn]")
    first_s = time.monotonic() - begun
    settled(probe)
    per_s = probe.evaluate(
        """async () => {
          const { viewer } = document.getElementById("viewer");
          const begun = performance.now();
          for (let step = 0; step < 60; step += 1) {
            viewer.place.k = step % viewer.slices.count;
            viewer.drawNow();
            await new Promise((done) => requestAnimationFrame(done));
          }
          return 60000 / (performance.now() - begun);
        }"""
    )
    session = probe.context.new_cdp_session(probe)
    used = []
    for round_ in range(17):
        for each in ("hfs", "hfp", "oblique"):
            probe.goto(f"{site.base}/cases/{site.jobs[each]}")
            probe.wait_for_selector("#viewer[data-drawn]")
        if round_ in {0, 16}:
            session.send("HeapProfiler.collectGarbage")
            used.append(probe.evaluate("performance.memory.usedJSHeapSize") / 1e6)
    print(f"\nfirst picture {first_s:.2f} s, {per_s:.0f} slices/s, heap {used[0]:.1f} -> {used[1]:.1f} MB")  # noqa: T201
    record_property("first_picture_s", first_s)
    record_property("slices_per_s", per_s)
    assert first_s < 15
    assert per_s > 5
    assert used[1] < 1.5 * used[0] + 5
