"""Sends finished objects to a TPS or PACS by C-STORE, and asks by C-ECHO whether it is there.

The objects of one job go in one association; each gets an answer of its own.

What counts is the peer's own answer for each object: 0x0000 is stored, 0xB0xx is stored with a remark,
everything else is refused (PS3.4 B.2.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import from a table

from orgseg_node.errors import (
    AssociationRejected,
    NetworkError,
    NotDicom,
    OrgsegError,
    StoreRefused,
    Unreachable,
)
from orgseg_node.node.config.destinations import Destination
from orgseg_node.node.config.tls import context_of_peer
from orgseg_node.node.dimse.reject_reason import reject_reason
from orgseg_node.node.tls.faults import tls_error

_ADDRESS_ERRORS: Final = (OSError, UnicodeError)
_CONNECT_S: Final = 10.0

OnProgress = Callable[[int], None]
"""Called with the number of objects stored so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A peer's answer to one object.

    Attributes
    ----------
    sop_uid : SOP Instance UID of the object
    status : DIMSE status, 0x0000 or a warning 0xBxxx
    note : what the warning means, or empty
    """

    sop_uid: str
    status: int
    note: str = ""


SendOutcome = Stored | OrgsegError
"""What became of one object: stored, or the error that says why not."""

_D_contra = TypeVar("_D_contra", contravariant=True)


class Sender(Protocol[_D_contra]):
    """How objects leave the node, for one kind of destination or several."""

    def echo(self, destination: _D_contra, calling_ae: str) -> None:
        """Ask whether a destination is there. Raises NetworkError."""
        ...

    def send(self, destination: _D_contra, calling_ae: str, path: Path) -> Stored:
        """Store one object. Raises NetworkError or NotDicom."""
        ...

    def send_each(
        self, destination: _D_contra, calling_ae: str, paths: Sequence[Path]
    ) -> Iterator[SendOutcome]:
        """Store objects, and say of each as soon as it is known what became of it; raises nothing."""
        ...


class DicomSender:
    """Sends by DICOM."""

    def echo(self, destination: Destination, calling_ae: str) -> None:
        """Ask whether a destination is there (C-ECHO).

        Raises
        ------
        Unreachable
            If nothing answers at its address.
        TlsFailed, PeerCertificateRefused, OwnCertificateRefused
            If it is called by TLS and that fails.
        AssociationRejected
            If it does not accept one of the two AE titles.
        """
        with association_with(
            destination, calling_ae, [(Verification, [ImplicitVRLittleEndian])]
        ) as association:
            status = association.send_c_echo()
            if "Status" not in status or status.Status != 0:
                raise Unreachable(f"{destination.description} does not answer C-ECHO.")

    def send(self, destination: Destination, calling_ae: str, path: Path) -> Stored:
        """Store one object at a destination (C-STORE).

        Parameters
        ----------
        destination : where to
        calling_ae : AE title of the node
        path : a DICOM part 10 file

        Returns
        -------
        The peer's answer.

        Raises
        ------
        Unreachable
            If nothing answers, or the connection breaks.
        TlsFailed, PeerCertificateRefused, OwnCertificateRefused
            If it is called by TLS and that fails.
        AssociationRejected
            If it does not accept one of the two AE titles.
        StoreRefused
            If it does not take this kind of object, or answers with a failure.
        NotDicom
            If the file cannot be read.
        """
        return self.send_all(destination, calling_ae, [path])[0]

    def send_all(
        self, destination: Destination, calling_ae: str, paths: Sequence[Path], told: OnProgress | None = None
    ) -> tuple[Stored, ...]:
        """Store several objects in one association; the first that is refused ends it.

        Parameters
        ----------
        destination, calling_ae : as for `send`
        paths : DICOM part 10 files
        told : called after each with the number stored so far

        Raises
        ------
        As `send`.
        """
        answers = []
        contexts = _contexts([_kind(path) for path in paths])
        with association_with(destination, calling_ae, contexts) as association:
            for path in paths:
                answers.append(_store(association, destination, path))
                if told is not None:
                    told(len(answers))
        return tuple(answers)

    def send_each(
        self, destination: Destination, calling_ae: str, paths: Sequence[Path]
    ) -> Iterator[SendOutcome]:
        """Store objects in one association; one that is refused harms no other.

        Parameters
        ----------
        destination, calling_ae : as for `send`
        paths : DICOM part 10 files

        Returns
        -------
        The peer's answer to each in turn, or the error. Objects after one at which the connection broke go in
        a new association.
        """
        left = [(path, _kind_or_error(path)) for path in paths]
        while left:
            kinds = [kind for _, kind in left if not isinstance(kind, OrgsegError)]
            if not kinds:
                yield from (kind for _, kind in left if isinstance(kind, OrgsegError))
                return
            try:
                with association_with(destination, calling_ae, _contexts(kinds)) as association:
                    whole = True
                    while left and whole:
                        path, kind = left.pop(0)
                        answer = (
                            kind
                            if isinstance(kind, OrgsegError)
                            else _store_or_error(association, destination, path)
                        )
                        whole = not isinstance(answer, Unreachable)
                        yield answer
            except OrgsegError as error:
                yield from (kind if isinstance(kind, OrgsegError) else error for _, kind in left)
                return


def _contexts(kinds: Sequence[tuple[UID, UID]]) -> list[tuple[UID, list[UID]]]:
    """What is proposed for objects of these SOP classes and transfer syntaxes."""
    contexts = [(sop_class, [syntax]) for sop_class, own in kinds for syntax in offered_syntaxes(own)]
    return list({(abstract, syntaxes[0]): (abstract, syntaxes) for abstract, syntaxes in contexts}.values())


def _kind_or_error(path: Path) -> tuple[UID, UID] | OrgsegError:
    try:
        return _kind(path)
    except OrgsegError as error:
        return error


def _store_or_error(association: Association, destination: Destination, path: Path) -> SendOutcome:
    try:
        return _store(association, destination, path)
    except OrgsegError as error:
        return error


def _kind(path: Path) -> tuple[UID, UID]:
    """SOP class and transfer syntax of a file. Raises NotDicom."""
    dataset = _read(path, header_only=True)
    try:
        return UID(dataset.SOPClassUID), UID(dataset.file_meta.TransferSyntaxUID)
    except AttributeError as error:
        raise NotDicom(f"{path.name} lacks its SOP class or transfer syntax.") from error


def _read(path: Path, *, header_only: bool = False) -> pydicom.FileDataset:
    try:
        if header_only:
            return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        return pydicom.dcmread(path)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise NotDicom(f"{path.name}.") from error


def offered_syntaxes(syntax: UID) -> list[UID]:
    """Syntaxes an object can be sent in: its own; if it is uncompressed, any other uncompressed one."""
    if syntax.is_compressed or not syntax.is_little_endian:
        return [syntax]
    return list(dict.fromkeys([syntax, ImplicitVRLittleEndian, ExplicitVRLittleEndian]))


def _store(association: Association, destination: Destination, path: Path) -> Stored:
    """Send one object over an open association; the peer's own answer decides."""
    dataset = _read(path)
    try:
        answer = association.send_c_store(dataset)
    except ValueError as error:
        raise StoreRefused(f"{destination.description} takes no objects of this kind.") from error
    except RuntimeError as error:
        raise Unreachable(f"{destination.description} broke off.") from error
    if "Status" not in answer:
        raise Unreachable(f"{destination.description} broke off while storing.")
    status = int(answer.Status)
    # 0x0000 success; 0xBxxx and 0x0001, 0x0107, 0x0116 warnings: the object is stored (PS3.7 C)
    if status == 0:
        return Stored(sop_uid=str(dataset.SOPInstanceUID), status=0)
    if status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116):
        note = f"stored with the remark 0x{status:04X}"
        return Stored(sop_uid=str(dataset.SOPInstanceUID), status=status, note=note)
    raise StoreRefused(f"{destination.description} answered 0x{status:04X}.", status=status)


@contextmanager
def association_with(
    destination: Destination, calling_ae: str, contexts: Sequence[Any], **more: Any
) -> Iterator[Association]:
    """An established association, released at the end.

    Parameters
    ----------
    destination : whom to call
    calling_ae : AE title of the node
    contexts : abstract syntaxes with the transfer syntaxes of each
    more : roles and handlers, as pynetdicom wants them

    Raises
    ------
    As `DicomSender.send`.
    """
    ae = AE(ae_title=calling_ae)
    ae.connection_timeout = min(_CONNECT_S, destination.timeout_s)
    ae.acse_timeout = destination.timeout_s
    ae.dimse_timeout = destination.timeout_s
    ae.network_timeout = destination.timeout_s
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, syntaxes)
    tls = context_of_peer(destination, destination.description)
    try:
        association = ae.associate(
            destination.host,
            destination.port,
            ae_title=destination.ae_title,
            tls_args=None if tls is None else (tls, destination.tls_name or destination.host),
            **more,
        )
    except _ADDRESS_ERRORS as error:
        raise Unreachable(f"{destination.description}: {error}.") from error
    if not association.is_established:
        if tls is not None and tls.last_error is not None:
            raise tls_error(tls.last_error, destination.description) from tls.last_error
        raise _why_not(association, destination)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _why_not(association: Association, destination: Destination) -> NetworkError:
    name = destination.description
    reason = reject_reason(association)
    if reason is not None:
        return AssociationRejected(f"{name}: {reason}.")
    if association.rejected_contexts:
        return StoreRefused(f"{name} takes no objects of this kind.")
    return Unreachable(f"{name} does not answer.")
