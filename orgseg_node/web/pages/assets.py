"""Stylesheet, scripts and icon of the pages, served from memory under a path that contains their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from orgseg_node.web.pages.headers import with_headers

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOLDERS: Final = ("static", "vendor")


@dataclass(frozen=True, slots=True)
class Assets:
    """The files, and the hash of all of them."""

    digest: str
    files: Mapping[str, bytes]

    def path(self, name: str) -> str:
        """The address of a file; another content has another address."""
        return f"/static/{self.digest}/{name}"


@cache
def assets() -> Assets:
    """All files that a browser may load."""
    found: dict[str, bytes] = {}
    for folder in _FOLDERS:
        for file in resources.files("orgseg_node.web.pages").joinpath(folder).iterdir():
            if any(file.name.endswith(end) for end in _TYPES):
                found[file.name] = file.read_bytes()
    whole = hashlib.sha256()
    for name in sorted(found):
        whole.update(name.encode() + b"\0" + hashlib.sha256(found[name]).digest())
    return Assets(whole.hexdigest()[:16], found)


async def serve_asset(request: Request) -> Response:
    """Answer with a file; names are looked up in a table, never on the disk."""
    known, name = assets(), str(request.path_params["name"])
    content = known.files.get(name)
    if content is None or request.path_params["digest"] != known.digest:
        return with_headers(Response("Not found.\n", 404, media_type="text/plain"))
    kind = _TYPES[name[name.rindex(".") :]]
    response = with_headers(Response(content, media_type=kind))
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response
