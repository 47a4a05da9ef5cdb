"""An archive with storage commitment in this process, by pynetdicom; the test chooses its answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance


@dataclass(kw_only=True)
class CommittingArchive:
    """What has come, and how it is answered.

    Attributes
    ----------
    stored : SOP Instance UIDs in the order they came
    asked : the requests
    refuse : how often the first object of a request is not kept
    status : answer to requests
    silent : whether it never reports
    same : whether it reports over the association of the request
    report_to : port of who asked
    report_statuses : what it was answered
    """

    port: int = 0
    stored: list[str] = field(default_factory=list)
    asked: list[Dataset] = field(default_factory=list)
    refuse: int = 0
    status: int = 0
    silent: bool = False
    same: bool = False
    report_to: int = 0
    report_statuses: list[int] = field(default_factory=list)
    refuse_stores: dict[str, int] = field(default_factory=dict)

    def on_store(self, event: Event) -> int:
        self.stored.append(event.request.AffectedSOPInstanceUID)
        return self.refuse_stores.get(event.request.AffectedSOPClassUID, 0)

    def on_action(self, event: Event) -> tuple[int, None]:
        self.asked.append(event.action_information)
        if self.status == 0 and not self.silent:
            answer = self.answer(event.action_information)
            target = self._over if self.same else self._call
            threading.Thread(target=target, args=(event.assoc, answer)).start()
        return self.status, None

    def answer(self, asked: Dataset) -> Dataset:
        """What it says of a request."""
        items = list(asked.ReferencedSOPSequence)
        answer = Dataset()
        answer.TransactionUID = asked.TransactionUID
        if self.refuse:
            self.refuse -= 1
            items[0].FailureReason = 0x0112
            answer.FailedSOPSequence, items = Sequence(items[:1]), items[1:]
        if items:
            answer.ReferencedSOPSequence = Sequence(items)
        return answer

    def _over(self, association: Any, answer: Dataset) -> None:
        self._tell(association, answer)

    def _call(self, _: Any, answer: Dataset) -> None:
        self.call(answer)

    def call(self, answer: Dataset, calling: str = "TPS") -> None:
        """Report by a call of its own."""
        ae = AE(ae_title=calling)
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = ae.associate("127.0.0.1", self.report_to, ae_title="ORGSEG", ext_neg=[role])
        if association.is_established:
            self._tell(association, answer)
            association.release()

    def _tell(self, association: Any, answer: Dataset) -> None:
        kind = 2 if "FailedSOPSequence" in answer else 1
        status, _ = association.send_n_event_report(
            answer, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        self.report_statuses.append(int(status.Status) if "Status" in status else -1)


@contextlib.contextmanager
def committing_archive(port: int = 0, **says: Any) -> Iterator[CommittingArchive]:
    """An archive called TPS that listens when the block begins."""
    archive = CommittingArchive(**says)
    ae = AE(ae_title="TPS")
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax)
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    handlers: list[Any] = [
        (evt.EVT_C_STORE, archive.on_store),
        (evt.EVT_N_ACTION, archive.on_action),
    ]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    archive.port = server.server_address[1]
    try:
        yield archive
    finally:
        server.shutdown()


def accepted(port: int, calling: str) -> set[str]:
    """SOP classes that a node accepts of a scanner that sends CT and asks for storage commitment."""
    ae = AE(ae_title=calling)
    ae.add_requested_context(StorageCommitmentPushModel)
    ae.add_requested_context(CTImageStorage)
    association = ae.associate("127.0.0.1", port, ae_title="ORGSEG")
    assert association.is_established
    try:
        return {str(context.abstract_syntax) for context in association.accepted_contexts}
    finally:
        association.release()


def ask(port: int, calling: str, asked: Dataset) -> int:
    """Ask a node for storage commitment; the status of its response."""
    ae = AE(ae_title=calling)
    ae.add_requested_context(StorageCommitmentPushModel)
    association = ae.associate("127.0.0.1", port, ae_title="ORGSEG")
    assert association.is_established
    try:
        status, _ = association.send_n_action(
            asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        return int(status.Status)
    finally:
        association.release()
