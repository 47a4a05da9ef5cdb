"""Retrieves series from a PACS: by C-GET over the same association, or by C-MOVE to another AE.

A retrieval needs unique keys (PS3.4 C.4.2 and C.4.3). So series are first found (`find_scu`) and then
retrieved one by one. An instance that was not requested is refused, and the number of received images is
compared with the number that the source reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    RTDoseStorage,
    RTImageStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    SpatialRegistrationStorage,
)
from pynetdicom import build_role, evt
from pynetdicom.events import Event

from orgseg_node.dicom.reading import part10
from orgseg_node.errors import (
    InputError,
    MoveRefused,
    OrgsegError,
    PullIncomplete,
    PullTooWide,
    QueryRefused,
    Unreachable,
)
from orgseg_node.node.config.node_config import Source
from orgseg_node.node.dimse import c_store
from orgseg_node.node.dimse.association import (
    GET,
    MOVE,
    MOVE_DESTINATION_UNKNOWN,
    PENDING,
    SUBOPERATIONS_INCOMPLETE,
    SUCCESS,
    SYNTAXES,
    describe_status,
    require_status,
    source_association,
)
from orgseg_node.node.dimse.find_scu import QueryKey, Series
from orgseg_node.node.dimse.received_dataset import write_large_to_files
from orgseg_node.node.store.model import Incoming

_COMPRESSED: Final = (
    *(JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless, RLELossless),
    *(JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000),
)
"""Lossy syntaxes too: a folder stores any image, and the reader refuses lossy ones with a code."""

_IMAGES: Final = (
    *c_store.STORAGE_CLASSES,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
)
_OTHERS: Final = (
    *(RTStructureSetStorage, RTPlanStorage, RTDoseStorage, RTImageStorage),
    *(SegmentationStorage, SpatialRegistrationStorage, ComprehensiveSRStorage, EncapsulatedPDFStorage),
)

OnProgress = Callable[[int, int | None], None]
"""Called with the number of images received so far and the number expected; None if that is unknown."""

_log = structlog.get_logger("orgseg.query")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """Outcome of a retrieval.

    Attributes
    ----------
    series : number of requested series
    instances : number of received images
    remarks : number of images for which the receiver answered with a warning
    """

    series: int
    instances: int
    remarks: int


def storage_contexts() -> list[tuple[UID, list[UID]]]:
    """Presentation contexts for images that a source sends over a C-GET association.

    Each compressed syntax has a context of its own: of several syntaxes in one context the source must choose
    one, and cannot send images that it stores in another. An association has at most 128 contexts (PS3.8
    9.3.2.2).
    """
    plain = [(UID(kind), list(SYNTAXES)) for kind in (*_IMAGES, *_OTHERS)]
    return plain + [(UID(kind), [syntax]) for kind in _IMAGES for syntax in _COMPRESSED]


def require_matches(key: QueryKey, found: Sequence[Series]) -> None:
    """Raise PullTooWide if a source returned series that do not match the key.

    A source that does not support a key ignores it (PS3.4 C.2.2.2) and then returns everything it has.
    """
    for series in found:
        study = series.study
        pairs = [
            (key.study_uid, series.study_uid),
            (key.series_uid, series.series_uid),
            (key.modality, series.modality),
        ]
        if study is not None:
            pairs += [(key.patient_id, study.patient_id), (key.accession, study.accession)]
        if any(
            wanted and wanted.casefold() != found.casefold() and not set(wanted) & set("*?")
            for wanted, found in pairs
        ):
            raise PullTooWide("The source returned series that do not match; it seems to ignore a key.")


def retrieve_by_get(
    source: Source,
    calling_ae: str,
    wanted: Sequence[Series],
    intake: c_store.Intake,
    on_progress: OnProgress | None = None,
) -> Retrieved:
    """Retrieve series over one association (C-GET).

    Parameters
    ----------
    source : the source that holds them
    calling_ae : AE title of the node
    wanted : series that `find_series` found
    intake : stores each image; only then the source gets the status Success
    on_progress : called after each image

    Raises
    ------
    Unreachable, AssociationRejected
        If no association can be opened, or it breaks; images received so far are kept.
    QueryRefused
        If the source does not support C-GET.
    PullIncomplete
        If images are missing; those received are kept.
    StorageError
        If an image could not be stored.
    """
    requested = {series.series_uid for series in wanted}
    expected = _total(series.instances for series in wanted)
    handler = _StoreHandler(intake=intake, wanted=requested, on_progress=on_progress, expected=expected)
    contexts = storage_contexts()
    roles = [build_role(kind, scp_role=True) for kind in dict.fromkeys(kind for kind, _ in contexts)]
    options: dict[str, Any] = {"ext_neg": roles, "evt_handlers": [(evt.EVT_C_STORE, handler.store)]}
    operations = _SubOperations(source=source)
    with source_association(source, calling_ae, [(GET, SYNTAXES), *contexts], **options) as association:
        write_large_to_files(association, intake.receiving_folder)
        for series in wanted:
            before = len(handler.kept)
            operations.run(association.send_c_get, _identifier(series), GET, kept=handler.kept)
            if handler.problem is not None:
                raise handler.problem
            operations.count_missing(series.instances, len(handler.kept) - before)
    _log.info("fetched", source=source.ae_title, series=len(wanted), instances=len(handler.kept))
    operations.require_all(len(handler.kept))
    return Retrieved(series=len(wanted), instances=len(handler.kept), remarks=operations.remarks)


def retrieve_by_move(
    source: Source,
    calling_ae: str,
    wanted: Sequence[Series],
    move_to: str,
    on_progress: OnProgress | None = None,
) -> Retrieved:
    """Let a source send series to another AE, such as the running node (C-MOVE).

    Parameters
    ----------
    source, calling_ae, wanted : as for `retrieve_by_get`
    move_to : AE title under which the source knows the receiver
    on_progress : called when the source reports its progress

    Raises
    ------
    As `retrieve_by_get`; MoveRefused if the source sends nothing to the receiver, for example because it does
    not know it.
    """
    expected = _total(series.instances for series in wanted)
    operations = _SubOperations(
        source=source, to=f", for {move_to}", on_progress=on_progress, expected=expected
    )
    with source_association(source, calling_ae, [(MOVE, SYNTAXES)]) as association:
        for series in wanted:
            before = operations.completed
            operations.run(association.send_c_move, _identifier(series), move_to, MOVE)
            operations.count_missing(series.instances, operations.completed - before)
    _log.info("moved", source=source.ae_title, series=len(wanted), instances=operations.completed)
    operations.require_all(operations.completed)
    return Retrieved(series=len(wanted), instances=operations.completed, remarks=operations.remarks)


def _total(counts: Iterator[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


def _identifier(series: Series) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID = series.study_uid
    identifier.SeriesInstanceUID = series.series_uid
    if series.images:  # a list of UIDs is allowed at the level of the request (PS3.4 C.4.2.1.4)
        identifier.QueryRetrieveLevel = "IMAGE"
        identifier.SOPInstanceUID = list(series.images)
    return identifier


@dataclass(slots=True, kw_only=True)
class _StoreHandler:
    """Stores the images that arrive over a C-GET association."""

    intake: c_store.Intake
    wanted: set[str]
    on_progress: OnProgress | None
    expected: int | None = None
    kept: set[str] = field(default_factory=set)
    problem: OrgsegError | None = None

    def store(self, event: Event) -> int:
        """Store one image; the C-STORE status."""
        try:
            return self._store(c_store.incoming_instance(event, sender=event.assoc.acceptor.ae_title))
        except InputError as error:
            _log.warning("image refused", code=error.code)
            return c_store.c_store_status(error)
        except OrgsegError as error:
            _log.error("image not stored", code=error.code)
            self.problem = error
            return c_store.c_store_status(error)
        finally:
            c_store.discard_dataset(event)

    def _store(self, incoming: Incoming) -> int:
        header = part10.read_header(incoming.encoded, incoming.transfer_syntax)
        if header.series_uid not in self.wanted:
            _log.warning("an image was received that was not requested")
            return c_store.NOT_MATCHING
        self.intake.accept(incoming)
        self.kept.add(incoming.sop_uid)
        if self.on_progress is not None:
            self.on_progress(len(self.kept), self.expected)
        return c_store.SUCCESS


@dataclass(slots=True, kw_only=True)
class _SubOperations:
    """Counts the outcomes of the sub-operations of a retrieval."""

    source: Source
    to: str = ""
    on_progress: OnProgress | None = None
    expected: int | None = None
    completed: int = 0
    failed: int = 0
    remarks: int = 0
    missing: int = 0
    statuses: list[str] = field(default_factory=list)

    def run(self, send: Any, *request: Any, kept: set[str] | None = None) -> None:
        """Run one retrieval. Raises Unreachable or QueryRefused."""
        counts = [0, 0, 0]
        try:
            for status, _ in send(*request):
                code = require_status(status, self.source)
                counts = self._counts(status, counts)
                if self.on_progress is not None:
                    self.on_progress(self.completed + counts[0] + counts[2], self.expected)
                if code not in PENDING:
                    self._record_final_response(code, counts)
        except (ValueError, RuntimeError, Unreachable) as error:
            received = self.completed + counts[0] + counts[2] if kept is None else len(kept)
            silent = f"was silent for {self.source.timeout_s:g} s"
            why = f"closed the connection, or {silent}, after {received} images"
            raise Unreachable(f"{self.source.description} {why}.") from error

    def _counts(self, status: Dataset, before: list[int]) -> list[int]:
        names = ("Completed", "Failed", "Warning")
        reported = [status.get(f"NumberOf{name}Suboperations") for name in names]
        return [old if new is None else int(new) for old, new in zip(before, reported, strict=True)]

    def _record_final_response(self, code: int, counts: list[int]) -> None:
        completed, failed, warning = counts
        # after a warning the receiver has the image, too (PS3.4 B.2.3)
        self.completed += completed + warning
        self.failed += failed
        self.remarks += warning
        if code == MOVE_DESTINATION_UNKNOWN:
            raise MoveRefused(
                f"{self.source.description} answered {describe_status(code)}{self.to}.", status=code
            )
        only_remarks = code == SUBOPERATIONS_INCOMPLETE and not failed
        if code != SUCCESS and not only_remarks and describe_status(code) not in self.statuses:
            self.statuses.append(describe_status(code))

    def count_missing(self, expected: int | None, received: int) -> None:
        """Count the images of a series that were not received."""
        self.missing += max(0, (expected or 0) - received)

    def require_all(self, received: int) -> None:
        """Raise PullIncomplete if images are missing, or a refusal if the source only gave a reason.

        Sources report in many ways that they do not know the receiver of a C-MOVE, or cannot reach it. So
        whatever status came without a single image, the error says so.
        """
        if received and not (self.failed or self.missing or self.statuses):
            return
        reasons = "; ".join(self.statuses) or "the source reported success"
        lost = max(self.failed, self.missing)
        count = f"Received {received} images, missing {lost or 'an unknown number'}: {reasons}"
        if self.to and not received and self.statuses:
            hint = "perhaps it does not know this receiver, does not reach it, or cannot send it these images"
            raise MoveRefused(f"{self.source.description}: {count}{self.to}; {hint}.")
        if not received and not self.failed and self.statuses:
            raise QueryRefused(f"{self.source.description} answered {reasons}{self.to}.")
        raise PullIncomplete(f"{count}.")
