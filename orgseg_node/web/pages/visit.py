"""One request of a person: who it is, in which language, and how it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from orgseg_node.errors import OrgsegError, RoleMissing
from orgseg_node.node.users.accounts import Account
from orgseg_node.node.users.roles import Action, is_permitted
from orgseg_node.node.users.sessions import Session
from orgseg_node.web.pages.headers import with_headers
from orgseg_node.web.pages.site import Site
from orgseg_node.web.pages.texts import Texts, choose_language, texts

LANGUAGE_COOKIE: Final = "orgseg_language"
NAVIGATION: Final = (
    ("today", "/", Action.SEE_NODE),
    ("cases", "/cases", Action.SEE_PATIENTS),
    ("models", "/models", Action.SEE_MODELS),
    ("quality", "/quality", Action.SEE_MODELS),
    ("node", "/node", Action.SEE_CONFIGURATION),
    ("history", "/history", Action.SEE_CONFIGURATION),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of a person who has logged in.

    Attributes
    ----------
    site : what all pages share
    request : the request
    account : of the person
    session : of the person
    form : fields of a command
    words : in the language of the person
    """

    site: Site
    request: Request
    account: Account
    session: Session
    form: Mapping[str, str]
    words: Texts

    def may(self, action: Action) -> bool:
        """Whether the person may do something."""
        return is_permitted(self.account.roles, action)

    def require(self, action: Action) -> None:
        """Raise RoleMissing unless the person may do something."""
        if not self.may(action):
            raise RoleMissing(f"Needed to {action.value}.")

    def query(self, name: str) -> str:
        """A field of the address; empty if it is missing."""
        return one_line(str(self.request.query_params.get(name, "")))[:200]

    def attribution(self) -> str:
        """Who gives a command and why, for the history."""
        why = one_line(self.form.get("why", ""))[:200]
        return f"by {self.account.name}, on the pages{f': {why}' if why else ''}"

    def saw(self, what: str) -> None:
        """Note in the history what the person looked at."""
        self.site.accounts.record(self.account.name, "saw", what)

    def page(self, template: str, content: dict[str, Any] | None = None, status: int = 200) -> Response:
        """A page of the site.

        Parameters
        ----------
        template : name of its file
        content : what it shows
        status : of the answer
        """
        entries = [(key, path) for key, path, action in NAVIGATION if self.may(action)]
        shown = {"account": self.account, "csrf": self.session.csrf, "navigation": entries, "visit": self}
        return html(self.site, self.words, template, {**shown, **(content or {})}, status=status)


def one_line(text: str) -> str:
    """A text without line breaks, control characters and outer spaces."""
    spaced = " ".join(text.split())
    return "".join(character for character in spaced if character.isprintable())


def html(
    site: Site, words: Texts, template: str, content: dict[str, Any], *, status: int = 200
) -> HTMLResponse:
    """A rendered page with its headers.

    Parameters
    ----------
    site : what all pages share
    words : in the language of the person
    template : name of its file
    content : what it shows
    status : of the answer
    """
    base = {"t": words, "node": site.config.node.ae_title, "here": "", "account": None, "Action": Action}
    return with_headers(HTMLResponse(site.render(template, {**base, **content}), status))


def go_to(path: str, notice: str = "") -> Response:
    """Send the browser to a page of this site.

    Parameters
    ----------
    path : of the page
    notice : key of a text that the page shows once
    """
    more = f"{'&' if '?' in path else '?'}done={quote(notice)}" if notice else ""
    return with_headers(RedirectResponse(f"{path}{more}", 303))


def words_of(site: Site, request: Request) -> Texts:
    """The words in the language of a browser."""
    wanted = request.cookies.get(LANGUAGE_COOKIE, "")
    accepted = request.headers.get("accept-language", "")
    return texts(choose_language(wanted, accepted, site.config.pages.language))


def error_page(visit: Visit, error: OrgsegError, status: int) -> Response:
    """A page with code, sentence and next step of an error.

    Parameters
    ----------
    visit : in which it happened
    error : what happened
    status : of the answer
    """
    content = {"code": error.code, "sentence": error.sentence, "next_step": error.next_step}
    return visit.page("error.html", content, status)
