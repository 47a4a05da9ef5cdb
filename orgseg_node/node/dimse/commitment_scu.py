"""Asks archives to confirm that they keep what they were sent (storage commitment SCU, PS3.4 J.3).

The answer comes over the same association if the archive is quick, and else by a call of its own to the
node's port. One that says no makes the object be sent again. One that never answers is asked again a few
times; then the objects are shown as stored and not confirmed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import groupby
from typing import Any, Final

import pydicom
import structlog
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid
from pynetdicom import evt
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
from orgseg_node.node.dimse.commitment_scp import SYNTAXES
from orgseg_node.node.dimse.storage_scu import association_with
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.commitment_pending import Confirmations, Unconfirmed
from orgseg_node.node.store.model import Delivery
from orgseg_node.node.store.store import Store

ASKS: Final = 3
"""So often a destination is asked that does not answer."""

SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
INVALID_ARGUMENT: Final = 0x0115

_QUICK_ANSWER_S: Final = 2.0
_AT_ONCE: Final = 4

_log = structlog.get_logger("orgseg.commitment")


class CommitmentAsker:
    """Asks, and takes the answers in.

    Parameters
    ----------
    config : destinations, and how long they have
    store : the node's memory
    clock : where the time comes from
    """

    def __init__(self, config: NodeConfig | CurrentConfig, store: Store, *, clock: Clock = utc_now) -> None:
        self._current = CurrentConfig.of(config)
        self._store = store
        self._confirmations = Confirmations(store.database, clock=clock)
        self._clock = clock

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    def ask_due(self) -> None:
        """Ask every destination that owes a confirmation; one that is away holds up no other."""
        due = sorted(self._confirmations.due(), key=lambda one: one.destination)
        groups = [list(group) for _, group in groupby(due, key=lambda one: one.destination)]
        if groups:
            with ThreadPoolExecutor(min(_AT_ONCE, len(groups))) as pool:
                for _ in pool.map(self._ask_all, groups):
                    pass

    def _ask_all(self, group: Iterable[Unconfirmed]) -> None:
        try:
            for one in group:
                self._ask(one)
        finally:
            self._store.close()

    def _ask(self, one: Unconfirmed) -> None:
        place = self._config.destinations.get(one.destination)
        now = self._clock()
        if not isinstance(place, Destination) or not place.commitment:
            self._waive(one, "Stored; the configuration does not ask for a confirmation any more.")
            return
        if one.asks >= ASKS:
            self._waive(one, f"Stored, not confirmed: the archive did not answer {one.asks} requests.")
            return
        try:
            self._put(one, place)
        except OrgsegError as error:
            said = f"{error.code}: {error.sentence}"
            if now - one.created_at >= timedelta(hours=self._config.delivery.give_up_after_h):
                self._waive(one, f"Stored, not confirmed: the archive could not be asked. {said}")
                return
            wait = timedelta(seconds=self._config.delivery.wait_s(one.tries + 1))
            self._confirmations.not_asked(one, now + wait, f"The archive could not be asked. {said}")
            _log.warning("commitment not asked", job=one.job_id, destination=one.destination, code=error.code)

    def _waive(self, one: Unconfirmed, note: str) -> None:
        self._confirmations.waive(one, note)
        _log.error("not confirmed", job=one.job_id, destination=one.destination)

    def _put(self, one: Unconfirmed, place: Destination) -> None:
        """Put one question. Raises OrgsegError if the destination does not take it."""
        items = [self._item(delivery) for delivery in self._confirmations.objects(one)]
        transaction_uid = str(generate_uid(prefix=None))
        self._confirmations.begin(one, transaction_uid)
        answered = threading.Event()

        def listen(event: Event) -> tuple[int, None]:
            try:
                return self.take(event, place.ae_title), None
            finally:
                self._store.close()
                answered.set()

        handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, listen)]
        calling = self._config.calling_ae_for(place)
        with association_with(place, calling, [(PUSH_MODEL, SYNTAXES)], evt_handlers=handlers) as association:
            try:
                status, _ = association.send_n_action(
                    request_dataset(transaction_uid, items), ACTION, PUSH_MODEL, INSTANCE
                )
            except (ValueError, RuntimeError) as error:
                raise Unreachable(f"{place.said} broke off.") from error
            if "Status" not in status:
                raise Unreachable(f"{place.said} broke off during the request.")
            if status.Status != SUCCESS:
                raise CommitmentRefused(f"{place.said} answered the request with 0x{status.Status:04X}.")
            wait = timedelta(hours=place.commitment_timeout_h)
            self._confirmations.asked(one, self._clock() + wait, "The archive was asked to confirm it.")
            _log.info("commitment asked", job=one.job_id, destination=one.destination, objects=len(items))
            answered.wait(min(_QUICK_ANSWER_S, place.timeout_s))

    def _item(self, delivery: Delivery) -> Item:
        path = self._config.node.data_dir / delivery.path
        try:
            found = pydicom.dcmread(path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
            return Item(sop_class_uid=str(found.SOPClassUID), sop_uid=delivery.sop_uid)
        except (InvalidDicomError, OSError, EOFError, AttributeError) as error:
            raise StorageError(f"{path.name} cannot be read.") from error

    def take(self, event: Event, calling_ae: str) -> int:
        """Take an answer in; the status it is answered with.

        Parameters
        ----------
        event : the N-EVENT-REPORT
        calling_ae : who sends it; an answer in another's name is refused
        """
        try:
            report = read_report(event.event_information)
            return self.answered(report, calling_ae)
        except InvalidAttribute as error:
            _log.warning("commitment answer unreadable", peer=calling_ae, code=error.code)
            return INVALID_ARGUMENT
        except OrgsegError as error:
            _log.error("commitment answer not kept", peer=calling_ae, code=error.code)
        except Exception as error:  # noqa: BLE001 (whatever it is, the archive shall tell it again)
            _log.error("commitment answer not kept", peer=calling_ae, kind=type(error).__name__)
        return PROCESSING_FAILURE

    def answered(self, report: Report, calling_ae: str) -> int:
        """Take in what a destination reports; the status. Raises StorageError if it cannot be remembered."""
        name = self._confirmations.destination_of(report.transaction_uid)
        place = None if name is None else self._config.destinations.get(name)
        if not isinstance(place, Destination) or place.ae_title != calling_ae:
            _log.warning("commitment answer to no question", peer=calling_ae)
            return NO_SUCH_INSTANCE
        now, delivery = self._clock(), self._config.delivery
        kept, lost = self._confirmations.answered(
            report,
            retry_at=now + timedelta(seconds=delivery.wait_s(1)),
            give_up_before=now - timedelta(hours=delivery.give_up_after_h),
        )
        told = _log.warning if lost else _log.info
        told("commitment answered", destination=name, kept=kept, failed=lost)
        return SUCCESS
