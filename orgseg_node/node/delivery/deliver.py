"""One attempt to send what a job still owes a destination, and what becomes of each object."""

from __future__ import annotations

from datetime import timedelta

import structlog

from orgseg_node.errors import NetworkError, OrgsegError, StoreRefused
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.destinations import Destination, WebDestination
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.delivery import failover
from orgseg_node.node.dimse.storage_scu import Sender, SendOutcome
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.store.clock import Clock
from orgseg_node.node.store.delivery_states import Alternate
from orgseg_node.node.store.model import Delivery, DeliveryState, JobState
from orgseg_node.node.store.store import Store

_log = structlog.get_logger("orgseg.worker")


class Deliverer:
    """Sends.

    Parameters
    ----------
    config : the destinations, and how long one tries
    store : the node's memory
    sender : how objects leave
    clock : where the time comes from
    meters : count how long things take
    """

    def __init__(
        self,
        config: CurrentConfig,
        store: Store,
        sender: Sender[Destination | WebDestination],
        *,
        clock: Clock,
        meters: Meters,
    ) -> None:
        self._current = config
        self._store = store
        self._sender = sender
        self._clock = clock
        self._meters = meters

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    def send(self, job_id: str, destination: str) -> None:
        """Step: send each object that is due; each gets the peer's own answer."""
        due = self._store.claim(job_id, destination)
        if not due:
            return
        try:
            place = self._config.destination(destination)
        except OrgsegError as error:
            for delivery in due:
                self._note(delivery, None, error)
            return
        paths = [self._config.node.data_dir / delivery.path for delivery in due]
        answers = self._sender.send_each(place, self._config.calling_ae_for(place), paths)
        for delivery in due:
            if self._store.job(job_id).state is JobState.SENDING:
                with self._meters.send_seconds.labels(destination).time():
                    answer = next(answers)
                self._note(delivery, place, answer)
            else:  # it was stopped meanwhile; the store lets go of what was not sent
                now, note = self._clock(), "stopped before it was sent"
                self._store.record_delivery(
                    delivery, DeliveryState.RETRY_WAIT, status=None, note=note, next_at=now
                )

    def _note(
        self, delivery: Delivery, place: Destination | WebDestination | None, answer: SendOutcome
    ) -> None:
        """Remember what became of one object."""
        now = self._clock()
        if isinstance(answer, OrgsegError):
            status = answer.status if isinstance(answer, StoreRefused) else None
            note, code = f"{answer.code}: {answer.sentence}", answer.code
            limit = timedelta(hours=self._config.delivery.give_up_after_h)
            over = delivery.first_attempt_at is not None and now - delivery.first_attempt_at >= limit
            alternate = self._alternate(delivery, place, answer)
            if alternate is not None:
                state = DeliveryState.DROPPED
                job_state = self._store.divert(delivery, alternate, status=status, note=note)
            else:
                final = over or not (isinstance(answer, NetworkError) and answer.retryable)
                state = DeliveryState.FAILED if final else DeliveryState.RETRY_WAIT
                wait = timedelta(seconds=self._config.delivery.wait_s(delivery.attempts))
                job_state = self._store.record_delivery(
                    delivery, state, status=status, note=note, next_at=now + wait
                )
            told = _log.warning if state is DeliveryState.RETRY_WAIT else _log.error
        else:
            state, code, told = DeliveryState.STORED, "", _log.info
            note = (
                f"{answer.note} instead of {delivery.instead_of}".strip()
                if delivery.instead_of
                else answer.note
            )
            job_state = self._store.record_delivery(
                delivery, state, status=answer.status, note=note, next_at=now
            )
        told(
            "delivery",
            job=delivery.job_id,
            role=delivery.role,
            destination=delivery.destination,
            state=state.value,
            code=code,
            attempt=delivery.attempts,
            job_state=job_state.value,
        )

    def _alternate(
        self, delivery: Delivery, place: Destination | WebDestination | None, error: OrgsegError
    ) -> Alternate | None:
        """Where a delivery that has just failed goes instead, if its time has come."""
        if place is None or place.alternate is None:
            return None
        if not failover.is_due(delivery, place, error, self._clock()):
            return None
        other = self._config.destinations[place.alternate]
        return Alternate(name=place.alternate, confirm=isinstance(other, Destination) and other.commitment)
