"""Sends objects to a TPS or PACS by C-STORE, and checks by C-ECHO whether it answers.

The objects of one job are sent in one association; each gets its own response. The status of the response
decides: 0x0000 is stored, 0xBxxx is stored with a warning, everything else is refused (PS3.4 B.2.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, Protocol, TypeVar

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    ComprehensiveSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
)
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import from a table

from orgseg_node.errors import (
    AssociationAborted,
    AssociationRejected,
    ClassRefused,
    NoAnswer,
    NotDicom,
    OrgsegError,
    StoreRefused,
    Unreachable,
)
from orgseg_node.node.config.destinations import Destination
from orgseg_node.node.dimse.association import destination_association
from orgseg_node.node.dimse.c_store import STORAGE_CLASSES
from orgseg_node.node.dimse.presentation_contexts import contexts_of, decode_for

_ADDRESS_ERRORS: Final = (OSError, UnicodeError)
_LABEL_MAP: Final = "1.2.840.10008.5.1.4.1.1.66.7"  # Label Map Segmentation Storage
_CONNECT_S: Final = 10.0
_TIMED_OUT: Final = 0.95

DUPLICATE: Final = 0x0111
"""Duplicate SOP Instance (PS3.7 C.4.2): the peer has an object with this UID, which is the node's."""

ROLE_OF_CLASS: Final = {
    str(RTStructureSetStorage): "RTSTRUCT",
    str(SegmentationStorage): "SEG",
    _LABEL_MAP: "SEG",
    str(ComprehensiveSRStorage): "SR",
    str(EncapsulatedPDFStorage): "PDF",
    **dict.fromkeys(map(str, STORAGE_CLASSES), "CT"),
}
"""The word in ``objects`` of a destination for each SOP class that the node sends."""

OnProgress = Callable[[int], None]
"""Called with the number of objects that are stored so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The response of a peer that stored an object.

    Attributes
    ----------
    sop_uid : SOP Instance UID of the object
    status : DIMSE status, 0x0000 or a warning 0xBxxx
    note : meaning of the warning, or empty
    """

    sop_uid: str
    status: int
    note: str = ""


SendOutcome = Stored | OrgsegError
"""The outcome for one object: stored, or the error."""

_D_contra = TypeVar("_D_contra", contravariant=True)


class Sender(Protocol[_D_contra]):
    """Sends objects to one kind of destination, or to several."""

    def echo(self, destination: _D_contra, calling_ae: str) -> None:
        """Check whether a destination answers. Raises NetworkError."""
        ...

    def send(self, destination: _D_contra, calling_ae: str, path: Path) -> Stored:
        """Store one object.

        Parameters
        ----------
        destination : where it is stored
        calling_ae : AE title of the node
        path : a DICOM part 10 file

        Raises
        ------
        NetworkError
            If it was not stored.
        NotDicom
            If the file cannot be read.
        """
        ...

    def send_each(
        self, destination: _D_contra, calling_ae: str, paths: Sequence[Path]
    ) -> Iterator[SendOutcome]:
        """Store objects, and return the outcome of each as soon as it is known; raises nothing.

        Parameters
        ----------
        destination : where they are stored
        calling_ae : AE title of the node
        paths : DICOM part 10 files
        """
        ...


class DicomSender:
    """Sends by DICOM (C-STORE)."""

    def echo(self, destination: Destination, calling_ae: str) -> None:
        """Check whether a destination answers (C-ECHO).

        Raises
        ------
        Unreachable
            If nothing answers at its address.
        TlsFailed, PeerCertificateRefused, OwnCertificateRefused
            If TLS is used and fails.
        AssociationRejected
            If it does not accept one of the two AE titles.
        """
        with destination_association(
            destination, calling_ae, [(Verification, [ImplicitVRLittleEndian])]
        ) as association:
            status = association.send_c_echo()
            if "Status" not in status or status.Status != 0:
                raise Unreachable(f"{destination.description} does not answer C-ECHO.")

    def check_classes(self, destination: Destination, calling_ae: str, *, seg: str) -> None:
        """Check whether a destination accepts the classes of its objects; nothing is sent.

        Parameters
        ----------
        destination : the destination
        calling_ae : AE title of the node
        seg : kind of the DICOM Segmentation, ``binary`` or ``labelmap``

        Raises
        ------
        ClassRefused
            If it does not accept one of them.
        NetworkError
            As `echo`.
        """
        classes = [
            UID(uid)
            for uid, role in ROLE_OF_CLASS.items()
            if role in destination.objects
            and (role != "SEG" or (uid == _LABEL_MAP) == (seg == "labelmap"))
            and (role != "CT" or uid == CTImageStorage)
        ]
        try:
            accepted = _accepted_classes(destination, calling_ae, classes)
        except (AssociationRejected, AssociationAborted):
            accepted = set()
            for one in classes:  # it may reject the association because of one class
                try:
                    accepted |= _accepted_classes(destination, calling_ae, [one])
                except (AssociationRejected, AssociationAborted) as error:
                    raise class_refused(destination, one, error) from error
        for one in classes:
            if one not in accepted:
                raise class_refused(destination, one)

    def send(self, destination: Destination, calling_ae: str, path: Path) -> Stored:
        """Store one object at a destination (C-STORE).

        Parameters
        ----------
        destination : where it is stored
        calling_ae : AE title of the node
        path : a DICOM part 10 file

        Returns
        -------
        The response of the peer.

        Raises
        ------
        Unreachable
            If nothing answers, or the connection breaks.
        TlsFailed, PeerCertificateRefused, OwnCertificateRefused
            If TLS is used and fails.
        AssociationRejected
            If it does not accept one of the two AE titles.
        StoreRefused
            If it does not accept this kind of object, or responds with a failure.
        NotDicom
            If the file cannot be read.
        """
        return self.send_all(destination, calling_ae, [path])[0]

    def send_all(
        self,
        destination: Destination,
        calling_ae: str,
        paths: Sequence[Path],
        on_progress: OnProgress | None = None,
    ) -> tuple[Stored, ...]:
        """Store several objects in one association; it stops at the first that is refused.

        Parameters
        ----------
        destination, calling_ae : as for `send`
        paths : DICOM part 10 files
        on_progress : called after each object with the number stored so far

        Raises
        ------
        As `send`.
        """
        answers = []
        contexts = contexts_of([_kind(path) for path in paths])
        with destination_association(destination, calling_ae, contexts) as association:
            for path in paths:
                answers.append(_store(association, destination, path))
                if on_progress is not None:
                    on_progress(len(answers))
        return tuple(answers)

    def send_each(
        self, destination: Destination, calling_ae: str, paths: Sequence[Path]
    ) -> Iterator[SendOutcome]:
        """Store objects in one association; one that is refused does not affect the others.

        Parameters
        ----------
        destination, calling_ae : as for `send`
        paths : DICOM part 10 files

        Returns
        -------
        For each object in turn the response of the peer, or the error. If the connection breaks, the objects
        after it are sent in a new association.
        """
        left = [(path, _kind_or_error(path)) for path in paths]
        by_class, accepted = False, False
        while left:
            kinds = [kind for _, kind in left if not isinstance(kind, OrgsegError)]
            if not kinds:
                yield from (kind for _, kind in left if isinstance(kind, OrgsegError))
                return
            batch = [kind for kind in kinds if not by_class or kind[0] == kinds[0][0]]
            try:
                with destination_association(destination, calling_ae, contexts_of(batch)) as association:
                    whole = accepted = True
                    while left and whole and (isinstance(left[0][1], OrgsegError) or left[0][1] in batch):
                        path, kind = left.pop(0)
                        answer = (
                            kind
                            if isinstance(kind, OrgsegError)
                            else _store_or_error(association, destination, path)
                        )
                        whole = not isinstance(answer, Unreachable)
                        yield answer
            except OrgsegError as error:
                broken = isinstance(error, (AssociationRejected, AssociationAborted))
                if broken and len({sop_class for sop_class, _ in batch}) > 1:
                    by_class = True
                    continue
                refused = isinstance(error, StoreRefused) or (broken and accepted and by_class)
                while left and (not by_class or isinstance(left[0][1], OrgsegError) or left[0][1] in batch):
                    _, kind = left.pop(0)
                    if isinstance(kind, OrgsegError):
                        yield kind
                    else:
                        yield class_refused(destination, kind[0], error) if refused else error


def _accepted_classes(destination: Destination, calling_ae: str, classes: Sequence[UID]) -> set[str]:
    """Which of some SOP classes a destination accepts."""
    contexts = [(one, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for one in classes]
    try:
        with destination_association(destination, calling_ae, contexts) as association:
            return {str(one.abstract_syntax) for one in association.accepted_contexts}
    except StoreRefused:
        return set()


def class_refused(destination: Destination, sop_class: str, why: OrgsegError | None = None) -> ClassRefused:
    """The error that a destination does not accept a SOP class; it names the setting without this class.

    Parameters
    ----------
    destination : the destination
    sop_class : UID of the class
    why : the error by which it was noticed; None if the presentation context was rejected
    """
    role = ROLE_OF_CLASS.get(sop_class, "")
    detail = f"{destination.description} does not accept {UID(sop_class).name}"
    if isinstance(why, (AssociationRejected, AssociationAborted)):
        detail = f"{destination.description} breaks off associations that propose {UID(sop_class).name}"
    others = [f'"{one}"' for one in destination.objects if one != role]
    if role in destination.objects and others:
        detail += f"; without it the setting is objects = [{', '.join(others)}]"
    return ClassRefused(f"{detail}.")


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


def _store(association: Association, destination: Destination, path: Path) -> Stored:
    """Send one object over an open association."""
    dataset = _read(path)
    if not any(one.abstract_syntax == dataset.SOPClassUID for one in association.accepted_contexts):
        raise class_refused(destination, str(dataset.SOPClassUID))
    decode_for(association, destination, dataset)
    began = monotonic()
    try:
        answer = association.send_c_store(dataset)
    except ValueError as error:
        raise StoreRefused(f"{destination.description} does not accept objects of this kind.") from error
    except RuntimeError as error:
        raise Unreachable(f"{destination.description} closed the connection.") from error
    if "Status" not in answer:
        if monotonic() - began >= _TIMED_OUT * destination.timeout_s:
            limit = f"no answer within {destination.timeout_s:g} s"
            raise NoAnswer(f"{destination.description}: {limit}; it may have stored the object.")
        raise Unreachable(f"{destination.description} closed the connection while storing.")
    status = int(answer.Status)
    # 0xBxxx, 0x0001, 0x0107 and 0x0116 are warnings: the object is stored (PS3.7 annex C)
    if status == 0:
        return Stored(sop_uid=str(dataset.SOPInstanceUID), status=0)
    if status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116):
        note = f"stored with the warning 0x{status:04X}"
        return Stored(sop_uid=str(dataset.SOPInstanceUID), status=status, note=note)
    if status == DUPLICATE:  # the answer to an earlier attempt was lost
        return Stored(
            sop_uid=str(dataset.SOPInstanceUID), status=status, note="it was stored before (0x0111)"
        )
    raise StoreRefused(f"{destination.description} answered 0x{status:04X}.", status=status)
