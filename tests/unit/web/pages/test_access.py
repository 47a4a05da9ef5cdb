"""Who may do what on the pages, and what an attacker tries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.load import load_config
from orgseg_node.node.users.lockout import ALLOWED
from orgseg_node.node.users.roles import PERMITTED, Action, Role
from orgseg_node.web.pages.headers import POLICY
from tests.support.node.leaks import LEAKS
from tests.support.web.pages_bench import BASE, PASSWORD, PagesBench

pytestmark = LEAKS

OPEN = {"/static/{digest}/{name}", "/login", "/language/{language}"}
NEEDS = {
    "GET /": Action.SEE_NODE,
    "GET /live": Action.SEE_NODE,
    "GET /live/today": Action.SEE_NODE,
    "POST /logout": Action.SEE_NODE,
    "GET /cases": Action.SEE_PATIENTS,
    "GET /cases/{job}": Action.SEE_PATIENTS,
    "GET /cases/{job}/state": Action.SEE_PATIENTS,
    "GET /cases/{job}/contours": Action.SEE_PATIENTS,
    "GET /cases/{job}/points": Action.SEE_PATIENTS,
    "GET /cases/{job}/second/{number:int}": Action.SEE_PATIENTS,
    "GET /cases/{job}/second/{number:int}/points": Action.SEE_PATIENTS,
    "GET /cases/{job}/slices/{first:int}": Action.SEE_PATIENTS,
    "GET /cases/{job}/slices/{first:int}/{count:int}": Action.SEE_PATIENTS,
    "GET /cases/{job}/objects/{role}": Action.SEE_PATIENTS,
    "GET /series/{series}": Action.SEE_PATIENTS,
    **{
        f"POST /cases/{{job}}/{name}": Action.REVIEW
        for name in ("approve", "drop-organ", "reject", "retry", "cancel", "resend")
    },
    **{
        f"POST /series/{{series}}/{name}": Action.DECIDE_SERIES
        for name in ("choose", "force", "release", "judge", "wait", "settle-first", "settle-last")
    },
    "GET /models": Action.SEE_MODELS,
    "POST /models/{family}/rollback": Action.CHANGE_MODELS,
    "POST /models/{family}/end-shadow": Action.CHANGE_MODELS,
    "GET /quality": Action.SEE_MODELS,
    "GET /node": Action.SEE_CONFIGURATION,
    "POST /node/echo": Action.SEE_CONFIGURATION,
    "GET /node/rules": Action.SEE_CONFIGURATION,
    "POST /node/rules": Action.SEE_CONFIGURATION,
    "GET /node/protocols": Action.SEE_CONFIGURATION,
    "GET /node/protocols/{key}": Action.SEE_CONFIGURATION,
    "POST /node/protocols/{key}": Action.CHANGE_PROTOCOLS,
    "GET /trials/{token}": Action.SEE_PATIENTS,
    "GET /trials/{token}/points": Action.SEE_PATIENTS,
    "GET /history": Action.SEE_CONFIGURATION,
}
STREAM = "GET /live"
"""It never ends, so only who may not have it is tried here."""


@pytest.fixture
def bench(tmp_path: Path) -> PagesBench:
    return PagesBench(tmp_path)


def _filled(path: str, job: str) -> str:
    values = {
        "job": job,
        "series": "1.2",
        "family": "hn",
        "number:int": "1",
        "first:int": "0",
        "count:int": "1",
        "role": "RTSTRUCT",
        "key": "0123456789abcdef",
        "token": "abc",
    }
    return re.sub(r"\{([^}]+)\}", lambda found: values[found[1]], path)


def test_this_table_names_every_address(bench: PagesBench) -> None:
    found = {
        f"{method} {route.path}"
        for route in bench.routes
        for method in (route.methods or set()) - {"HEAD"}
        if route.path not in OPEN
    }
    assert found == set(NEEDS)


@pytest.mark.parametrize("role", [None, *Role])
def test_every_address_is_for_its_roles_only(bench: PagesBench, role: Role | None) -> None:
    job = bench.in_review()
    browser = bench.browser() if role is None else bench.logged_in(role)
    for name, action in NEEDS.items():
        method, path = name.split(" ")
        allowed = role is not None and role in PERMITTED[action]
        if name in {STREAM, "POST /logout"} and role is not None:
            continue
        filled = _filled(path, job.job_id)
        if method == "GET":
            status = browser.get(filled).status_code
        elif role is None:
            status = browser.post(filled, data={"why": "x", "csrf": "x"}).status_code
        else:
            status = bench.command(browser, filled, why="x").status_code
        if role is None:
            assert status in {303, 401}, name
        elif allowed:
            assert status not in {303, 401, 403} or (method == "POST" and status == 303), (name, status)
        else:
            assert status == 403, (name, status)


@pytest.mark.parametrize("path", ["/", "/cases", "/cases/ab", "/node"])
def test_without_a_login_a_page_leads_to_it_and_back(bench: PagesBench, path: str) -> None:
    answer = bench.browser().get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")
    assert bench.browser().get(path, headers={"accept": "*/*"}).status_code == 401


def test_guessing_a_password_ends_in_waiting_even_for_the_right_one(bench: PagesBench) -> None:
    bench.accounts.add("anna", {Role.VIEWER}, "by test", PASSWORD)
    browser = bench.browser()
    statuses = [
        browser.post("/login", data={"name": "anna", "password": f"wrong number {n}"}).status_code
        for n in range(ALLOWED + 2)
    ]
    assert statuses == [401] * ALLOWED + [429] * 2
    right = browser.post("/login", data={"name": "anna", "password": PASSWORD})
    assert right.status_code == 429
    assert "set-cookie" not in right.headers
    events = bench.events_of("anna")
    assert events[1:] == ["login refused: wrong password"] * (ALLOWED - 1) + [
        "login refused: it has to wait now"
    ]


def test_the_cookie_is_new_strict_and_not_for_scripts(bench: PagesBench) -> None:
    bench.accounts.add("anna", {Role.VIEWER}, "by test", PASSWORD)
    browser = bench.browser()
    browser.cookies.set("orgseg_session", "chosen-by-an-attacker", domain="127.0.0.1")
    answer = browser.post("/login", data={"name": "anna", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert "chosen-by-an-attacker" not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "max-age" not in cookie.lower(), "it ends with the browser"
    intruder = bench.browser()
    intruder.cookies.set("orgseg_session", "chosen-by-an-attacker", domain="127.0.0.1")
    assert intruder.get("/").status_code == 303


def test_by_https_the_cookie_never_leaves_it(tmp_path: Path) -> None:
    files = {"certificate": tmp_path / "a.crt", "key": tmp_path / "a.key"}
    bench = PagesBench(tmp_path, web={"port": 8042, "host": "0.0.0.0", **files})  # noqa: S104  # by HTTPS
    bench.accounts.add("anna", {Role.VIEWER}, "by test", PASSWORD)
    cookie = bench.browser().post("/login", data={"name": "anna", "password": PASSWORD}).headers["set-cookie"]
    assert cookie.startswith("__Host-orgseg_session=")
    assert "Secure" in cookie


def test_a_command_from_elsewhere_does_nothing(bench: PagesBench) -> None:
    job = bench.in_review()
    browser = bench.logged_in(Role.REVIEWER)
    path = f"/cases/{job.job_id}/reject"
    page = browser.get("/").text
    secret = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
    tried = [
        browser.post(path, data={"why": "x"}),
        browser.post(path, data={"why": "x", "csrf": "x" * 43}),
        browser.post(path, data={"why": "x", "csrf": secret}, headers={"sec-fetch-site": "cross-site"}),
        browser.post(path, data={"why": "x", "csrf": secret}, headers={"sec-fetch-site": "same-site"}),
        browser.post(path, data={"why": "x", "csrf": secret}, headers={"origin": "https://evil.example"}),
        browser.post(path, data={"why": "x", "csrf": secret}, headers={"origin": "null"}),
    ]
    assert [answer.status_code for answer in tried] == [403] * len(tried)
    other = bench.logged_in(Role.REVIEWER, name="bert")
    assert other.post(path, data={"why": "x", "csrf": secret}).status_code == 403, "of another session"
    assert browser.get(path).status_code == 405
    assert bench.store.job(job.job_id).state == "REVIEW"
    assert browser.post(path, data={"why": "x", "csrf": secret}, headers={"origin": BASE}).status_code == 303


def test_a_changed_account_is_logged_out_at_once(bench: PagesBench) -> None:
    browser = bench.logged_in(Role.PHYSICIST)
    assert browser.get("/node").status_code == 200
    bench.accounts.set_roles("anna", {Role.VIEWER}, "by test")
    assert browser.get("/node").status_code == 303
    other = bench.logged_in(Role.VIEWER)
    bench.accounts.remove("anna", "by test")
    assert other.get("/").status_code == 303


def test_after_logging_out_the_cookie_is_worth_nothing(bench: PagesBench) -> None:
    browser = bench.logged_in(Role.VIEWER)
    token = browser.cookies.get("orgseg_session")
    assert bench.command(browser, "/logout").status_code == 303
    again = bench.browser()
    again.cookies.set("orgseg_session", str(token), domain="127.0.0.1")
    assert again.get("/").status_code == 303


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "/ok\r\nSet-Cookie: a=b", "evil"]
)
def test_a_login_leads_to_this_site_only(bench: PagesBench, target: str) -> None:
    bench.accounts.add("anna", {Role.VIEWER}, "by test", PASSWORD)
    answer = bench.browser().post("/login", data={"name": "anna", "password": PASSWORD, "next": target})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    "path",
    [
        "/static/x/../../../../etc/passwd", "/static/x/..%2f..%2fetc%2fpasswd", "/static/%2e%2e/pages.css",
        "/cases/..%2f..%2fnode.toml", "/cases/0000/objects/..%2f..%2fnode.sqlite", "/series/..%2f",
        "/cases/%00", "/series/%00", "/cases/%25/objects/RTSTRUCT", "/history?before=-1",
        "/cases?since=0000-00-00",
        "/cases?state=%27%20OR%201=1", "/history?q=%27;DROP%20TABLE%20event;--&kind=x", "/language/../../x",
    ],
)  # fmt: skip
def test_an_odd_address_gives_no_file_and_no_failure(bench: PagesBench, path: str) -> None:
    bench.in_review()
    answer = bench.logged_in(Role.PHYSICIST).get(path)
    assert answer.status_code in {200, 303, 307, 404}, answer.text
    assert "root:" not in answer.text
    assert "SQLite" not in answer.text


def test_a_form_is_bounded_and_odd_bytes_are_no_failure(bench: PagesBench) -> None:
    assert bench.browser().post("/login", content=b"name=" + b"a" * 20_000).status_code == 413
    for body in (b"\xff\xfe=\x00&&&==%zz", b"", b"a" * 1000):
        kind = {"content-type": "application/x-www-form-urlencoded"}
        assert bench.browser().post("/login", content=body, headers=kind).status_code == 401


def test_every_answer_forbids_what_is_not_from_here(bench: PagesBench) -> None:
    job = bench.in_review()
    browser = bench.logged_in(Role.PHYSICIST)
    paths = ["/login", "/", "/cases", f"/cases/{job.job_id}", "/models", "/node", "/history", "/cases/ffff"]
    for path in paths:
        answer = browser.get(path)
        assert answer.headers["content-security-policy"] == POLICY, path
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:", answer.text), path
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', answer.text), "nothing from elsewhere"


CONFIG = """
[receiver]
accept_any_calling_ae = true
[web]
{web}
[pages]
enabled = true
"""


@pytest.mark.parametrize(
    ("web", "problem"),
    [
        ("", "the pages need [web] port"),
        ('port = 8042\nhost = "0.0.0.0"', "only by HTTPS"),
        ('port = 8042\nhost = "node.clinic.example"', "only by HTTPS"),
        ('port = 8042\nhost = "::1"', ""),
        ("port = 8042", ""),
    ],
)
def test_patient_data_leave_the_machine_by_https_only(tmp_path: Path, web: str, problem: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(CONFIG.format(web=web))
    if not problem:
        assert load_config(path).pages.enabled
        return
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load_config(path)


def test_without_the_setting_there_are_no_pages(tmp_path: Path) -> None:
    assert PagesBench(tmp_path, pages={}).routes == []
