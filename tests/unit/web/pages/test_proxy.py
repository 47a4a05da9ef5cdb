"""Logging in by a reverse proxy, and what somebody tries who is not the proxy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.load import load_config
from orgseg_node.node.users.roles import Role
from orgseg_node.web.http_server import HttpServer
from tests.support.node.leaks import LEAKS
from tests.support.web.pages_bench import HTML, PagesBench

pytestmark = LEAKS

BASE = "https://node.clinic.example"
USER, GROUPS = "X-Forwarded-User", "X-Forwarded-Groups"
PROXY = {"header": USER, "networks": ["10.1.0.7/32", "::1/128"]}
WITH_GROUPS = {**PROXY, "groups_header": GROUPS, "roles": {"physics": ["physicist"], "plan": ["viewer"]}}


def _bench(folder: Path, proxy: Mapping[str, Any] | None = None) -> PagesBench:
    return PagesBench(folder, pages={"enabled": True, "proxy": dict(proxy or PROXY)})


def _from(bench: PagesBench, address: str, **headers: str) -> TestClient:
    """A browser whose requests come from an address, with headers that stand for what is sent."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return TestClient(
        bench._app, base_url=BASE, follow_redirects=False, headers={**HTML, **named}, client=(address, 5000)
    )


def test_who_comes_by_the_proxy_is_who_it_says_and_has_the_own_roles(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    bench.accounts.add("anna", {Role.VIEWER}, "by test")
    browser = _from(bench, "10.1.0.7", X_Forwarded_User="anna")
    first = browser.get("/cases")
    assert first.headers["location"] == "/login?next=/cases"
    opened = browser.get(first.headers["location"])
    assert (opened.status_code, opened.headers["location"]) == (303, "/cases")
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith("__Host-")
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert browser.get("/cases").status_code == 200
    assert browser.get("/node").status_code == 403
    assert "logged in: by the proxy" in bench.events_of("anna")


@pytest.mark.parametrize("address", ["10.1.0.8", "127.0.0.1", "testclient", "::ffff:10.1.0.8"])
@pytest.mark.parametrize("path", ["/", "/login", "/cases", "/live"])
def test_nobody_else_may_say_who_they_are(tmp_path: Path, address: str, path: str) -> None:
    bench = _bench(tmp_path, WITH_GROUPS)
    bench.accounts.add("anna", set(Role), "by test")
    for headers in ({"X_Forwarded_User": "anna"}, {"x_forwarded_groups": "physics"}):
        answer = _from(bench, address, **headers).get(path)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        assert "Only the reverse proxy" in answer.text
    assert _from(bench, address, X_Forwarded_User="anna").post("/login", data={}).status_code == 403
    assert bench.events_of("anna")[1:] == []


def test_a_header_of_the_browser_that_the_proxy_let_through_is_refused(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    bench.accounts.add("anna", set(Role), "by test")
    browser = _from(bench, "10.1.0.7")
    answer = browser.get("/login", headers=[(USER, "anna"), (USER, "bert")])
    assert answer.status_code == 403


def test_an_address_that_is_only_claimed_does_not_count(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    bench.accounts.add("anna", set(Role), "by test")
    browser = _from(bench, "10.1.0.8", X_Forwarded_User="anna", X_Forwarded_For="10.1.0.7")
    assert browser.get("/login").status_code == 403


def test_the_server_takes_the_address_from_the_connection_only(tmp_path: Path) -> None:
    proxy = {**PROXY, "networks": ["127.0.0.1/32"]}
    bench = PagesBench(tmp_path, web={"port": 0}, pages={"enabled": True, "proxy": proxy})
    bench.accounts.add("anna", {Role.VIEWER}, "by test")
    server = HttpServer(bench.pages.routes, before_stop=bench.pages.close)
    server.start(bench.parts)
    try:
        headers = {USER: "anna", "X-Forwarded-For": "10.9.9.9"}
        answer = httpx.get(f"http://127.0.0.1:{server.port}/login", headers=headers)
        assert answer.status_code == 303, "it came from the proxy, whatever it says"
    finally:
        server.stop()


def test_a_session_ends_when_the_proxy_says_another_name_or_nothing(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    for name in ("anna", "bert"):
        bench.accounts.add(name, {Role.VIEWER}, "by test")
    for changed in ({USER: "bert"}, {USER: ""}):
        browser = _from(bench, "::1", X_Forwarded_User="anna")
        browser.get("/login")
        assert browser.get("/cases").status_code == 200
        assert browser.get("/cases", headers=changed).status_code == 303
        assert browser.get("/cases").status_code == 303, "the session has ended"


def test_a_cookie_of_the_proxy_is_worth_nothing_past_it(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    bench.accounts.add("anna", {Role.VIEWER}, "by test")
    browser = _from(bench, "10.1.0.7", X_Forwarded_User="anna")
    browser.get("/login")
    stolen = _from(bench, "10.1.0.8")
    stolen.cookies = browser.cookies
    assert stolen.get("/cases").status_code == 303


def test_groups_make_accounts_and_give_roles(tmp_path: Path) -> None:
    bench = _bench(tmp_path, WITH_GROUPS)
    browser = _from(bench, "10.1.0.7", X_Forwarded_User="carl", X_Forwarded_Groups="staff, physics")
    assert browser.get("/login").status_code == 303
    assert bench.accounts.one("carl").roles == {Role.PHYSICIST}
    assert browser.get("/node").status_code == 200
    fewer = {GROUPS: "plan"}
    assert browser.get("/node", headers=fewer).status_code == 303, "other groups end the session"
    browser.headers[GROUPS] = "plan"
    assert browser.get("/login").status_code == 303
    assert bench.accounts.one("carl").roles == {Role.VIEWER}
    assert browser.get("/node").status_code == 403


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"X_Forwarded_User": "dora", "X_Forwarded_Groups": "staff"}, "None of the groups"),
        ({"X_Forwarded_User": "dora"}, "None of the groups"),
        ({"X_Forwarded_User": "<script>", "X_Forwarded_Groups": "plan"}, "A name has"),
    ],
)
def test_who_has_no_role_is_not_let_in(tmp_path: Path, headers: dict[str, str], said: str) -> None:
    bench = _bench(tmp_path, WITH_GROUPS)
    answer = _from(bench, "10.1.0.7", **headers).get("/login")
    assert answer.status_code == 403
    assert said in answer.text
    assert bench.accounts.all() == []


def test_without_groups_an_unknown_person_is_not_let_in(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    assert _from(bench, "10.1.0.7", X_Forwarded_User="dora").get("/login").status_code == 403
    assert bench.accounts.all() == []


def test_commands_need_the_secret_of_the_session_also_by_the_proxy(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    bench.accounts.add("anna", {Role.REVIEWER}, "by test")
    job = bench.in_review()
    browser = _from(bench, "10.1.0.7", X_Forwarded_User="anna")
    browser.get("/login")
    assert browser.post(f"/cases/{job.job_id}/approve", data={"why": "x"}).status_code == 403
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get("/").text)
    assert found is not None
    fields = {"csrf": found[1], "why": "seen"}
    assert browser.post(f"/cases/{job.job_id}/approve", data=fields).status_code == 303


def test_the_password_works_beside_the_proxy(tmp_path: Path) -> None:
    bench = _bench(tmp_path)
    bench.accounts.add("anna", {Role.VIEWER}, "by test")
    browser = _from(bench, "127.0.0.1")
    answer = browser.post("/login", data={"once": bench.accounts.make_ticket("anna", "by test")})
    assert answer.status_code == 303
    assert browser.get("/cases").status_code == 200


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ({"header": "Cookie", "networks": ["10.0.0.1"]}, "not the name of a header"),
        ({"header": "X Y", "networks": ["10.0.0.1"]}, "not the name of a header"),
        ({"header": USER, "networks": []}, "networks"),
        ({"header": USER, "networks": ["10.0.0.1/8"]}, "networks"),
        ({"header": USER, "networks": ["10.0.0.1"], "groups_header": GROUPS}, "belong together"),
        ({"header": USER, "networks": ["10.0.0.1"], "roles": {"a": ["viewer"]}}, "belong together"),
        (
            {"header": USER, "networks": ["::1"], "groups_header": USER.lower(), "roles": {"a": ["viewer"]}},
            "are the same",
        ),
        ({"header": USER, "networks": ["::1"], "groups_header": GROUPS, "roles": {"a": ["king"]}}, "roles"),
    ],
)
def test_a_proxy_that_cannot_be_meant_is_refused(tmp_path: Path, proxy: dict[str, Any], said: str) -> None:
    file = tmp_path / "node.toml"
    groups = proxy.pop("roles", None)
    lines = [f"{name} = {value!r}" for name, value in proxy.items()]
    roles = [f"roles = {{ {name} = {value!r} }}" for name, value in (groups or {}).items()]
    file.write_text(
        f'[node]\ndata_dir = "{tmp_path}"\n[web]\nport = 8042\n[pages]\nenabled = true\n[pages.proxy]\n'
        + "\n".join([*lines, *roles])
    )
    with pytest.raises(ConfigError, match=said):
        load_config(file)
