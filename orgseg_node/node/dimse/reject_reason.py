"""Why a peer rejected an association (PS3.8 9.3.4)."""

from __future__ import annotations

from typing import Final

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE

_NO_REASON: Final = "no reason given"

_REASONS: Final[dict[tuple[int | None, int | None], str]] = {
    (1, 1): _NO_REASON,
    (1, 2): "application context not supported",
    (1, 3): "it does not know the calling AE title",
    (1, 7): "it does not know the called AE title",
    (2, 1): _NO_REASON,
    (2, 2): "protocol version not supported",
    (3, 1): "it is congested",
    (3, 2): "it has too many associations",
}


def reject_reason(requested: Association) -> str | None:
    """Why the peer rejected an association that this node requested; None if it did not reject it.

    A peer that rejects at once may close the connection before pynetdicom checks whether it was open.
    pynetdicom 3.0.4 then reports the peer as unreachable, and its answer stays unread in the queue.
    """
    answer = requested.acceptor.primitive or requested.dul.peek_next_pdu()
    if not isinstance(answer, A_ASSOCIATE) or answer.result not in (1, 2):
        return None
    return _REASONS.get((answer.result_source, answer.diagnostic), _NO_REASON)
