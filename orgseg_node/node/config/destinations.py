"""Where finished objects go: planning systems and archives, by DICOM or by DICOMweb."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.secrets import read_secret
from orgseg_node.node.config.section import AeTitle, Section, tables
from orgseg_node.node.config.tls import PeerTls, TlsSection, resolve_peer
from orgseg_node.node.tls.context import client_context

Role = Literal["RTSTRUCT", "SEG", "SR", "PDF"]
Tps = Literal["generic", "eclipse", "raystation", "monaco", "pinnacle"]
ROLES: Final[tuple[Role, ...]] = ("RTSTRUCT", "SEG")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
"""How a destination or source may be called."""

_DICOM_ONLY: Final = ("ae_title", "host", "port", "calling_ae_title", "commitment", "tls")
_FILES: Final = ("token_file", "password_file", "ca_file")


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("the address of a DICOMweb service, such as https://pacs.clinic/dicomweb")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("an address without user, query or fragment; a password stands in password_file")
    return value.rstrip("/")


class Recipient(Section):
    """What is said of a destination of either kind.

    Attributes
    ----------
    objects : which objects it gets
    tps : whose RTSTRUCT it gets; that of the protocol when None
    timeout_s : how long it may be silent
    at_once : how many jobs are sent to it at the same time
    alternate : name of the destination that gets what this one does not take
    alternate_after_h : how long this one is tried before
    """

    objects: tuple[Role, ...] = ROLES
    tps: Tps | None = None
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    at_once: Annotated[int, Field(ge=1, le=20)] = 2
    alternate: str | None = None
    alternate_after_h: Annotated[float, Field(ge=0, le=24 * 30)] = 1.0

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the objects it gets: an RTSTRUCT for a named planning system is one of its own."""
        own = {"RTSTRUCT": f"RTSTRUCT:{self.tps}"} if self.tps else {}
        return tuple(own.get(role, role) for role in self.objects)


class Destination(Recipient, PeerTls):
    """A destination that is reached by DICOM.

    Attributes
    ----------
    calling_ae_title : how the node calls itself there; its own AE title when None
    commitment : whether it is asked to confirm that it keeps what it was sent (PS3.4 Annex J)
    commitment_timeout_h : how long an answer may take before it is asked again
    """

    ae_title: AeTitle
    calling_ae_title: AeTitle | None = None
    commitment: bool = False
    commitment_timeout_h: Annotated[float, Field(gt=0, le=24 * 30)] = 24.0

    @property
    def description(self) -> str:
        """How it is called in messages."""
        return f"{self.ae_title} at {self.host}:{self.port}"


class WebDestination(Recipient):
    """A destination that is reached by DICOMweb, STOW-RS (PS3.18 10.5).

    Attributes
    ----------
    url : the service; ``/studies`` is added to it
    token_file : file with a bearer token
    user, password_file : for basic authentication
    ca_file : PEM file with the certificates that sign the server's; those of the system when None
    """

    url: Annotated[str, AfterValidator(_url)]
    token_file: Path | None = None
    user: Annotated[str, Field(min_length=1)] | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    @property
    def description(self) -> str:
        """How it is called in messages."""
        return self.url


def _kind(value: Any) -> str:
    has_url = "url" in value if isinstance(value, dict) else isinstance(value, WebDestination)
    return "web" if has_url else "dicom"


AnyDestination = Annotated[
    Annotated[Destination, Tag("dicom")] | Annotated[WebDestination, Tag("web")], Discriminator(_kind)
]


def resolve_destination(
    one: Destination | WebDestination, tls: TlsSection, base: Path
) -> Destination | WebDestination:
    """A destination with files relative to a folder, and from the section tls what it lacks."""
    if isinstance(one, Destination):
        return resolve_peer(one, tls, base)
    named = {name: getattr(one, name) for name in _FILES}
    return one.model_copy(
        update={name: base / path.expanduser() for name, path in named.items() if path is not None}
    )


def setting_path(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """The name of a setting as pydantic tells it, without the kind of destination that it puts in between."""
    return (*place[:2], *place[3:]) if place[:1] == ("destinations",) and len(place) > 2 else place


def destination_contradictions(data: dict[str, Any]) -> list[str]:
    """What is wrong between settings of destinations; bears a file in which single settings are wrong."""
    places = dict(tables(data.get("destinations")))
    problems = _identity_problems(places, dict(tables(data)).get("node", {}))
    for name, place in places.items():
        here = f"destinations.{name}"
        problems += [f"{here}.{line}" for line in _alternate_problems(name, place, places)]
        if "url" in place:
            problems += [f"{here}.{line}" for line in _web_problems(place)]
        elif place.get("commitment") is True and not _may_call_node(str(place.get("ae_title")), data):
            problems.append(
                f"{here}.commitment: [[peers]] must list {place.get('ae_title')!r}, for it answers by a call"
            )
    return problems


def _identity_problems(places: dict[str, dict[str, Any]], own: dict[str, Any]) -> list[str]:
    """What is wrong with names, addresses and lists of objects."""
    problems = []
    own_place = (own.get("ae_title", "ORGSEG"), own.get("port", 11112))
    seen: dict[tuple[str, ...], str] = {}
    for name, place in places.items():
        if not NAME.fullmatch(name):
            problems.append(f"destinations.{name}: a name has up to 32 letters, digits, '-' or '_'")
        key = tuple(str(place.get(part)).lower() for part in ("ae_title", "host", "port", "url"))
        if key in seen:
            same = "address" if "url" in place else "AE title, host and port"
            problems.append(f"destinations.{name}: the same {same} as {seen[key]!r}")
        seen[key] = name
        if (place.get("ae_title"), place.get("port")) == own_place:
            problems.append(f"destinations.{name}: this is the node itself")
        objects = place.get("objects", ROLES)
        if isinstance(objects, (list, tuple)) and (
            not objects or len(set(map(str, objects))) != len(objects)
        ):
            problems.append(f"destinations.{name}.objects: name each object once, and at least one")
    return problems


def _may_call_node(ae_title: str, data: dict[str, Any]) -> bool:
    """Whether a destination may call the node."""
    listed = {str(peer.get("ae_title")) for _, peer in tables(data.get("peers"))}
    return ae_title in listed or bool(dict(tables(data)).get("receiver", {}).get("accept_any_calling_ae"))


def _alternate_problems(name: str, place: dict[str, Any], places: dict[str, dict[str, Any]]) -> list[str]:
    alternate = place.get("alternate")
    if not isinstance(alternate, str):
        return []
    if alternate == name:
        return ["alternate: is the destination itself"]
    if alternate not in places:
        return [f"alternate: there is no destination {alternate!r}"]
    problems = []
    if places[alternate].get("alternate"):
        problems.append(f"alternate: {alternate!r} has an alternate itself; there is only one step")
    if places[alternate].get("tps") != place.get("tps"):
        problems.append(f"alternate: {alternate!r} gets the same objects and must have the same tps")
    return problems


def _web_problems(place: dict[str, Any]) -> list[str]:
    problems = [
        f"{name}: belongs to a DICOM destination; with url it means nothing"
        for name in _DICOM_ONLY
        if name in place
    ]
    secrets = [name for name in ("token_file", "password_file") if place.get(name)]
    if len(secrets) > 1:
        problems.append("token_file: either a token or a password, not both")
    if bool(place.get("user")) != bool(place.get("password_file")):
        problems.append("user: user and password_file belong together")
    try:
        parts = urlsplit(str(place["url"]))
    except ValueError:
        return problems
    if secrets and parts.scheme == "http" and not _is_this_machine(parts):
        problems.append(f"{secrets[0]}: a secret is sent by https only")
    return problems


def _is_this_machine(parts: SplitResult) -> bool:
    try:
        return parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def destination_file_problems(data: dict[str, Any], base: Path) -> list[str]:
    """What is wrong with the files that destinations by DICOMweb name."""
    problems = []
    for name, place in tables(data.get("destinations")):
        for setting in _FILES if "url" in place else ():
            if not isinstance(place.get(setting), str):
                continue
            path = base / Path(place[setting]).expanduser()
            try:
                if setting == "ca_file":
                    client_context(path, None)
                else:
                    read_secret(path)
            except ConfigError as error:
                problems.append(f"destinations.{name}.{setting}: {error.detail}")
    return problems
