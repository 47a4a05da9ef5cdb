"""Asks archives to confirm that they keep the objects they were sent (storage commitment SCU, PS3.4 J.3).

The archive reports over the same association if it is quick, otherwise over an association that
it opens to the node's port. An object that the archive does not keep is sent again. An archive that
never reports is asked again a few times; then the objects are shown as stored and not confirmed.

The node is no storage commitment provider (SCP): it deletes series after the retention time, so it must not
confirm to a scanner that the scanner may delete its own copy.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import Any, Final

import pydicom
import structlog
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.events import Event

from orgseg_node.dicom.objects.storage_commitment import (
    ACTION,
    INSTANCE,
    PUSH_MODEL,
    Item,
    Report,
    read_report,
    request_dataset,
)
from orgseg_node.errors import CommitmentRefused, InvalidAttribute, OrgsegError, StorageError, Unreachable
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.destinations import Destination
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.association import destination_association
from orgseg_node.node.isolation import Isolation
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.commitment_pending import Confirmations, Unconfirmed
from orgseg_node.node.store.model import Delivery
from orgseg_node.node.store.store import Store

SYNTAXES: Final[list[UID | str]] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]

MAX_REQUESTS: Final = 3
"""How often a destination that does not report is asked."""

# PS3.7 annex C
SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
INVALID_ARGUMENT: Final = 0x0115
UNRECOGNISED_OPERATION: Final = 0x0211

_WAIT_FOR_REPORT_S: Final = 2.0
_THREADS: Final = 4

_log = structlog.get_logger("orgseg.commitment")


class CommitmentScu:
    """Sends requests for storage commitment and receives the reports.

    Parameters
    ----------
    config : destinations, and how long they may take
    store : the node's store
    clock : gives the present time
    """

    def __init__(self, config: NodeConfig | CurrentConfig, store: Store, *, clock: Clock = utc_now) -> None:
        self._current = CurrentConfig.of(config)
        self._store = store
        self._confirmations = Confirmations(store.database, clock=clock)
        self._clock = clock

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    def register(self, ae: AE) -> list[Any]:
        """Let destinations report over associations that they open to the node's port.

        Returns
        -------
        The event handlers that belong to it.
        """
        ae.add_supported_context(PUSH_MODEL, SYNTAXES, scu_role=False, scp_role=True)
        return [
            (evt.EVT_REQUESTED, self._limit_to_reports),
            (evt.EVT_N_ACTION, self._refuse_request),
            (evt.EVT_N_EVENT_REPORT, self._on_event_report),
        ]

    def _limit_to_reports(self, event: Event) -> None:
        """Reject the presentation context of a caller that can only want to ask the node for commitment.

        A caller that reports should propose the role of provider (PS3.7 D.3.3.4). Some archives do not, so a
        destination may report without it.
        """
        request: Any = event.assoc.requestor.primitive
        destinations = self._config.destinations.values()
        titles = {one.ae_title for one in destinations if isinstance(one, Destination)}
        may_report = PUSH_MODEL in event.assoc.requestor.role_selection
        if not may_report and request.calling_ae_title.strip() not in titles:
            acceptor = event.assoc.acceptor
            contexts = acceptor.supported_contexts
            acceptor.supported_contexts = [one for one in contexts if one.abstract_syntax != PUSH_MODEL]

    def _refuse_request(self, event: Event) -> tuple[int, None]:
        """Refuse a request to confirm what the node was sent: it is no provider."""
        _log.warning("commitment request refused", peer=event.assoc.requestor.ae_title)
        return UNRECOGNISED_OPERATION, None

    def _on_event_report(self, event: Event) -> tuple[int, None]:
        return self.receive_report(event, event.assoc.requestor.ae_title), None

    def request_due(self) -> None:
        """Ask every destination whose confirmation is due; one that is down does not delay the others."""
        due = sorted(self._confirmations.due(), key=lambda one: one.destination)
        groups = [list(group) for _, group in groupby(due, key=lambda one: one.destination)]
        isolation = Isolation("commitment")
        if groups:
            with ThreadPoolExecutor(min(_THREADS, len(groups))) as pool:
                for _ in pool.map(partial(self._request_all, isolation), groups):
                    pass
        isolation.finish()

    def _request_all(self, isolation: Isolation, group: Iterable[Unconfirmed]) -> None:
        try:
            for pending in group:
                with isolation.item(f"job {pending.job_id} to {pending.destination}"):
                    self._request(pending)
        finally:
            self._store.close()

    def _request(self, pending: Unconfirmed) -> None:
        destination = self._config.destinations.get(pending.destination)
        now = self._clock()
        if not isinstance(destination, Destination) or not destination.commitment:
            self._waive(pending, "Stored; the configuration does not ask for a confirmation any more.")
            return
        if pending.asks >= MAX_REQUESTS:
            note = f"Stored, not confirmed: the archive did not answer {pending.asks} requests."
            self._waive(pending, note)
            return
        try:
            self._send_request(pending, destination)
        except OrgsegError as error:
            reason = f"{error.code}: {error.sentence}"
            if now - pending.created_at >= timedelta(hours=self._config.delivery.give_up_after_h):
                self._waive(pending, f"Stored, not confirmed: the archive could not be asked. {reason}")
                return
            wait = timedelta(seconds=self._config.delivery.wait_s(pending.tries + 1))
            self._confirmations.not_asked(pending, now + wait, f"The archive could not be asked. {reason}")
            _log.warning(
                "commitment not requested",
                job=pending.job_id,
                destination=pending.destination,
                code=error.code,
            )

    def _waive(self, pending: Unconfirmed, note: str) -> None:
        self._confirmations.waive(pending, note)
        _log.error("not confirmed", job=pending.job_id, destination=pending.destination)

    def _send_request(self, pending: Unconfirmed, destination: Destination) -> None:
        """Send one request. Raises OrgsegError if the destination does not accept it."""
        items = [self._item(delivery) for delivery in self._confirmations.objects(pending)]
        transaction_uid = str(generate_uid(prefix=None))
        self._confirmations.begin(pending, transaction_uid)
        reported = threading.Event()

        def on_report(event: Event) -> tuple[int, None]:
            try:
                return self.receive_report(event, destination.ae_title), None
            finally:
                self._store.close()
                reported.set()

        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, on_report)]
        calling = self._config.calling_ae_for(destination)
        contexts = [(PUSH_MODEL, SYNTAXES)]
        with destination_association(destination, calling, contexts, evt_handlers=handlers) as association:
            try:
                status, _ = association.send_n_action(
                    request_dataset(transaction_uid, items), ACTION, PUSH_MODEL, INSTANCE
                )
            except (ValueError, RuntimeError) as error:
                raise Unreachable(f"{destination.description} closed the connection.") from error
            if "Status" not in status:
                raise Unreachable(f"{destination.description} closed the connection during the request.")
            if status.Status != SUCCESS:
                raise CommitmentRefused(
                    f"{destination.description} answered the request with 0x{status.Status:04X}."
                )
            wait = timedelta(hours=destination.commitment_timeout_h)
            self._confirmations.asked(pending, self._clock() + wait, "The archive was asked to confirm it.")
            _log.info(
                "commitment requested",
                job=pending.job_id,
                destination=pending.destination,
                objects=len(items),
            )
            reported.wait(min(_WAIT_FOR_REPORT_S, destination.timeout_s))

    def _item(self, delivery: Delivery) -> Item:
        path = self._config.node.data_dir / delivery.path
        try:
            found = pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
            return Item(sop_class_uid=str(found.SOPClassUID), sop_uid=delivery.sop_uid)
        except (InvalidDicomError, OSError, EOFError, AttributeError) as error:
            raise StorageError(f"{path.name} cannot be read.") from error

    def receive_report(self, event: Event, calling_ae: str) -> int:
        """Store what an archive reports; the status of the response.

        Parameters
        ----------
        event : the N-EVENT-REPORT
        calling_ae : AE title of the sender; a report in the name of another is refused
        """
        try:
            report = read_report(event.event_information)
            return self.apply_report(report, calling_ae)
        except InvalidAttribute as error:
            _log.warning("commitment report unreadable", peer=calling_ae, code=error.code)
            return INVALID_ARGUMENT
        except OrgsegError as error:
            _log.error("commitment report not stored", peer=calling_ae, code=error.code)
        except Exception as error:  # noqa: BLE001 (after any error the archive must report again)
            _log.error("commitment report not stored", peer=calling_ae, kind=type(error).__name__)
        return PROCESSING_FAILURE

    def apply_report(self, report: Report, calling_ae: str) -> int:
        """Apply a report to the deliveries; the status. Raises StorageError if it cannot be stored."""
        name = self._confirmations.destination_of(report.transaction_uid)
        destination = None if name is None else self._config.destinations.get(name)
        if not isinstance(destination, Destination) or destination.ae_title != calling_ae:
            _log.warning("commitment report without request", peer=calling_ae)
            return NO_SUCH_INSTANCE
        now, delivery = self._clock(), self._config.delivery
        kept, lost = self._confirmations.answered(
            report,
            retry_at=now + timedelta(seconds=delivery.wait_s(1)),
            give_up_before=now - timedelta(hours=delivery.give_up_after_h),
        )
        log = _log.warning if lost else _log.info
        log("commitment reported", destination=name, kept=kept, failed=lost)
        return SUCCESS
