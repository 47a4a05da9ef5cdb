"""The software that runs in the node: name, version and licence, as the installed packages state it."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from packaging.requirements import Requirement

_ROOT: Final = "orgseg-node"
_LONGEST: Final = 60
_HTMX: Final = "2.0.11"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Software:
    """One package."""

    name: str
    version: str
    licence: str


@cache
def software() -> tuple[Software, ...]:
    """The node, whatever it needs, and what its pages load in the browser; by name."""
    found: dict[str, Software] = {}
    waiting = [_ROOT]
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        try:
            one = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on other systems only
        if key in found:
            continue
        found[key] = Software(name=key, version=one.version, licence=_licence(one))
        for text in one.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name)
    return tuple(sorted([*found.values(), Software(name="htmx", version=_HTMX, licence="0BSD")]))


def _licence(one: importlib.metadata.Distribution) -> str:
    for stated in one.metadata.get_all("License-Expression") or ():
        return str(stated)
    classes = [
        str(line).rpartition(" :: ")[2]
        for line in one.metadata.get_all("Classifier") or ()
        if str(line).startswith("License ::")
    ]
    named = [name for name in classes if name != "OSI Approved"]
    if named:
        return ", ".join(named)
    texts = [str(text).strip() for text in one.metadata.get_all("License") or ()]
    return next((text.splitlines()[0][:_LONGEST] for text in texts if text), "")
