"""Confirms to senders that the node keeps what they sent (storage commitment SCP, PS3.4 J.3).

A request is on the disk before it is answered. Each object is then looked up and its file read again: only
what lies here with the bytes that were received is confirmed. The report goes to the address that the
configuration gives for the sender, again and again for hours, over restarts. The node is no archive: what was
deleted after the retention time is not confirmed any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

import structlog
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_role

from orgseg_node.dicom.objects.storage_commitment import (
    INSTANCE,
    PUSH_MODEL,
    Item,
    Reason,
    Report,
    report_dataset,
)
from orgseg_node.dicom.reading import part10
from orgseg_node.errors import CommitmentRefused, OrgsegError, StorageError, Unreachable
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.destinations import Destination
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.commitment_requests import CommitmentRequests, Request
from orgseg_node.node.dimse.storage_scu import association_with
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.model import Instance
from orgseg_node.node.store.store import Store

SYNTAXES: Final = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_KEEP_DAYS: Final = 30.0
_AT_ONCE: Final = 4

_log = structlog.get_logger("orgseg.commitment")


class CommitmentReporter:
    """Looks at what is asked for, and reports.

    Parameters
    ----------
    config : who asks may be told where
    store : what was accepted
    clock : where the time comes from
    """

    def __init__(self, config: NodeConfig | CurrentConfig, store: Store, *, clock: Clock = utc_now) -> None:
        self._current = CurrentConfig.of(config)
        self._store = store
        self._requests = CommitmentRequests(store.database, clock=clock)
        self._clock = clock

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    def report_due(self) -> None:
        """Report on every request that is due; a sender that is away holds up no other."""
        due = sorted(self._requests.due(), key=lambda request: request.calling_ae)
        groups = [list(group) for _, group in groupby(due, key=lambda request: request.calling_ae)]
        if groups:
            with ThreadPoolExecutor(min(_AT_ONCE, len(groups))) as pool:
                for _ in pool.map(self._report_all, groups):
                    pass
        self._requests.forget(self._clock() - timedelta(days=_KEEP_DAYS))

    def _report_all(self, requests: Iterable[Request]) -> None:
        try:
            for request in requests:
                self._report(request)
        finally:
            self._store.close()

    def _report(self, request: Request) -> None:
        now = self._clock()
        try:
            place = self._config.listening(request.calling_ae)
            if place is None:
                raise CommitmentRefused(f"No host and port of {request.calling_ae} in [[peers]].")
            report = self.verify(request.transaction_uid, self._requests.items(request))
            send_report(place, self._config.node.ae_title, report)
        except OrgsegError as error:
            over = now - request.created_at >= timedelta(hours=self._config.delivery.give_up_after_h)
            wait = timedelta(seconds=self._config.delivery.wait_s(request.attempts + 1))
            outcome = "GIVEN_UP" if over else ""
            self._requests.note(request, outcome, f"{error.code}: {error.sentence}", now + wait)
            told = _log.error if over else _log.warning
            told("commitment not reported", peer=request.calling_ae, code=error.code, given_up=over)
        else:
            kept, failed = len(report.kept), len(report.failed)
            self._requests.note(request, "REPORTED", f"{kept} kept, {failed} not", now)
            _log.info("commitment reported", peer=request.calling_ae, kept=kept, failed=failed)

    def verify(self, transaction_uid: str, items: Iterable[Item]) -> Report:
        """What is true of each object now.

        Raises
        ------
        StorageError
            If the database cannot be asked; nothing is said then.
        """
        kept, failed = [], {}
        for item in dict.fromkeys(items):
            reason = self._reason(item)
            if reason is None:
                kept.append(item)
            else:
                failed[item] = int(reason)
        return Report(transaction_uid=transaction_uid, kept=tuple(kept), failed=failed)

    def _reason(self, item: Item) -> Reason | None:
        """Why an object cannot be confirmed; None if it can."""
        copies = self._store.copies(item.sop_uid)
        if not copies:
            return Reason.NO_SUCH_INSTANCE
        headers = [self._header(copy) for copy in copies]
        if None in headers:  # of contradicting copies nobody knows which is meant: all must be there
            return Reason.PROCESSING_FAILURE
        if any(header is not None and header.sop_class_uid != item.sop_class_uid for header in headers):
            return Reason.CLASS_INSTANCE_CONFLICT
        return None

    def _header(self, instance: Instance) -> part10.Header | None:
        """The UIDs in the file of an instance; None unless it holds what was received."""
        path: Path = self._config.node.data_dir / instance.path
        try:
            encoded, syntax = part10.split_part10(path.read_bytes())
            if part10.content_hash(encoded, syntax) != instance.sha256:
                raise StorageError(f"Instance {instance.sop_uid} is not what was received.")
            return part10.read_header(encoded, syntax)
        except (OSError, OrgsegError) as error:
            code = error.code if isinstance(error, OrgsegError) else "STORAGE"
            _log.error("instance damaged", instance=instance.sop_uid, code=code)
            return None


def send_report(place: Destination, own_ae: str, report: Report) -> None:
    """Tell who asked (N-EVENT-REPORT), in the role of provider (PS3.7 D.3.3.4).

    Raises
    ------
    Unreachable, AssociationRejected, TlsFailed
        If it does not answer, or does not take the call.
    CommitmentRefused
        If it does not take the report.
    """
    contexts = [(PUSH_MODEL, SYNTAXES)]
    roles = [build_role(PUSH_MODEL, scp_role=True)]
    with association_with(place, own_ae, contexts, ext_neg=roles) as association:
        try:
            status, _ = association.send_n_event_report(
                report_dataset(report), report.event_type, PUSH_MODEL, INSTANCE
            )
        except ValueError as error:
            raise CommitmentRefused(f"{place.said} does not accept the role of this node.") from error
        except RuntimeError as error:
            raise Unreachable(f"{place.said} broke off.") from error
        if "Status" not in status:
            raise Unreachable(f"{place.said} broke off during the report.")
        if status.Status != 0:
            raise CommitmentRefused(f"{place.said} answered the report with 0x{status.Status:04X}.")
