"""What the node's own port does for storage commitment: requests of senders, answers of destinations."""

from __future__ import annotations

from typing import Any, Final

import structlog
from pynetdicom import AE, evt
from pynetdicom.events import Event

from orgseg_node.dicom.objects.storage_commitment import ACTION, INSTANCE, PUSH_MODEL, read_request
from orgseg_node.errors import InvalidAttribute
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.commitment_requests import CommitmentRequests
from orgseg_node.node.dimse.commitment_scp import SYNTAXES
from orgseg_node.node.dimse.commitment_scu import CommitmentAsker
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.store import Store

# PS3.7 annex C; 0x0131 is from PS3.3 C.14.1.1
SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
INVALID_ARGUMENT: Final = 0x0115
NO_SUCH_ACTION: Final = 0x0123
NOT_AUTHORISED: Final = 0x0124
DUPLICATE_TRANSACTION: Final = 0x0131

_log = structlog.get_logger("orgseg.commitment")


class CommitmentDesk:
    """Handlers for the receiver.

    Parameters
    ----------
    config : who may ask
    store : the node's memory
    asker : takes the answers of destinations in
    clock : where the time comes from
    """

    def __init__(
        self,
        config: NodeConfig | CurrentConfig,
        store: Store,
        asker: CommitmentAsker,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._requests = CommitmentRequests(store.database, clock=clock)
        self._asker = asker

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    def join(self, ae: AE) -> list[Any]:
        """Offer the service in both roles (PS3.7 D.3.3.4), and the handlers that belong to it."""
        ae.add_supported_context(PUSH_MODEL, SYNTAXES, scu_role=True, scp_role=True)
        return [(evt.EVT_N_ACTION, self._action), (evt.EVT_N_EVENT_REPORT, self._event_report)]

    def _action(self, event: Event) -> tuple[int, None]:
        peer = event.assoc.requestor.ae_title
        try:
            status = self._take(event, peer)
        except InvalidAttribute as error:
            _log.warning("commitment request unreadable", peer=peer, code=error.code)
            status = INVALID_ARGUMENT
        except Exception as error:  # noqa: BLE001 (whatever it is, the sender must not take it for a promise)
            _log.error("commitment request not kept", peer=peer, kind=type(error).__name__)
            status = PROCESSING_FAILURE
        return status, None

    def _take(self, event: Event, peer: str) -> int:
        """Remember a request; the status, which is Success only for what is on the disk."""
        request: Any = event.request
        if request.ActionTypeID != ACTION:
            return NO_SUCH_ACTION
        if request.RequestedSOPInstanceUID != INSTANCE:
            return NO_SUCH_INSTANCE
        if self._config.listening(peer) is None:
            _log.warning("commitment asked by a peer without host and port", peer=peer)
            return NOT_AUTHORISED
        transaction_uid, items = read_request(event.action_information)
        if not self._requests.add(peer, transaction_uid, items):
            _log.warning("transaction used twice", peer=peer)
            return DUPLICATE_TRANSACTION
        _log.info("commitment requested", peer=peer, objects=len(items))
        return SUCCESS

    def _event_report(self, event: Event) -> tuple[int, None]:
        return self._asker.take(event, event.assoc.requestor.ae_title), None
