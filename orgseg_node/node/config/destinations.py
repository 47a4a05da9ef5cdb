"""Configuration of destinations: planning systems and archives, by DICOM or by DICOMweb."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag

from orgseg_node.contouring.object_roles import roles_of
from orgseg_node.errors import ConfigError
from orgseg_node.node.config.secrets import read_secret
from orgseg_node.node.config.section import AeTitle, Section, tables
from orgseg_node.node.config.tls import PeerTls, TlsSection, resolve_peer_tls
from orgseg_node.node.tls.context import client_context

Role = Literal["RTSTRUCT", "SEG", "SR", "PDF", "CT"]
Tps = Literal["generic", "eclipse", "raystation", "monaco", "pinnacle"]
ROLES: Final[tuple[Role, ...]] = ("RTSTRUCT", "SEG")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
"""Allowed names of destinations and sources."""

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
        raise ValueError("an address without user, query or fragment; a password belongs in password_file")
    return value.rstrip("/")


class Recipient(Section):
    """Settings common to both kinds of destinations.

    Attributes
    ----------
    objects : kinds of objects that are sent to it; ``CT`` is the planning CT itself, as it was received
    tps : planning system for which its RTSTRUCT is written; the general one when None
    timeout_s : how long to wait for each answer
    at_once : how many jobs are sent to it at the same time
    alternate : name of the destination that gets the objects that this one does not accept
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
        """The roles of its objects, which refer to nothing that it does not get (see `object_roles`)."""
        return roles_of(self.objects, self.tps)


class Destination(Recipient, PeerTls):
    """A destination that is reached by DICOM.

    Attributes
    ----------
    ae_title : its AE title
    calling_ae_title : AE title that the node uses there; its own when None
    commitment : whether it is asked for storage commitment (PS3.4 Annex J)
    commitment_timeout_h : how long its report may take before it is asked again
    """

    ae_title: AeTitle
    calling_ae_title: AeTitle | None = None
    commitment: bool = False
    commitment_timeout_h: Annotated[float, Field(gt=0, le=24 * 30)] = 24.0

    @property
    def description(self) -> str:
        """The destination in messages."""
        return f"{self.ae_title} at {self.host}:{self.port}"


class WebDestination(Recipient):
    """A destination that is reached by DICOMweb, STOW-RS (PS3.18 10.5).

    Attributes
    ----------
    url : address of the service; ``/studies`` is added to it
    token_file : file with a bearer token
    user, password_file : for basic authentication
    ca_file : PEM file with the CA of the server's certificate; the CAs of the system when None
    """

    url: Annotated[str, AfterValidator(_url)]
    token_file: Path | None = None
    user: Annotated[str, Field(min_length=1)] | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    @property
    def description(self) -> str:
        """The destination in messages."""
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
    """The same destination with absolute paths, and with the node's TLS files where it sets none.

    Parameters
    ----------
    one : the destination
    tls : the section ``tls`` of the node
    base : folder to which paths are relative
    """
    if isinstance(one, Destination):
        return resolve_peer_tls(one, tls, base)
    named = {name: getattr(one, name) for name in _FILES}
    return one.model_copy(
        update={name: base / path.expanduser() for name, path in named.items() if path is not None}
    )


def setting_path(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """The path of a setting as pydantic reports it, without the kind of destination that pydantic inserts."""
    return (*path[:2], *path[3:]) if path[:1] == ("destinations",) and len(path) > 2 else path


def destination_contradictions(data: dict[str, Any]) -> list[str]:
    """List contradictions between settings of destinations; also runs with invalid fields."""
    destinations = dict(tables(data.get("destinations")))
    problems = _identity_problems(destinations, dict(tables(data)).get("node", {}))
    for name, destination in destinations.items():
        here = f"destinations.{name}"
        problems += [f"{here}.{line}" for line in _alternate_problems(name, destination, destinations)]
        if "url" in destination:
            problems += [f"{here}.{line}" for line in _web_problems(destination)]
        elif destination.get("commitment") is True and not _may_call_node(
            str(destination.get("ae_title")), data
        ):
            title = destination.get("ae_title")
            problems.append(f"{here}.commitment: [[peers]] must list {title!r}, because it calls to report")
    return problems


def _identity_problems(destinations: dict[str, dict[str, Any]], own: dict[str, Any]) -> list[str]:
    """List what is wrong with names, addresses and lists of objects."""
    problems = []
    own_address = (own.get("ae_title", "ORGSEG"), own.get("port", 11112))
    seen: dict[tuple[str, ...], str] = {}
    for name, destination in destinations.items():
        if not NAME.fullmatch(name):
            problems.append(f"destinations.{name}: a name has up to 32 letters, digits, '-' or '_'")
        key = tuple(str(destination.get(part)).lower() for part in ("ae_title", "host", "port", "url"))
        if key in seen:
            same = "address" if "url" in destination else "AE title, host and port"
            problems.append(f"destinations.{name}: the same {same} as {seen[key]!r}")
        seen[key] = name
        if (destination.get("ae_title"), destination.get("port")) == own_address:
            problems.append(f"destinations.{name}: this is the node itself")
        objects = destination.get("objects", ROLES)
        if isinstance(objects, (list, tuple)) and (
            not objects or len(set(map(str, objects))) != len(objects)
        ):
            problems.append(f"destinations.{name}.objects: name each object once, and at least one")
    return problems


def _may_call_node(ae_title: str, data: dict[str, Any]) -> bool:
    """Whether a destination may open associations to the node."""
    listed = {str(peer.get("ae_title")) for _, peer in tables(data.get("peers"))}
    return ae_title in listed or bool(dict(tables(data)).get("receiver", {}).get("accept_any_calling_ae"))


def _alternate_problems(
    name: str, destination: dict[str, Any], destinations: dict[str, dict[str, Any]]
) -> list[str]:
    alternate = destination.get("alternate")
    if not isinstance(alternate, str):
        return []
    if alternate == name:
        return ["alternate: is the destination itself"]
    if alternate not in destinations:
        return [f"alternate: there is no destination {alternate!r}"]
    problems = []
    if destinations[alternate].get("alternate"):
        problems.append(f"alternate: {alternate!r} has an alternate itself; there is only one step")
    if destinations[alternate].get("tps") != destination.get("tps"):
        problems.append(f"alternate: {alternate!r} gets the same objects and must have the same tps")
    return problems


def _web_problems(destination: dict[str, Any]) -> list[str]:
    problems = [
        f"{name}: belongs to a DICOM destination; it has no effect with url"
        for name in _DICOM_ONLY
        if name in destination
    ]
    secrets = [name for name in ("token_file", "password_file") if destination.get(name)]
    if len(secrets) > 1:
        problems.append("token_file: either a token or a password, not both")
    if bool(destination.get("user")) != bool(destination.get("password_file")):
        problems.append("user: user and password_file belong together")
    try:
        parts = urlsplit(str(destination["url"]))
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
    """List what is wrong with the files that DICOMweb destinations name."""
    problems = []
    for name, destination in tables(data.get("destinations")):
        for setting in _FILES if "url" in destination else ():
            if not isinstance(destination.get(setting), str):
                continue
            path = base / Path(destination[setting]).expanduser()
            try:
                if setting == "ca_file":
                    client_context(path, None)
                else:
                    read_secret(path)
            except ConfigError as error:
                problems.append(f"destinations.{name}.{setting}: {error.detail}")
    return problems
