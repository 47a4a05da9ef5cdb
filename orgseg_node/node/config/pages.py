"""Configuration section ``pages``: the pages for people on the node's web port."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from orgseg_node.node.config.section import Section, tables

_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_OF_HTTP: Final = frozenset({"host", "cookie", "origin", "accept", "authorization", "content-type"})


def _header(value: str) -> str:
    if not _HEADER.fullmatch(value) or value.lower() in _OF_HTTP:
        raise ValueError("not the name of a header that a proxy may set, such as X-Forwarded-User")
    return value


def _network(value: str) -> str:
    return str(ipaddress.ip_network(value))


HeaderName = Annotated[str, AfterValidator(_header)]
RoleName = Literal["viewer", "reviewer", "physicist", "administrator"]


class ProxySection(Section):
    """A reverse proxy that has already asked who a person is, such as oauth2-proxy with the hospital's login.

    Attributes
    ----------
    header : in which the proxy states the name of the person
    networks : addresses of the proxy; from any other address a request with this header is refused
    groups_header : in which it states the groups of the person, separated by ``,`` or ``|``
    roles : what members of a group may do; without it, roles are those of the account
    """

    header: HeaderName
    networks: Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Field(min_length=1)]
    groups_header: HeaderName | None = None
    roles: dict[str, Annotated[tuple[RoleName, ...], Field(min_length=1)]] = Field(default_factory=dict)

    def is_proxy(self, address: str) -> bool:
        """Whether this is an address of the proxy."""
        try:
            host = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
            host = host.ipv4_mapped
        return any(host in ipaddress.ip_network(network) for network in self.networks)


class PagesSection(Section):
    """The pages for people: cases, contours, review, models. They need ``[web] port`` and accounts.

    Attributes
    ----------
    enabled : whether there are pages
    language : of a browser that asks for neither English nor German
    idle_minutes : a person who did nothing for this time has to log in again
    longest_hours : a person has to log in again after this time in any case
    proxy : a reverse proxy that says who the person is; None if persons log in on the pages only
    """

    enabled: bool = False
    language: Literal["en", "de"] = "en"
    idle_minutes: Annotated[float, Field(gt=0, le=480)] = 15.0
    longest_hours: Annotated[float, Field(gt=0, le=24)] = 10.0
    proxy: ProxySection | None = None


def pages_contradictions(data: dict[str, Any]) -> list[str]:
    """List contradictions with the other sections; also runs on a configuration with invalid fields."""
    sections = dict(tables(data))
    web = sections.get("web", {})
    if not sections.get("pages", {}).get("enabled"):
        return []
    problems = _proxy_contradictions(sections["pages"].get("proxy"))
    if web.get("port") is None:
        problems.append("pages.enabled: the pages need [web] port")
    if not web.get("certificate") and not is_loopback(str(web.get("host") or "127.0.0.1")):
        problems.append(
            "pages.enabled: patient data leave this machine only by HTTPS; set web.certificate and web.key,"
            ' or web.host = "127.0.0.1"'
        )
    return problems


def _proxy_contradictions(proxy: Any) -> list[str]:
    if not isinstance(proxy, dict):
        return []
    if bool(proxy.get("roles")) != bool(proxy.get("groups_header")):
        return ["pages.proxy: roles and groups_header belong together; set both, or neither"]
    same = str(proxy.get("groups_header")).lower() == str(proxy.get("header")).lower()
    return ["pages.proxy: header and groups_header are the same"] if same else []


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
