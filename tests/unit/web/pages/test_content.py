"""What the pages show, and what their commands do."""

from __future__ import annotations

import hashlib
import re
import shutil
from importlib import resources
from pathlib import Path

import pytest

from orgseg_node.errors import SendingBroken
from orgseg_node.node.processing.job_commands import JobCommands
from orgseg_node.node.store.model import JobState, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.users.roles import Role
from orgseg_node.web.pages.configuration.node import settings_of
from orgseg_node.web.pages.texts import LANGUAGES, choose_language, text_table, texts
from tests.support.node.leaks import LEAKS
from tests.support.web.pages_bench import PagesBench

pytestmark = LEAKS

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
HTMX = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"  # htmx.org 2.0.11, dist/htmx.min.js


@pytest.fixture
def bench(tmp_path: Path) -> PagesBench:
    return PagesBench(tmp_path)


@pytest.fixture
def slice_file(ct: Path) -> Path:
    return min(ct.iterdir())


def test_texts_of_images_are_shown_as_texts(bench: PagesBench, slice_file: Path) -> None:
    bench.image(
        slice_file, "1.2.9", PatientName=EVIL[:60], PatientID=EVIL[:60], StudyDescription=EVIL[:60],
        SeriesDescription=EVIL[:60], AccessionNumber="<b>a</b>", calling_ae="<i>AE</i>",
    )  # fmt: skip
    seen = bench.store.one_series("1.2.9")
    assert bench.store.judge(seen, SeriesState.HOLD, reason=SendingBroken.code, note=EVIL)
    browser = bench.logged_in(Role.PHYSICIST)
    for path in ("/", "/cases", "/cases?q=%3Cscript%3E", "/series/1.2.9", "/history"):
        text = browser.get(path).text
        assert "&lt;script&gt;" in text, path
        assert not re.search(r"<script>alert|<img src=x|<i>AE|<b>a</b>", text), path


def test_a_search_finds_by_patient_number_sender_and_state(bench: PagesBench, slice_file: Path) -> None:
    bench.image(slice_file, "1.2.7", PatientName="Maier^Anna", PatientID="4711", AccessionNumber="A9")
    bench.image(slice_file, "1.2.8", PatientName="Huber^Bert", PatientID="4712", AccessionNumber="A8")
    browser = bench.logged_in(Role.VIEWER)
    for words, found in {
        "maier": {"1.2.7"}, "anna maier": {"1.2.7"}, "4712": {"1.2.8"}, "A9": {"1.2.7"}, "huber anna": set(),
        "1.2.8": {"1.2.8"}, "": {"1.2.7", "1.2.8"},
    }.items():  # fmt: skip
        text = browser.get("/cases", params={"q": words}).text
        assert set(re.findall(r'href="/series/([0-9.]+)"', text)) == found, words
    assert "/series/" not in browser.get("/cases?state=HOLD").text
    assert "/series/" in browser.get("/cases?state=receiving").text
    assert "/series/" not in browser.get("/cases?since=2999-01-01").text


def test_a_patient_is_forgotten_with_the_images(bench: PagesBench, slice_file: Path) -> None:
    bench.image(slice_file, "1.2.7", PatientName="Maier^Anna", PatientID="4711")
    browser = bench.logged_in(Role.VIEWER)
    assert "Maier" in browser.get("/cases").text
    shutil.rmtree(bench.jobs.data / "inbox" / "1.2.7")
    assert "Maier" not in browser.get("/cases").text


def test_what_needs_a_person_is_first_with_its_next_steps(bench: PagesBench) -> None:
    job = bench.in_review()
    text = bench.logged_in(Role.REVIEWER).get("/").text
    assert f'action="/cases/{job.job_id}/approve"' in text
    assert f'action="/cases/{job.job_id}/reject"' in text
    only_seen = bench.logged_in(Role.VIEWER, name="bert").get("/").text
    assert f"/cases/{job.job_id}" in only_seen
    assert "/approve" not in only_seen


def test_an_administrator_sees_the_node_and_no_patient(bench: PagesBench, slice_file: Path) -> None:
    bench.image(slice_file, "1.2.7", PatientName="Maier^Anna", PatientID="4711")
    browser = bench.logged_in(Role.ADMINISTRATOR)
    for path in ("/", "/live/today", "/node", "/history", "/models"):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert not re.search("maier|4711", answer.text, re.IGNORECASE), path


def test_an_approval_is_the_one_of_the_command_line(bench: PagesBench) -> None:
    job = bench.in_review()
    browser = bench.logged_in(Role.REVIEWER)
    answer = bench.command(browser, f"/cases/{job.job_id}/approve", why="seen\r\nby two")
    assert answer.headers["location"] == f"/cases/{job.job_id}?done=approve"
    assert [one.job_id for one in JobCommands(bench.store).approved(1)] == [job.job_id]
    event = bench.store.events(job.job_id)[-1]
    assert (event.change, event.note) == ("approve", "by anna, on the pages: seen by two")
    assert bench.events_of("anna")[-1] == f"approve: job {job.job_id}"


def test_a_rejection_needs_a_reason(bench: PagesBench) -> None:
    job = bench.in_review()
    browser = bench.logged_in(Role.REVIEWER)
    refused = bench.command(browser, f"/cases/{job.job_id}/reject", why="  ")
    assert "needs a reason" in refused.text
    assert bench.store.job(job.job_id).state is JobState.REVIEW
    bench.command(browser, f"/cases/{job.job_id}/reject", why="the cord is cut off")
    assert bench.store.job(job.job_id).state is JobState.REJECTED
    again = bench.command(browser, f"/cases/{job.job_id}/approve")
    assert again.status_code == 409
    assert "JOB_REFUSES" in again.text
    assert "It was rejected" in again.text


def test_a_held_series_is_forced_kept_waiting_and_released(bench: PagesBench) -> None:
    bench.jobs.accept("1.2.3.1")
    seen = bench.store.one_series("1.2.3")
    assert bench.store.judge(seen, SeriesState.HOLD, reason=SendingBroken.code, note="It was broken off.")
    browser = bench.logged_in(Role.PHYSICIST)
    text = browser.get("/series/1.2.3").text
    assert 'action="/series/1.2.3/force"' in text
    assert bench.command(browser, "/series/1.2.3/wait", minutes="ten").status_code != 303
    assert bench.command(browser, "/series/1.2.3/wait", minutes="10").status_code == 303
    overrides = SeriesOverrides(bench.store.database)
    assert overrides.all()["1.2.3"].kind == "wait"
    assert 'action="/series/1.2.3/release"' in browser.get("/series/1.2.3").text
    assert bench.command(browser, "/series/1.2.3/release").status_code == 303
    assert bench.command(browser, "/series/1.2.3/force", why="urgent").status_code == 303
    assert overrides.all()["1.2.3"].kind == "force"
    assert bench.store.one_series("1.2.3").state is SeriesState.RECEIVING
    text = browser.get("/series/1.2.3").text
    assert "<span>1 image</span>" in text
    assert "A person decided: Contour as it is" in text
    card = text[text.index('<div class="card') : text.index('<div class="below">')]
    assert card.count("urgent") == 1, "the decision is told once"


def test_a_job_is_cancelled_tried_again_and_sent_again(bench: PagesBench) -> None:
    queued = bench.jobs.job("1.4")
    browser = bench.logged_in(Role.REVIEWER)
    bench.command(browser, f"/cases/{queued.job_id}/cancel", why="wrong patient")
    assert bench.store.job(queued.job_id).state is JobState.CANCELLED
    bench.command(browser, f"/cases/{queued.job_id}/retry")
    assert bench.store.job(queued.job_id).state is JobState.QUEUED
    done = bench.jobs.delivered("tps", series="1.5")
    answer = bench.command(browser, f"/cases/{done.job_id}/resend", destination="nowhere")
    assert "nowhere" in answer.text
    assert answer.status_code != 303


def test_what_a_person_looks_at_is_in_the_history(bench: PagesBench) -> None:
    job = bench.in_review()
    browser = bench.logged_in(Role.VIEWER)
    for path in ("/", "/cases", "/cases?q=x", f"/cases/{job.job_id}", "/series/1.2"):
        browser.get(path)
    browser.get("/node")
    assert bench.events_of("anna")[2:] == [
        "logged in: one-time address",
        "saw: the list of today",
        "saw: the list of cases",
        "saw: the list of cases, searched",
        f"saw: job {job.job_id}",
        "saw: series 1.2",
        "refused: no role to see the configuration and search the history",
    ]


def test_destinations_are_asked_now(bench: PagesBench) -> None:
    browser = bench.logged_in(Role.ADMINISTRATOR)
    assert "not asked yet" in browser.get("/node").text
    assert bench.command(browser, "/node/echo").headers["location"] == "/node?done=echo"
    assert "does not answer: NETWORK" in browser.get("/node?done=echo").text


def test_the_history_is_searched_by_word_and_kind(bench: PagesBench) -> None:
    job = bench.in_review()
    browser = bench.logged_in(Role.PHYSICIST)
    text = browser.get("/history", params={"q": job.job_id, "kind": "job"}).text
    assert text.count(job.job_id) >= 5
    assert "one-time address" not in text
    assert "No event fits" in browser.get("/history", params={"q": "100%_!"}).text


def test_secrets_of_the_configuration_are_hidden() -> None:
    shown = settings_of(
        {
            "database": {"url": "postgresql://node:secret@db", "password_file": "/x"},
            "notices": {"channels": [{"url_file": "/secret"}], "email": {"host": "mail", "port": 25}},
            "node": {"port": 104, "also_called": []},
        }
    )
    text = str(shown)
    assert "secret" not in text.replace("password", "")
    assert ("email.host", "mail") in shown["notices"]
    assert ("port", "104") in shown["node"]


def test_the_pages_speak_the_language_of_the_browser(bench: PagesBench) -> None:
    browser = bench.browser()
    assert "Passwort" in browser.get("/login", headers={"accept-language": "de-AT,en;q=0.5"}).text
    assert "Password" in browser.get("/login", headers={"accept-language": "fr"}).text
    browser.get("/language/de")
    assert "Passwort" in browser.get("/login", headers={"accept-language": "en"}).text
    assert choose_language("xx", "", "de") == "de"


def test_every_text_has_both_languages_and_every_used_one_exists() -> None:
    table = text_table()
    for key, words in table.items():
        assert all(words[language].strip() for language in LANGUAGES), key
        fields = [sorted(re.findall(r"\{(\w+)\}", words[language])) for language in LANGUAGES]
        assert fields[0] == fields[1], key
    used = set()
    for file in resources.files("orgseg_node.web.pages").joinpath("templates").iterdir():
        used |= set(re.findall(r"\bt\('([a-z_.A-Z-]+)'", file.read_text(encoding="utf-8")))
    whole = {key for key in used if not key.endswith(".")}
    assert whole - set(table) == set()
    states = {state.value for kind in (JobState, SeriesState) for state in kind}
    assert {f"state.{name}" for name in states} <= set(table)
    with pytest.raises(KeyError):
        texts("en")("no.such")


def test_the_library_of_the_browser_is_the_pinned_one() -> None:
    file = resources.files("orgseg_node.web.pages").joinpath("vendor", "htmx.min.js")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == HTMX
