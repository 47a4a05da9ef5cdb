"""What stands before every page and every command: session, origin, secret of the form, role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orgseg_node.errors import (
    ConfigError,
    IllegalTransition,
    InputError,
    JobRefuses,
    OrgsegError,
    ProtocolChanged,
    ResultDeleted,
    ResultMissing,
    RoleMissing,
    SeriesRefuses,
    UnknownJob,
    UnknownSeries,
    UnknownUser,
    UnknownVersion,
)
from orgseg_node.errors.unexpected import coded, place
from orgseg_node.node.users.accounts import Account
from orgseg_node.node.users.roles import Action
from orgseg_node.node.users.sessions import Session
from orgseg_node.web.pages.headers import with_headers
from orgseg_node.web.pages.proxy import is_same_person, is_spoofed, proxied_person
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.visit import Visit, error_page, go_to, html, words_of

Handler = Callable[[Visit], Response]

COOKIE: Final = "orgseg_session"
COOKIE_HTTPS: Final = "__Host-orgseg_session"
"""With this prefix a browser takes the cookie by HTTPS only, and from this host only."""

_LONGEST_FORM: Final = 16_384
_MOST_FIELDS: Final = 80
_STATUS: Final[Mapping[type[OrgsegError], int]] = {
    RoleMissing: 403,
    UnknownJob: 404,
    UnknownSeries: 404,
    UnknownVersion: 404,
    ResultMissing: 404,
    ResultDeleted: 410,
    ProtocolChanged: 409,
    JobRefuses: 409,
    SeriesRefuses: 409,
    IllegalTransition: 409,
    InputError: 422,
    ConfigError: 422,
}

_log = structlog.get_logger("orgseg.web")


def cookie_name(site: Site) -> str:
    """Name of the session cookie."""
    return COOKIE_HTTPS if site.is_https else COOKIE


def page(site: Site, path: str, action: Action, handler: Handler, *, live: bool = False) -> Route:
    """A page that persons with the right role may see.

    Parameters
    ----------
    site : what all pages share
    path : of the page
    action : what the page does
    handler : makes the answer; it runs in a thread
    live : whether open pages fetch it by themselves, which does not keep a session open
    """
    gate = _Gate(site, action, handler, is_person=not live)

    async def answer(request: Request) -> Response:
        if is_spoofed(site.config.pages.proxy, request):
            return refuse_spoofed(request)
        return await run_in_threadpool(_answer, gate, request, {})

    return Route(path, answer, methods=["GET"])


def command(
    site: Site, path: str, action: Action, handler: Handler, *, longest_form: int = _LONGEST_FORM
) -> Route:
    """A command that persons with the right role may give, with the secret of their session.

    Parameters
    ----------
    site : what all pages share
    path : of the command
    action : what the command does
    handler : does it and makes the answer; it runs in a thread
    longest_form : number of bytes of its form
    """
    gate = _Gate(site, action, handler)

    async def answer(request: Request) -> Response:
        if not is_same_origin(request):
            return plain(403, "The request did not come from a page of this node.")
        if is_spoofed(site.config.pages.proxy, request):
            return refuse_spoofed(request)
        form = await read_form(request, longest_form)
        if form is None:
            return plain(413, "The form is too large.")
        return await run_in_threadpool(_answer, gate, request, form)

    return Route(path, answer, methods=["POST"])


def plain(status: int, text: str) -> Response:
    """A short answer without a page."""
    return with_headers(Response(f"{text}\n", status, media_type="text/plain"))


def refuse_spoofed(request: Request) -> Response:
    """The answer to somebody who says who they are in place of the proxy."""
    _log.warning("header of the proxy refused", address=request.client.host if request.client else "")
    return plain(403, "Only the reverse proxy of this node may say who a person is.")


def is_same_origin(request: Request) -> bool:
    """Whether a request was made by a page of this node, as far as the browser says so."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


async def read_form(request: Request, longest: int = _LONGEST_FORM) -> dict[str, str] | None:
    """The fields of a form; None if it has more bytes than the longest, or too many fields."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > longest:
            return None
    try:
        fields = parse_qsl(
            body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        return None
    return dict(fields)


def identified(site: Site, request: Request, *, is_person: bool = True) -> tuple[Account, Session] | None:
    """The account and the session of a request; None if there is none, or the account was changed since.

    Parameters
    ----------
    site : what all pages share
    request : with the cookie
    is_person : whether the person did something; a page that refreshes itself does not keep a session open
    """
    token = request.cookies.get(cookie_name(site), "")
    session = site.sessions.find(token, is_person=is_person)
    if session is None:
        return None
    try:
        account = site.accounts.one(session.name)
    except UnknownUser:
        account = None
    is_same = account is not None and account.revision == session.revision
    if account is None or not is_same or not _is_still_proxied(site, request, account, session):
        site.sessions.end(token)
        return None
    return account, session


def _is_still_proxied(site: Site, request: Request, account: Account, session: Session) -> bool:
    """Whether the proxy says nothing else than when the person logged in by it."""
    proxy = site.config.pages.proxy
    person = proxied_person(proxy, request)
    return is_same_person(person, account) if session.is_proxied or person is not None else True


@dataclass(frozen=True, slots=True)
class _Gate:
    """What stands before one page or command."""

    site: Site
    action: Action
    handler: Handler
    is_person: bool = True


def _answer(gate: _Gate, request: Request, form: Mapping[str, str]) -> Response:
    try:
        return _checked(gate, request, form)
    except OrgsegError as error:
        _log.error("page failed", code=error.code)
        return plain(503, f"{error.sentence} {error.next_step}")
    except Exception as error:  # noqa: BLE001  # its text may have patient data; other pages go on
        _log.error("page failed", code="UNEXPECTED", kind=type(error).__name__, place=place(error))
        return plain(500, "The page could not be made. The log of the node names the place.")
    finally:
        gate.site.store.close()


def _checked(gate: _Gate, request: Request, form: Mapping[str, str]) -> Response:
    site = gate.site
    found = identified(site, request, is_person=gate.is_person)
    if found is None:
        return _log_in_first(request)
    account, session = found
    visit = Visit(
        site=site,
        request=request,
        account=account,
        session=session,
        form=form,
        words=words_of(site, request),
    )
    if request.method == "POST" and not session.is_csrf(form.get("csrf", "")):
        site.accounts.record(account.name, "refused", "a command without the secret of the session")
        return html(site, visit.words, "expired.html", {"account": account, "navigation": []}, status=403)
    try:
        visit.require(gate.action)
        return gate.handler(visit)
    except RoleMissing as error:
        site.accounts.record(account.name, "refused", f"no role to {gate.action.value}")
        return error_page(visit, error, 403)
    except OrgsegError as error:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
        return error_page(visit, error, status)
    except (OSError, MemoryError, ValueError) as error:
        return error_page(visit, coded(error), 500)


def _log_in_first(request: Request) -> Response:
    if request.headers.get("hx-request"):
        response = plain(401, "Log in again.")
        response.headers["HX-Redirect"] = "/login"
        return response
    wants_page = "text/html" in request.headers.get("accept", "")
    if request.method != "GET" or not wants_page:
        return plain(401, "Log in first.")
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return go_to(f"/login?next={quote(target)}" if target != "/" else "/login")
