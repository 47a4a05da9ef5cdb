"""Takes images in by DICOM: C-ECHO and C-STORE, with Success only for what is durable.

The way of one instance: check the association's AE titles and address, read the two UIDs from the encoded
bytes, write them unchanged as ``*.part``, fsync, rename, fsync the folder, commit the row, and only then
answer 0x0000 (`intake.inbox.Inbox.accept`). On any doubt the answer is 0xA700 and the sender keeps
the image. Pixels are never decoded here.
"""

from __future__ import annotations

import errno
import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog
from pydicom.uid import (
    JPEG2000,
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import from a table

from orgseg_node.dicom.reading.slices import SUPPORTED_SYNTAXES
from orgseg_node.errors import (
    ConfigError,
    EnvironmentFault,
    InputError,
    NotMatching,
    OrgsegError,
    PortTaken,
)
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig, Peer
from orgseg_node.node.dimse import pdu_limits
from orgseg_node.node.dimse.reject_log import RateLimitedRejectLog
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.store.model import Incoming
from orgseg_node.node.tls.context import (
    WARN_BEFORE,
    ServerContext,
    certificate_end,
    complete_handshake,
    peer_certificate,
    server_context,
)
from orgseg_node.node.tls.faults import tls_error

SYNTAXES: Final[list[UID | str]] = [
    ExplicitVRLittleEndian,  # taken first where the sender leaves the choice
    *sorted(SUPPORTED_SYNTAXES - {ExplicitVRLittleEndian, JPEG2000}),
]
"""What the reader reads and is lossless by its name; who has lossy images only is told at negotiation."""

STORAGE_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)


# PS3.4 B.2.3 C-STORE statuses
SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
NOT_MATCHING: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000

# PS3.8 9.3.4: result (1 permanent), source (1 service user), reason
_CALLING_UNKNOWN: Final = (0x01, 0x01, 0x03)
_CALLED_UNKNOWN: Final = (0x01, 0x01, 0x07)
_TOO_MANY: Final = (0x02, 0x03, 0x02)  # transient, of the presentation layer: local limit exceeded
_REASONS: Final = {
    _CALLING_UNKNOWN: "CALLING_UNKNOWN",
    _CALLED_UNKNOWN: "CALLED_UNKNOWN",
    _TOO_MANY: "TOO_MANY",
}

_log = structlog.get_logger("orgseg.receiver")


def incoming_instance(event: Event, *, sender: str, called: str = "") -> Incoming:
    """What a C-STORE request brings, as it was encoded.

    Parameters
    ----------
    event : of the request
    sender : AE title of who sends it, which is not always who opened the association
    called : AE title by which the node was called; empty if it was not
    """
    request: Any = event.request
    return Incoming(
        sop_class_uid=str(request.AffectedSOPClassUID or ""),
        sop_uid=str(request.AffectedSOPInstanceUID or ""),
        transfer_syntax=str(event.context.transfer_syntax),
        calling_ae=str(sender),
        called_ae=called,
        association=id(event.assoc),
        encoded=event.encoded_dataset(include_meta=False),
    )


def c_store_status(error: OrgsegError) -> int:
    """The C-STORE status that tells a sender why an image was not kept."""
    if not isinstance(error, InputError):
        return OUT_OF_RESOURCES
    return NOT_MATCHING if isinstance(error, NotMatching) else CANNOT_UNDERSTAND


class Intake(Protocol):
    """Where received instances go: the node's inbox, or an archive that only keeps them."""

    def accept(self, incoming: Incoming) -> object:
        """Take one instance; when this returns, it is durable. Raises OrgsegError if it is not."""
        ...

    def association_ended(self, association: int, *, released: bool = False) -> None:
        """An association that may have sent instances is over; whether it was released in order."""
        ...


class DimseService(Protocol):
    """What else is done at the node's port, such as storage commitment."""

    def register(self, ae: AE) -> list[Any]:
        """Add what is supported; the handlers that belong to it."""
        ...


class Receiver:
    """The listening half of the node.

    Parameters
    ----------
    config : AE title, port, peers and limits
    inbox : where accepted instances go
    storage : SOP classes that are taken
    service : another service on the same port
    meters : count who is turned away
    """

    def __init__(
        self,
        config: NodeConfig | CurrentConfig,
        inbox: Intake,
        *,
        storage: Sequence[str] = STORAGE_CLASSES,
        service: DimseService | None = None,
        meters: Meters | None = None,
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._meters = meters or Meters()
        self._service = service
        self._storage = storage
        self._inbox = inbox
        self._refusals = RateLimitedRejectLog()
        self._open: dict[str, set[int]] = {}
        self._servers: list[Any] = []
        self.tls_port: int | None = None
        self._idle = threading.Condition()
        self._storing = 0
        self._stopping = False

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    @property
    def _peers(self) -> dict[str, Peer]:
        return {peer.ae_title: peer for peer in self._config.peers}

    @property
    def listening(self) -> bool:
        """Whether every port that was opened is still listened at."""
        return bool(self._servers) and all(server.socket.fileno() >= 0 for server in self._servers)

    def start(self) -> int:
        """Listen.

        Returns
        -------
        The port without TLS; that with TLS, which is also kept as `tls_port`, if it is the only one.

        Raises
        ------
        PortTaken, EnvironmentFault
            If a port cannot be listened at.
        ConfigError
            If a certificate or key cannot be used.
        """
        section, tls = self._config.node, self._config.tls
        ae = AE(ae_title=section.ae_title)
        ae.maximum_associations = self._config.receiver.max_associations
        ae.network_timeout = self._config.receiver.idle_timeout_s
        ae.acse_timeout = self._config.receiver.request_timeout_s
        ae.dimse_timeout = self._config.receiver.message_timeout_s
        ae.maximum_pdu_size = self._config.receiver.max_pdu
        ae.add_supported_context(Verification)
        for storage in self._storage:
            ae.add_supported_context(storage, SYNTAXES)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._ended),
            (evt.EVT_CONN_CLOSE, self._ended),
        ]
        if self._service is not None:
            handlers += self._service.register(ae)
        context = self._secure()
        ports = []
        try:
            if tls.plain:
                ports.append(self._listen(ae, section.port, handlers, None))
            if context is not None and tls.port is not None:
                self.tls_port = self._listen(ae, tls.port, handlers, context)
                ports.append(self.tls_port)
        except OrgsegError:
            self.stop()
            raise
        if not ports:
            raise ConfigError("There is neither a port nor tls.port to listen at.")
        return ports[0]

    def _secure(self) -> ServerContext | None:
        """What connections with TLS must fulfil; None without such a port. Raises ConfigError."""
        tls = self._config.tls
        if tls.port is None:
            return None
        if tls.identity is None:
            raise ConfigError("tls.port: needs certificate and key.")
        left = certificate_end(tls.identity.certificate) - datetime.now(UTC)
        if left < WARN_BEFORE:
            _log.warning("the node's certificate ends soon or has ended", days_left=left.days)
        return server_context(tls.identity, tls.ca, require=tls.require_certificate)

    def _listen(self, ae: AE, port: int, handlers: list[Any], context: ServerContext | None) -> int:
        """Open one port; its number. Raises PortTaken or EnvironmentFault."""
        section = self._config.node
        try:
            server: Any = ae.start_server(
                (section.host, port), block=False, evt_handlers=handlers, ssl_context=context
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(f"Port {port} at {section.host}.") from error
            raise EnvironmentFault(f"Cannot listen at {section.host}: {error.strerror}.") from error
        self._servers.append(server)
        port = int(server.server_address[1])
        secure = context is not None
        _log.info("listening", ae_title=section.ae_title, host=section.host, port=port, tls=secure)
        return port

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop listening, let handlers that are writing finish, then end the associations."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.shutdown()
        with self._idle:
            self._stopping = True
            self._idle.wait_for(lambda: self._storing == 0, timeout=timeout_s)
        self._refusals.flush(everything=True)
        for server in servers[:1]:  # they share what ends the associations
            server.ae.shutdown()

    # ------------------------------------------------------------------ handlers

    def _connected(self, event: Event) -> None:
        """Set limits to a connection, and finish the handshake of one with TLS, in its own thread."""
        line = event.assoc.dul.socket
        limits = self._config.receiver
        if line is not None:
            pdu_limits.limit_connection(
                line, pdu_s=limits.idle_timeout_s, message_bytes=limits.max_instance_mb * 1_000_000
            )
        if line is None or not isinstance(line.socket, ssl.SSLSocket):
            return
        error = complete_handshake(line.socket)
        if error is None:
            line.socket.settimeout(self._config.receiver.idle_timeout_s)
            return
        why = tls_error(error, "caller")
        self._meters.refused_associations.labels(why.code).inc()
        _log.warning("tls failed", address=str(event.assoc.requestor.address), code=why.code, why=why.detail)
        event.assoc.acse_timeout = 0  # no request will come; waiting for it would hold one of the places

    def _requested(self, event: Event) -> None:
        request: Any = event.assoc.requestor.primitive
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        address = str(event.assoc.requestor.address)
        reason = self._reason_to_refuse(event, calling, called, address)
        if reason is None:
            self._restrict(event, calling, address)
            return
        self._meters.refused_associations.labels(_REASONS[reason]).inc()
        said = {"calling": calling, "called": called, "address": address, "reason": reason[2]}
        self._refusals.note("association rejected", f"{calling}@{address}", **said)
        event.assoc.acse.send_reject(*reason)
        evt.trigger(event.assoc, evt.EVT_REJECTED, {})
        event.assoc.kill()

    def _reason_to_refuse(
        self, event: Event, calling: str, called: str, address: str
    ) -> tuple[int, int, int] | None:
        """Why a caller is turned away (PS3.8, 9.3.4); None if it is let in, and then it is counted."""
        peer = self._peers.get(calling)
        if called not in self._config.ae_titles:
            return _CALLED_UNKNOWN
        if not self._admits(event, calling, address):
            return _CALLING_UNKNOWN
        if peer is not None and not peer.may_call(called):
            return _CALLED_UNKNOWN
        with self._idle:
            there = self._open.setdefault(calling, set())
            if peer is not None and peer.max_associations is not None and len(there) >= peer.max_associations:
                return _TOO_MANY
            there.add(id(event.assoc))
        return None

    def _restrict(self, event: Event, calling: str, address: str) -> None:
        """Offer a caller only the SOP classes it may send; other contexts are rejected at negotiation."""
        peer = self._peers.get(calling)
        if peer is None or peer.sop_classes is None:
            return
        acceptor: Any = event.assoc.acceptor
        acceptor.supported_contexts = [
            context for context in acceptor.supported_contexts if peer.may_send(str(context.abstract_syntax))
        ]
        request: Any = event.assoc.requestor.primitive
        asked = {str(context.abstract_syntax) for context in request.presentation_context_definition_list}
        refused = sorted(uid for uid in asked if not peer.may_send(uid))
        if refused:
            said = {"calling": calling, "address": address, "sop_classes": refused}
            self._refusals.note("sop classes refused", f"{calling}@{address} classes", **said)

    def _admits(self, event: Event, calling: str, address: str) -> bool:
        """Whether a caller may be who it says: listed, at the right address, with the right certificate."""
        peer = self._peers.get(calling)
        if peer is None:
            return self._config.receiver.accept_any_calling_ae
        line = event.assoc.dul.socket
        if not peer.accepts_certificate(peer_certificate(line.socket if line is not None else None)):
            told = "certificate does not belong to this AE title"
            self._refusals.note(told, f"{calling}@{address} certificate", calling=calling, address=address)
            return False
        return self._config.receiver.accept_any_calling_ae or peer.admits(address)

    def _echo(self, event: Event) -> int:
        pdu_limits.message_ended(event.assoc.dul.socket)
        _log.info("echo", calling=event.assoc.requestor.ae_title)
        return SUCCESS

    def _store(self, event: Event) -> int:
        pdu_limits.message_ended(event.assoc.dul.socket)
        with self._idle:
            if self._stopping:
                return OUT_OF_RESOURCES
            self._storing += 1
        try:
            return self._status_for(event)
        finally:
            with self._idle:
                self._storing -= 1
                self._idle.notify_all()

    def _status_for(self, event: Event) -> int:
        """Accept one instance; the DIMSE status that tells the truth about it."""
        request: Any = event.assoc.requestor.primitive
        called = str(request.called_ae_title).strip()
        incoming = incoming_instance(event, sender=event.assoc.requestor.ae_title, called=called)
        try:
            self._inbox.accept(incoming)
        except InputError as error:
            said = {"code": error.code, "calling": incoming.calling_ae}
            self._refusals.note("instance refused", f"{incoming.calling_ae} {error.code}", **said)
            return c_store_status(error)
        except OrgsegError as error:
            _log.error("instance not accepted", code=error.code, calling=incoming.calling_ae)
            return c_store_status(error)
        except Exception as error:  # noqa: BLE001 (on any doubt the sender must keep the image)
            _log.error("instance not accepted", code="UNEXPECTED", kind=type(error).__name__)
            return OUT_OF_RESOURCES
        return SUCCESS

    def _released(self, event: Event) -> None:
        self._inbox.association_ended(id(event.assoc), released=True)

    def _ended(self, event: Event) -> None:
        with self._idle:
            for calling in [name for name, there in self._open.items() if id(event.assoc) in there]:
                self._open[calling].discard(id(event.assoc))
                if not self._open[calling]:
                    del self._open[calling]
        pdu_limits.release(event.assoc)
        self._inbox.association_ended(id(event.assoc))
