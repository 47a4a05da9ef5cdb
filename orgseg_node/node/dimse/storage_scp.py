"""Receives images by DICOM: C-ECHO and C-STORE, with Success only for what is durably stored.

Steps for one instance: check the association's AE titles and address, read the two UIDs from the encoded
bytes, write them unchanged as ``*.part``, fsync, rename, fsync the folder, commit the row, and only then
respond with 0x0000 (`intake.inbox.Inbox.accept`). On any doubt the status is 0xA700, so that the sender keeps
the image. Pixels are never decoded here.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.pdu import A_RELEASE_RP
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import from a table

from orgseg_node.errors import (
    ConfigError,
    EnvironmentFault,
    InputError,
    OrgsegError,
    PortTaken,
)
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig, Peer
from orgseg_node.node.dimse import pdu_limits, reject_log
from orgseg_node.node.dimse.c_store import (
    OTHER_CLASSES,
    OTHER_SYNTAXES,
    OUT_OF_RESOURCES,
    STORAGE_CLASSES,
    SUCCESS,
    SYNTAXES,
    Intake,
    accepted_syntaxes,
    c_store_status,
    discard_dataset,
    incoming_instance,
)
from orgseg_node.node.dimse.open_associations import OpenAssociations, WaitingConnections, cause_of_end
from orgseg_node.node.dimse.received_dataset import (
    discard_incomplete,
    incomplete_series,
    write_large_to_files,
)
from orgseg_node.node.dimse.reject_log import RateLimitedRejectLog
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.tls.context import (
    WARN_BEFORE,
    ServerContext,
    certificate_end,
    complete_handshake,
    peer_certificate,
    server_context,
)
from orgseg_node.node.tls.faults import tls_error

# PS3.8 9.3.4: result (1 permanent), source (1 service user), reason
_CALLING_UNKNOWN: Final = (0x01, 0x01, 0x03)
_CALLED_UNKNOWN: Final = (0x01, 0x01, 0x07)
_NO_LIMIT: Final = 1 << 30
_TOO_MANY: Final = (0x02, 0x03, 0x02)  # transient, presentation layer: local limit exceeded
_REASONS: Final = {
    _CALLING_UNKNOWN: "CALLING_UNKNOWN",
    _CALLED_UNKNOWN: "CALLED_UNKNOWN",
    _TOO_MANY: "TOO_MANY",
}

_log = structlog.get_logger("orgseg.receiver")


class DimseService(Protocol):
    """A further DIMSE service on the same port, such as reports of storage commitment."""

    def register(self, ae: AE) -> list[Any]:
        """Add the supported contexts of the service; the event handlers that belong to it."""
        ...


class Receiver:
    """The storage SCP: listens on one port, or on two if TLS has its own.

    Parameters
    ----------
    config : AE title, port, peers and limits
    inbox : stores accepted instances
    storage : accepted SOP classes; those of the node when None, others then as ``receiver.other_classes``
    service : a further service on the same port
    meters : count rejected associations
    """

    def __init__(
        self,
        config: NodeConfig | CurrentConfig,
        inbox: Intake,
        *,
        storage: Sequence[str] | None = None,
        service: DimseService | None = None,
        meters: Meters | None = None,
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._meters = meters or Meters()
        self._service = service
        self._storage = storage
        self._inbox = inbox
        self._reject_log = RateLimitedRejectLog()
        self._open = OpenAssociations()
        self._waiting = WaitingConnections()
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
        """Whether every port that was opened is still open."""
        return bool(self._servers) and all(server.socket.fileno() >= 0 for server in self._servers)

    def start(self) -> int:
        """Open the ports.

        Returns
        -------
        The port without TLS; if there is none, the port with TLS, which is also in `tls_port`.

        Raises
        ------
        PortTaken, EnvironmentFault
            If a port cannot be opened.
        ConfigError
            If a certificate or key cannot be used.
        """
        section, tls = self._config.node, self._config.tls
        ae = AE(ae_title=section.ae_title)
        ae.maximum_associations = _NO_LIMIT  # the node counts itself, and only established associations
        ae.network_timeout = self._config.receiver.idle_timeout_s
        ae.acse_timeout = self._config.receiver.request_timeout_s
        ae.dimse_timeout = self._config.receiver.message_timeout_s
        ae.maximum_pdu_size = self._config.receiver.max_pdu
        ae.add_supported_context(Verification)
        for storage in STORAGE_CLASSES if self._storage is None else self._storage:
            ae.add_supported_context(storage, SYNTAXES)
        for storage in OTHER_CLASSES if self._storage is None else ():
            ae.add_supported_context(storage, OTHER_SYNTAXES)
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_PDU_SENT, self._sent),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._ended),
            (evt.EVT_CONN_CLOSE, self._ended),
        ]
        if self._service is not None:
            handlers += self._service.register(ae)
        context = self._secure()
        ports = []
        try:
            if tls.plain_open:
                ports.append(self._listen(ae, section.port, handlers, None))
            if context is not None and tls.port is not None:
                self.tls_port = self._listen(ae, tls.port, handlers, context)
                ports.append(self.tls_port)
        except OrgsegError:
            self.stop()
            raise
        if not ports:
            raise ConfigError("There is neither a port nor a tls.port.")
        return ports[0]

    def _secure(self) -> ServerContext | None:
        """The TLS context; None without a port with TLS. Raises ConfigError."""
        tls = self._config.tls
        if tls.port is None:
            return None
        if tls.identity is None:
            raise ConfigError("tls.port: needs certificate and key.")
        left = certificate_end(tls.identity.certificate) - datetime.now(UTC)
        if left < WARN_BEFORE:
            _log.warning("the node's certificate expires soon or has expired", days_left=left.days)
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
        """Close the ports, wait for instances that are being stored, then end the associations."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.shutdown()
        with self._idle:
            self._stopping = True
            self._idle.wait_for(lambda: self._storing == 0, timeout=timeout_s)
        self._reject_log.flush(everything=True)
        for server in servers[:1]:  # all servers share one AE
            server.ae.shutdown()

    # ------------------------------------------------------------------ handlers

    def _connected(self, event: Event) -> None:
        """Set limits of a connection and complete its TLS handshake; in the thread of the connection."""
        connection = event.assoc.dul.socket
        limits = self._config.receiver
        address = str(event.assoc.requestor.address)
        closed = self._reason_to_close(event, address)
        if connection is not None and connection.socket is not None and closed:
            self._meters.refused_associations.labels(closed).inc()
            self._reject_log.note("connection closed", f"{address} {closed}", address=address, reason=closed)
            event.assoc.acse_timeout = 0  # no request will come
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            return
        if connection is not None:
            write_large_to_files(event.assoc, self._inbox.receiving_folder)
            pdu_limits.limit_connection(
                connection, pdu_s=limits.idle_timeout_s, message_bytes=limits.max_instance_mb * 1_000_000
            )
        if connection is None or not isinstance(connection.socket, ssl.SSLSocket):
            return
        error = complete_handshake(connection.socket)
        if error is None:
            connection.socket.settimeout(self._config.receiver.idle_timeout_s)
            return
        why = tls_error(error, "caller")
        self._meters.refused_associations.labels(why.code).inc()
        _log.warning("tls failed", address=str(event.assoc.requestor.address), code=why.code, why=why.detail)
        event.assoc.acse_timeout = 0  # no request will come; waiting would use up one of the associations

    def _reason_to_close(self, event: Event, address: str) -> str:
        """Why a connection is closed before anything is read from it; empty if it is not."""
        peers, limits = self._config.peers, self._config.receiver
        known = limits.accept_any_calling_ae or any(peer.admits(address) for peer in peers)
        if not known:
            return "STRANGER"
        waits = self._waiting.add(address, id(event.assoc), limits.max_associations)
        return "" if waits else "TOO_MANY_WAITING"

    def _requested(self, event: Event) -> None:
        request: Any = event.assoc.requestor.primitive
        pdu_limits.request_read(event.assoc.dul.socket)
        self._waiting.remove(id(event.assoc))
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        address = str(event.assoc.requestor.address)
        reason = self._admit_association(event, calling, called, address)
        if reason is None:
            self._restrict(event, calling)
            return
        self._meters.refused_associations.labels(_REASONS[reason]).inc()
        fields = {"calling": calling, "called": called, "address": address, "reason": reason[2]}
        self._reject_log.note("association rejected", f"{calling}@{address}", **fields)
        event.assoc.acse.send_reject(*reason)
        evt.trigger(event.assoc, evt.EVT_REJECTED, {})
        event.assoc.kill()

    def _admit_association(
        self, event: Event, calling: str, called: str, address: str
    ) -> tuple[int, int, int] | None:
        """Count the association as open and return None, or return why it is rejected (PS3.8, 9.3.4)."""
        peer = self._peers.get(calling)
        if called not in self._config.ae_titles:
            return _CALLED_UNKNOWN
        if not self._admits(event, calling, address):
            return _CALLING_UNKNOWN
        if peer is not None and not peer.may_call(called):
            return _CALLED_UNKNOWN
        limit = peer.max_associations if peer is not None else None
        total = self._config.receiver.max_associations
        return None if self._open.add(calling, id(event.assoc), limit, total=total) else _TOO_MANY

    def _restrict(self, event: Event, calling: str) -> None:
        """Accept only the SOP classes that a caller may send; other contexts are rejected at negotiation."""
        if self._storage is not None:
            return
        acceptor: Any = event.assoc.acceptor
        acceptor.supported_contexts = [
            context
            for context in acceptor.supported_contexts
            if (uid := str(context.abstract_syntax)) not in {*STORAGE_CLASSES, *OTHER_CLASSES}
            or accepted_syntaxes(self._config, calling, uid)
        ]

    def _accepted(self, event: Event) -> None:
        """Log and count the presentation contexts that were rejected."""
        reject_log.note_refused_contexts(event.assoc, self._reject_log, self._meters)

    def _admits(self, event: Event, calling: str, address: str) -> bool:
        """Whether a caller is listed, has the right address and presents the right certificate."""
        peer = self._peers.get(calling)
        if peer is None:
            return self._config.receiver.accept_any_calling_ae
        connection = event.assoc.dul.socket
        if not peer.accepts_certificate(
            peer_certificate(connection.socket if connection is not None else None)
        ):
            event_text = "certificate does not belong to this AE title"
            self._reject_log.note(
                event_text, f"{calling}@{address} certificate", calling=calling, address=address
            )
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
            discard_dataset(event)
            with self._idle:
                self._storing -= 1
                self._idle.notify_all()

    def _status_for(self, event: Event) -> int:
        """Store one instance; the DIMSE status."""
        request: Any = event.assoc.requestor.primitive
        called = str(request.called_ae_title).strip()
        calling = str(event.assoc.requestor.ae_title)
        try:
            self._inbox.accept(incoming_instance(event, sender=calling, called=called))
        except InputError as error:
            fields = {"code": error.code, "calling": calling}
            self._reject_log.note("instance refused", f"{calling} {error.code}", **fields)
            return c_store_status(error)
        except OrgsegError as error:
            _log.error("instance not accepted", code=error.code, calling=calling)
            return c_store_status(error)
        except Exception as error:  # noqa: BLE001 (on any doubt the sender must keep the image)
            _log.error("instance not accepted", code="UNEXPECTED", kind=type(error).__name__)
            return OUT_OF_RESOURCES
        return SUCCESS

    def _sent(self, event: Event) -> None:
        """Note a release when it is answered: the connection may be closed before pynetdicom reports it."""
        if isinstance(event.pdu, A_RELEASE_RP):
            self._released(event)

    def _released(self, event: Event) -> None:
        self._open.remove(id(event.assoc))
        self._inbox.association_ended(id(event.assoc), released=True)

    def _ended(self, event: Event) -> None:
        """End an association that was not released, or whose end is known already."""
        cause = cause_of_end(event, stopping=self._stopping)
        self._waiting.remove(id(event.assoc))
        calling = self._open.remove(id(event.assoc))
        if calling is None and pdu_limits.request_read(event.assoc.dul.socket):
            address = str(event.assoc.requestor.address)
            self._meters.refused_associations.labels("UNREADABLE").inc()
            self._reject_log.note("association request unreadable", f"{address} unreadable", address=address)
        incomplete = incomplete_series(event.assoc) if calling is not None else ""
        discard_incomplete(event.assoc)
        pdu_limits.release(event.assoc)
        if calling is not None:
            self._meters.broken_associations.labels(cause).inc()
            address = str(event.assoc.requestor.address)
            _log.warning("association broken off", calling=calling, address=address, cause=cause)
        self._inbox.association_ended(id(event.assoc), cause=cause, incomplete=incomplete)
