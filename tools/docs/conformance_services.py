"""Storage commitment and DICOMweb in the DICOM Conformance Statement; `conformance` puts it together."""

from __future__ import annotations

from typing import Final

from orgseg_node.dicom.objects.storage_commitment import Reason
from orgseg_node.node.dimse import commitment_desk as desk
from orgseg_node.node.dimse import storage_scp
from orgseg_node.web import stow

COMMITTING: Final = """\
Storage commitment, as provider. A request is durable before it is answered with 0x0000. Then each object is
looked up and its file read: only what lies here with the bytes that were received is reported as kept. The
report (N-EVENT-REPORT) always comes by an association of its own, to the host and port configured for the
requester, with SCP/SCU role selection; it is tried again for hours, over restarts. The node is no archive:
it keeps series for a retention time after delivery, and what was deleted since is reported with 0x0112.
"""

CONFIRMING: Final = """\
Storage commitment, as user, where a destination is configured for it: when all objects of a job are stored
there, N-ACTION asks for them; every question has a transaction UID of its own. The report is taken over the
same association, which is held open for a moment, or by an association that the destination opens under its
AE title, proposing the role of provider. Objects that are kept are shown as confirmed; others are sent
again as the same objects. Without an answer the question is put again, three times in all; then the objects
are shown as stored, not confirmed. Reports on unknown transactions, or from another AE title, are answered
with 0x0112, unreadable ones with 0x0115, and such that could not be remembered with 0x0110.
"""

STOW_IN: Final = """\
Images may be stored by STOW-RS (PS3.18 10.5) where the configuration names a file of tokens: `POST
{path}/studies` and `{path}/studies/STUDY`, `multipart/related; type="application/dicom"`, answered in
`application/dicom+json`. Requests come with a bearer token (RFC 6750), which belongs to an AE title; a
token of which the SHA-256 is not listed, or from another network, is refused before the body is read. SOP
classes, transfer syntaxes and durability are those of C-STORE. There is no Retrieve URL, for nothing is
given out.
"""

STOW_OUT: Final = """\
A destination with a `url` gets its objects by STOW-RS, each in a request of its own, as they are on the
disk. Its certificate is always verified. Who sends is told by a bearer token or a password, both from
files. The entry of an object in the answer counts; without one, 200 is stored. 5xx, 408, 425 and 429 are
tried again as if nobody had answered, 401 and 403 as not authorised, all others as refused.
"""


def commitment_statuses() -> list[list[str]]:
    """What N-ACTION is answered."""
    rows = [
        (desk.SUCCESS, "the request is remembered; also the very same request again"),
        (desk.PROCESSING_FAILURE, "it could not be remembered; ask again"),
        (desk.NO_SUCH_INSTANCE, "not the well-known instance"),
        (desk.INVALID_ARGUMENT, "unreadable, without transaction UID or without objects"),
        (desk.NO_SUCH_ACTION, "another action than 1"),
        (desk.NOT_AUTHORISED, "no host and port configured for the requester"),
        (desk.DUPLICATE_TRANSACTION, "the requester used this transaction UID for other objects"),
    ]
    return [[f"0x{status:04X}", when] for status, when in rows]


def commitment_reasons() -> list[list[str]]:
    """Why an object is reported as not kept."""
    when = {
        Reason.PROCESSING_FAILURE: "the file is missing, or is not what was received",
        Reason.NO_SUCH_INSTANCE: "never received, or deleted after the retention time",
        Reason.CLASS_INSTANCE_CONFLICT: "its SOP class is another",
    }
    return [[f"0x{reason:04X}", when[reason]] for reason in Reason]


def stow_reasons() -> list[list[str]]:
    """Why an instance that came by STOW-RS is not stored."""
    return [
        [f"0x{storage_scp.OUT_OF_RESOURCES:04X}", "disk full, or any doubt; send again"],
        [f"0x{storage_scp.NOT_MATCHING:04X}", "of another study than the address names"],
        [f"0x{storage_scp.CANNOT_UNDERSTAND:04X}", "unreadable, or without its UIDs"],
        [f"0x{stow.CLASS_NOT_SUPPORTED:04X}", "SOP class not supported"],
        [f"0x{stow.SYNTAX_NOT_SUPPORTED:04X}", "transfer syntax not supported"],
    ]


def stow_statuses() -> list[list[str]]:
    """What requests by STOW-RS are answered."""
    return [
        ["200, 202, 409", "all, some, none of the instances are stored"],
        [
            "400, 413, 408",
            "broken or too large body, or silence; the answer lists what was stored until then",
        ],
        ["401, 403", "token unknown; its owner is not listed, or not from this network"],
        ["406, 415", "another media type is wanted, or was sent"],
        ["503 with Retry-After", "too many requests, or no room: send again"],
    ]
