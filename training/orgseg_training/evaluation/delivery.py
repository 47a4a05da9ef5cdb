"""What the node makes of organs before it sends them, and the scan that several networks look at."""

from __future__ import annotations

from typing import Final

from orgseg_node.contouring.protocol import ASK, Protocol
from orgseg_node.core.body import Body, find_body
from orgseg_node.core.volume import Volume
from orgseg_training.datasets.case_store import StoredCase

NODE_PROTOCOL: Final = "default"
"""The protocol with which a node contours unless its configuration names another one."""

_NO_LABELS: Final = {"name": None, "color": None, "type": None}


def tidying_of(protocol: Protocol) -> Protocol:
    """The part of a protocol that changes the organs of a network: tidying, and the smallest volumes.

    Names, derived structures and what is not sent are left out: every organ is compared, as it would be sent.
    An organ that the protocol splits stays whole, since the network's own organ is compared.

    Parameters
    ----------
    protocol : of the node
    """
    organs = tuple(entry.model_copy(update=_NO_LABELS) for entry in protocol.organs if entry.split is None)
    return protocol.model_copy(
        update={
            "description": "",
            "profile": "generic",
            "phase": ASK,
            "others": "keep",
            "structures": organs,
            "external": None,
        }
    )


class LastScan:
    """Volume and body of the scan that was asked for last: several networks look at it one after another."""

    def __init__(self) -> None:
        self._key = ""
        self._volume: Volume | None = None
        self._body: Body | None = None

    def volume(self, case: StoredCase) -> Volume:
        """The volume of a scan. Raises StorageError."""
        key = f"{case.key} {case.voxels_sha256}"
        if self._volume is None or key != self._key:
            self._key, self._volume, self._body = key, case.volume(), None
        return self._volume

    def body(self, case: StoredCase) -> Body:
        """The body in a scan.

        Raises
        ------
        BodyNotFound
            If there is none.
        """
        volume = self.volume(case)
        if self._body is None:
            self._body = find_body(volume)
        return self._body
