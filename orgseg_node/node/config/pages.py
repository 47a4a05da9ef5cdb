"""Configuration section ``pages``: the pages for people on the node's web port."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import Field

from orgseg_node.node.config.section import Section, tables


class PagesSection(Section):
    """The pages for people: cases, contours, review, models. They need ``[web] port`` and accounts.

    Attributes
    ----------
    enabled : whether there are pages
    language : of a browser that asks for neither English nor German
    idle_minutes : a person who did nothing for this time has to log in again
    longest_hours : a person has to log in again after this time in any case
    """

    enabled: bool = False
    language: Literal["en", "de"] = "en"
    idle_minutes: Annotated[float, Field(gt=0, le=480)] = 15.0
    longest_hours: Annotated[float, Field(gt=0, le=24)] = 10.0


def pages_contradictions(data: dict[str, Any]) -> list[str]:
    """List contradictions with the other sections; also runs on a configuration with invalid fields."""
    sections = dict(tables(data))
    web = sections.get("web", {})
    if not sections.get("pages", {}).get("enabled"):
        return []
    problems = []
    if web.get("port") is None:
        problems.append("pages.enabled: the pages need [web] port")
    if not web.get("certificate") and not is_loopback(str(web.get("host") or "127.0.0.1")):
        problems.append(
            "pages.enabled: patient data leave this machine only by HTTPS; set web.certificate and web.key,"
            ' or web.host = "127.0.0.1"'
        )
    return problems


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
