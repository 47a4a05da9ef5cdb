"""One attempt to send the objects of a job to a destination, and the state of each delivery after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import timedelta

import structlog

from orgseg_node.contouring.object_roles import alone_role
from orgseg_node.errors import NetworkError, NoAnswer, OrgsegError, StoreRefused
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.destinations import Destination, WebDestination
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.delivery import failover
from orgseg_node.node.delivery.unanswered import is_stored, source_of, unanswered_roles, with_longer_limit
from orgseg_node.node.dimse.storage_scu import Sender, SendOutcome, Stored
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.store.clock import Clock
from orgseg_node.node.store.delivery_states import Alternate
from orgseg_node.node.store.model import Confirmation, Delivery, DeliveryState, JobState
from orgseg_node.node.store.store import Store

_log = structlog.get_logger("orgseg.worker")


class Deliverer:
    """Sends the objects of jobs, and records the outcomes.

    Parameters
    ----------
    config : destinations, and how long a delivery is tried
    store : the node's store
    sender : sends objects
    clock : gives the present time
    meters : measure how long sending takes
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
        """Send each object that is due, and record the response to each.

        An object that was sent before and not answered for may be stored already: it is sent again only if
        that cannot be found out, see `orgseg_node.node.delivery.unanswered`.
        """
        unanswered = unanswered_roles(self._store.deliveries(job_id), destination)
        due = self._store.claim(job_id, destination)
        if not due:
            return
        try:
            to = self._config.destination(destination)
        except OrgsegError as error:
            for delivery in due:
                self._record(delivery, None, error)
            return
        due = [one for one in due if one.role not in unanswered or not self._resolved_by_query(one, to)]
        if unanswered:
            to = with_longer_limit(to, max((one.attempts for one in due), default=1))
        paths = [self._config.node.data_dir / delivery.path for delivery in due]
        outcomes = self._sender.send_each(to, self._config.calling_ae_for(to), paths)
        for delivery in due:
            if self._store.job(job_id).state is JobState.SENDING:
                with self._meters.send_seconds.labels(destination).time():
                    outcome = next(outcomes)
                self._record(delivery, to, outcome, again=delivery.role in unanswered)
            else:  # the job was stopped meanwhile
                now, note = self._clock(), "stopped before it was sent"
                self._store.record_delivery(
                    delivery, DeliveryState.RETRY_WAIT, status=None, note=note, next_at=now
                )
        self._log_images(job_id, destination, [one.role for one in due if one.is_image])

    def _log_images(self, job_id: str, destination: str, roles: Collection[str]) -> None:
        """Log how many of the images of an attempt are in which state now."""
        found = [one for one in self._store.deliveries(job_id) if one.destination == destination]
        states = Counter(one.state.value for one in found if one.role in roles)
        if states:
            _log.info("images of the CT", job=job_id, destination=destination, **states)

    def _resolved_by_query(self, delivery: Delivery, to: Destination | WebDestination) -> bool:
        """Ask by C-FIND, where possible, whether an object is stored; False if it has to be sent.

        True if its outcome was recorded: it is stored, or it cannot be asked for now and is tried later.
        """
        source = source_of(self._config, to)
        if source is None:
            return False
        path = self._config.node.data_dir / delivery.path
        try:
            if not is_stored(source, self._config.calling_ae_for(source), path):
                return False
        except OrgsegError as error:
            why = f"It may be stored, and cannot be asked for ({error.code})."
            self._record(delivery, to, NoAnswer(why))
            return True
        note = "stored; found by C-FIND after no answer had come"
        self._record(delivery, to, Stored(sop_uid=delivery.sop_uid, status=0, note=note))
        return True

    def _may_send_again(self, to: Destination | WebDestination | None, *, again: bool) -> bool:
        """Whether an object without an answer is sent again: only once if nobody can be asked by C-FIND."""
        return not again or (to is not None and source_of(self._config, to) is not None)

    def _record(
        self,
        delivery: Delivery,
        to: Destination | WebDestination | None,
        outcome: SendOutcome,
        *,
        again: bool = False,
    ) -> None:
        """Record the outcome for one object; `again` if it was sent again after no answer had come."""
        now = self._clock()
        if isinstance(outcome, OrgsegError):
            status = outcome.status if isinstance(outcome, StoreRefused) else None
            note, code = f"{outcome.code}: {outcome.sentence}", outcome.code
            limit = timedelta(hours=self._config.delivery.give_up_after_h)
            over = delivery.first_attempt_at is not None and now - delivery.first_attempt_at >= limit
            alternate = self._alternate(delivery, to, outcome)
            unanswered = isinstance(outcome, NoAnswer)
            if unanswered and delivery.confirmation is Confirmation.WANTED:
                state = DeliveryState.STORED
                note = f"{note} The archive is asked whether it keeps it."
                job_state = self._store.record_delivery(delivery, state, status=None, note=note, next_at=now)
            elif alternate is not None:
                state = DeliveryState.DROPPED
                job_state = self._store.divert(delivery, alternate, status=status, note=note)
            else:
                final = over or not (isinstance(outcome, NetworkError) and outcome.retryable)
                final = final or (unanswered and not self._may_send_again(to, again=again))
                state = DeliveryState.FAILED if final else DeliveryState.RETRY_WAIT
                wait = timedelta(seconds=self._config.delivery.wait_s(delivery.attempts))
                job_state = self._store.record_delivery(
                    delivery, state, status=status, note=note, next_at=now + wait
                )
            log = _log.error if state in {DeliveryState.FAILED, DeliveryState.DROPPED} else _log.warning
        else:
            state, code, log = DeliveryState.STORED, "", _log.info
            note = (
                f"{outcome.note} instead of {delivery.instead_of}".strip()
                if delivery.instead_of
                else outcome.note
            )
            job_state = self._store.record_delivery(
                delivery, state, status=outcome.status, note=note, next_at=now
            )
        if delivery.is_image:  # a CT has hundreds; `send` logs their numbers
            return
        log(
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
        self, delivery: Delivery, to: Destination | WebDestination | None, error: OrgsegError
    ) -> Alternate | None:
        """The destination that gets the object instead; None if there is none, or if it is too early."""
        if to is None or to.alternate is None:
            return None
        if not failover.is_due(delivery, to, error, self._clock()):
            return None
        other = self._config.destinations[to.alternate]
        role = alone_role(delivery.role)
        written = self._store.attempts.objects(delivery.job_id)
        return Alternate(
            name=to.alternate,
            confirm=isinstance(other, Destination) and other.commitment,
            variant=next((item for item in written if item.role == role), None),
        )
