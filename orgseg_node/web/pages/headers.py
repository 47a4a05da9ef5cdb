"""Headers of every answer of the pages: what a browser may do with it."""

from __future__ import annotations

from typing import Final, TypeVar

from starlette.responses import Response

R = TypeVar("R", bound=Response)

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Content Security Policy: nothing from elsewhere, and no script or style inside a page."""

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}


def with_headers(response: R) -> R:
    """The same answer with these headers; it is stored by no browser and no proxy."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
