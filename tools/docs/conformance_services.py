"""Storage commitment and DICOMweb in the DICOM Conformance Statement; `conformance` assembles it."""

from __future__ import annotations

from typing import Final

from orgseg_node.node.dimse import c_store
from orgseg_node.web import stow

NO_COMMITMENT_PROVIDER: Final = """\
Storage commitment is not provided to senders. The node keeps a series only for a retention time after its
results were delivered (30 days unless configured otherwise) and then deletes it. A scanner that received a
commitment would delete its own copy, and the image could then be lost. So the presentation context of storage
commitment is rejected, unless the caller proposes the role of provider or has the AE title of a destination:
it is accepted only for reports (N-EVENT-REPORT) on objects that the node has sent. N-ACTION is answered with
{status}.
"""

COMMITMENT_USER: Final = """\
Storage commitment, as user, where a destination is configured for it: when all objects of a job are stored
there, the node asks for their commitment by N-ACTION; every request has a transaction UID of its own. The
report is accepted over the same association, which is held open for 2 s, or over an association that the
destination opens under its AE title, with or without proposing the role of provider. Objects that are kept
are shown as confirmed; the others are sent again as the same objects. Without a report the request is
repeated, three times in all; then the objects are shown as stored, not confirmed. Reports on unknown
transactions, or from another AE title, are answered with 0x0112, unreadable ones with 0x0115, and those that
could not be stored with 0x0110.
"""

STOW_IN: Final = """\
Images may be stored by STOW-RS (PS3.18 10.5) if the configuration names a file of tokens: `POST
{path}/studies` and `{path}/studies/STUDY`, `multipart/related; type="application/dicom"`, answered in
`application/dicom+json`. Requests need a bearer token (RFC 6750), which belongs to an AE title; a token whose
SHA-256 is not listed, or from another network, is refused before the body is read. SOP classes, transfer
syntaxes and durability are those of C-STORE. There is no Retrieve URL: objects cannot be retrieved from the
node.
"""

STOW_OUT: Final = """\
A destination with a `url` gets its objects by STOW-RS, each in a request of its own, as they are on the
disk. Its certificate is always verified. The node identifies itself by a bearer token or a password, both
from files. The entry of the object in the response decides; without an entry, status 200 is stored. 5xx, 408,
425 and 429 are tried again like no answer, 401 and 403 as not authorised, all others are refused.
"""


def stow_reasons() -> list[list[str]]:
    """The failure reasons of STOW-RS."""
    return [
        [f"0x{c_store.OUT_OF_RESOURCES:04X}", "disk full, or any doubt; send again"],
        [f"0x{c_store.NOT_MATCHING:04X}", "of another study than the URL names"],
        [f"0x{c_store.CANNOT_UNDERSTAND:04X}", "unreadable, or without its UIDs"],
        [f"0x{stow.CLASS_NOT_SUPPORTED:04X}", "SOP class not supported"],
        [f"0x{stow.SYNTAX_NOT_SUPPORTED:04X}", "transfer syntax not supported"],
    ]


def stow_statuses() -> list[list[str]]:
    """The HTTP statuses of STOW-RS."""
    return [
        ["200, 202, 409", "all, some, none of the instances are stored"],
        [
            "400, 413, 408",
            "broken or too large body, or time-out; the response lists what was stored until then",
        ],
        ["401, 403", "token unknown; its owner is not listed, or not allowed from this network"],
        ["406, 415", "another media type is requested, or was sent"],
        ["503 with Retry-After", "too many requests, or no disk space: send again"],
    ]
