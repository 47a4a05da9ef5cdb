"""A protocol changed, tried on a case and saved, by keyboard alone; what is seen, and how it looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from orgseg_node.node.store.model import Job
from orgseg_node.node.users.roles import Role
from tests.browser.conftest import SHOTS, Site, serve
from tests.browser.test_pages import RED, _findings, _is_bad, settled
from tests.support.web.pages_bench import PagesBench
from tests.support.web.reviewed import review_case

TEXT = """# ours
[[structures]]
organ = "brainstem"

[[structures]]
name = "Stem_PRV"
derive = "margin"
from = ["brainstem"]
margin_mm = 3  # as in 2025
"""
SLOW_MS = 240_000.0


@dataclass(kw_only=True)
class Editor:
    """A site with one contoured case and a protocol of its own."""

    site: Site
    job: Job
    file: Path


@pytest.fixture
def editor(tmp_path: Path, ct: Path) -> Iterator[Editor]:
    file = tmp_path / "ours.toml"
    file.write_text(TEXT, encoding="utf-8")
    bench = PagesBench(tmp_path / "node", web={"port": 0}, contours={"protocol": str(file)})
    job = review_case(bench.store, bench.jobs.config, ct)
    server = serve(bench)
    yield Editor(site=Site(bench=bench, port=server.port or 0, jobs={}), job=job, file=file)
    server.stop()


def _focus(page: Page, selector: str) -> None:
    """Reach an element by the tabulator key."""
    wanted = page.locator(selector).first
    for _ in range(120):
        page.keyboard.press("Tab")
        if wanted.evaluate("e => e === document.activeElement"):
            return
    raise AssertionError(f"{selector} cannot be reached by keyboard")


def test_a_protocol_is_changed_tried_and_saved_by_keyboard_alone(editor: Editor, page: Page) -> None:
    site, said = editor.site, []
    page.set_default_timeout(SLOW_MS)
    page.on("console", lambda one: said.append(one.text) if _is_bad(one) else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    site.log_in(page, Role.PHYSICIST)
    page.goto(f"{site.base}/node")
    for link in ("Protocols: change one and see its effect", "ours"):
        _focus(page, f'a:text-is("{link}")')
        page.keyboard.press("Enter")
        page.wait_for_load_state()
    _focus(page, 'button[aria-label="Change Stem_PRV"]')
    page.keyboard.press("Enter")
    _focus(page, 'input[name="s.margin_mm"]')
    page.keyboard.press("Control+A")
    page.keyboard.type("much")
    page.keyboard.press("Enter")
    expect(page.locator('input[name="s.margin_mm"]')).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".at-field")).to_contain_text("structures.2.margin_mm")
    _focus(page, 'input[name="s.margin_mm"]')
    page.keyboard.press("Control+A")
    page.keyboard.type("8")
    _focus(page, 'select[name="job"]')
    page.keyboard.press("ArrowDown")
    _focus(page, 'button[value="try"]')
    page.keyboard.press("Enter")
    page.wait_for_selector("#viewer[data-second]")
    settled(page)
    expect(page.locator("#h-trial")).to_be_in_viewport()
    row = page.locator("tr.c-changed")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Stem_PRV")
    before, after, dice = (float(text) for text in row.locator("td.number").all_text_contents())
    assert 0 < before < after
    assert 0 < dice < 1
    row.locator("[data-worst] button").first.click()
    assert page.evaluate(RED) > 0, "what only one of the two encloses is red"
    assert editor.file.read_text() == TEXT, "trying saves nothing"
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "protocol-trial-light-1366.png", full_page=True)
    _focus(page, 'button[value="save"]')
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("The next jobs use it")
    assert editor.file.read_text() == TEXT.replace("margin_mm = 3", "margin_mm = 8")
    (event,) = site.bench.store.database.read(_Note, "SELECT note FROM event WHERE kind = 'protocol'")
    assert event.note.startswith("Stem_PRV.margin_mm 3.0 -> 8.0;")
    assert f"tried on job {editor.job.job_id}; by anna, on the pages" in event.note
    assert [one for one in said if "422" not in one] == []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    note: str


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_trial_is_accessible_and_fits_the_screen(
    editor: Editor, browser_program: Browser, scheme: str
) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    window = browser_program.new_context(
        viewport={"width": 1366, "height": 820},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="de-DE",
        bypass_csp=True,
    )
    page = window.new_page()
    page.set_default_timeout(SLOW_MS)
    editor.site.bench.accounts.add("anna", set(Role), "by test")
    ticket = editor.site.bench.accounts.make_ticket("anna", "by test")
    page.goto(f"{editor.site.base}/login?once={ticket}")
    page.locator("main button").first.click()
    page.goto(f"{editor.site.base}/node/protocols")
    page.get_by_role("link", name="ours").click()
    page.locator('button[aria-label="Brainstem ändern"]').click()
    page.locator('select[name="s.implausible"]').select_option("hold")
    page.locator('input[name="s.min_ml"]').fill("100000")
    page.locator('select[name="job"]').select_option(index=1)
    page.locator('button[value="try"]').click()
    page.wait_for_selector("#viewer[data-second]")
    settled(page)
    expect(page.locator("tr.c-removed")).to_contain_text(["Brainstem"])
    found = _findings(page, "trial")
    for width in (1366, 390):
        page.set_viewport_size({"width": width, "height": 820})
        page.screenshot(path=SHOTS / f"trial-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    window.close()
    assert found == []
