"""Logging in and out."""

from __future__ import annotations

from typing import Any, Final

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orgseg_node.errors import OrgsegError
from orgseg_node.node.users.accounts import Account
from orgseg_node.node.users.roles import Action
from orgseg_node.web.pages.guard import (
    command,
    cookie_name,
    is_same_origin,
    plain,
    read_form,
    refuse_spoofed,
)
from orgseg_node.web.pages.proxy import REFUSALS, ProxiedPerson, account_of, is_spoofed, proxied_person
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.texts import LANGUAGES
from orgseg_node.web.pages.visit import LANGUAGE_COOKIE, Visit, go_to, html, one_line, words_of

_YEAR_S: Final = 365 * 86_400

_log = structlog.get_logger("orgseg.web")


def login_routes(site: Site) -> list[Route]:
    """The page on which a person logs in, and the commands behind it."""

    async def form(request: Request) -> Response:
        proxy = site.config.pages.proxy
        if is_spoofed(proxy, request):
            return refuse_spoofed(request)
        person = proxied_person(proxy, request)
        if person is not None:
            return await run_in_threadpool(_let_in, site, request, person)
        return _form(site, request)

    async def log_in(request: Request) -> Response:
        if not is_same_origin(request):
            return plain(403, "The request did not come from a page of this node.")
        if is_spoofed(site.config.pages.proxy, request):
            return refuse_spoofed(request)
        fields = await read_form(request)
        if fields is None:
            return plain(413, "The form is too large.")
        return await run_in_threadpool(_log_in, site, request, fields)

    async def language(request: Request) -> Response:
        return _set_language(site, request)

    def log_out(visit: Visit) -> Response:
        site.sessions.end(visit.request.cookies.get(cookie_name(site), ""))
        site.accounts.record(visit.account.name, "logged out", "")
        response = go_to("/login")
        response.delete_cookie(cookie_name(site), path="/", secure=site.is_https, httponly=True)
        return response

    return [
        Route("/login", form, methods=["GET"]),
        Route("/login", log_in, methods=["POST"]),
        Route("/language/{language}", language, methods=["GET"]),
        command(site, "/logout", Action.SEE_NODE, log_out),
    ]


def _form(
    site: Site, request: Request, problem: str = "", *, wait_s: float = 0.0, status: int = 200
) -> Response:
    content: dict[str, Any] = {
        "next": _local_path(request.query_params.get("next", "")),
        "once": request.query_params.get("once", "")[:100],
        "problem": problem,
        "wait_s": int(wait_s) + 1,
    }
    return html(site, words_of(site, request), "login.html", content, status=status)


def _log_in(site: Site, request: Request, fields: dict[str, str]) -> Response:
    try:
        return _checked(site, request, fields)
    except OrgsegError as error:
        return plain(503, f"{error.sentence} {error.next_step}")
    finally:
        site.store.close()


def _let_in(site: Site, request: Request, person: ProxiedPerson) -> Response:
    """Open a session for a person whom the proxy knows."""
    try:
        account = account_of(site.accounts, person)
    except REFUSALS as error:
        _log.warning("person of the proxy not let in", code=error.code)
        return plain(403, f"{error.sentence} {error.next_step}")
    except OrgsegError as error:
        return plain(503, f"{error.sentence} {error.next_step}")
    else:
        target = _local_path(request.query_params.get("next", ""))
        return _begin(site, account, target, how="by the proxy", is_proxied=True)
    finally:
        site.store.close()


def _checked(site: Site, request: Request, fields: dict[str, str]) -> Response:
    name, address = one_line(fields.get("name", ""))[:64], request.client.host if request.client else ""
    once = fields.get("once", "")[:100]
    key = f"one-time address from {address}" if once else name
    wait_s = site.lockout.wait_s(key, address)
    if wait_s > 0:
        return _form(site, request, "login.wait", wait_s=wait_s, status=429)
    must_wait = site.lockout.attempt(key, address)  # counted first: many at once are counted, too
    found = (
        site.accounts.use_ticket(once)
        if once
        else site.accounts.authenticate(name, fields.get("password", ""))
    )
    if found is None:
        _record_refusal(site, name if not once else "", is_locked=must_wait)
        return _form(site, request, "login.once_wrong" if once else "login.wrong", status=401)
    site.lockout.succeeded(key, address)
    return _begin(
        site, found, _local_path(fields.get("next", "")), how="one-time address" if once else "password"
    )


def _begin(site: Site, account: Account, target: str, *, how: str, is_proxied: bool = False) -> Response:
    """Open a session under a new secret, whatever cookie the browser brought."""
    token = site.sessions.begin(account, is_proxied=is_proxied)
    site.accounts.record(account.name, "logged in", how)
    response = go_to(target or "/")
    response.set_cookie(
        cookie_name(site), token, path="/", secure=site.is_https, httponly=True, samesite="strict"
    )
    return response


def _record_refusal(site: Site, name: str, *, is_locked: bool) -> None:
    """Note a wrong password of an account; other names are not kept, since they may be passwords."""
    if any(one.name == name for one in site.accounts.all()):
        site.accounts.record(name, "login refused", "it has to wait now" if is_locked else "wrong password")


def _local_path(text: str) -> str:
    """A path of this site; anything else becomes empty."""
    is_local = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text[:500] if is_local and "\\" not in text else ""


def _set_language(site: Site, request: Request) -> Response:
    language = str(request.path_params["language"])
    response = go_to(_local_path(request.query_params.get("next", "")) or "/")
    if language in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE,
            language,
            max_age=_YEAR_S,
            path="/",
            secure=site.is_https,
            httponly=True,
            samesite="strict",
        )
    return response
