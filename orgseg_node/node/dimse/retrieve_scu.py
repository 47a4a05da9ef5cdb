"""Brings series from a PACS: C-GET into a place of one's own, or C-MOVE to whom the PACS shall send them.

Only unique keys retrieve (PS3.4 C.4.2 and C.4.3), so what was looked for by patient or accession number is
first found (`find_scu`) and then retrieved series by series. An instance that was not asked
for is refused, and what has come is counted against what the source said it has.
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
    OrgsegError,
    PullIncomplete,
    PullTooWide,
    QueryRefused,
    Unreachable,
)
from orgseg_node.node.config.node_config import Source
from orgseg_node.node.dimse import storage_scp
from orgseg_node.node.dimse.association import (
    GET,
    MOVE,
    MOVE_DESTINATION_UNKNOWN,
    PENDING,
    SUBOPERATIONS_INCOMPLETE,
    SUCCESS,
    SYNTAXES,
    association,
    describe_status,
    name_of,
    require_status,
)
from orgseg_node.node.dimse.find_scu import QueryKey, Series

_COMPRESSED: Final = (
    *(JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless, RLELossless),
    *(JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000),
)
"""As stored: a folder takes lossy images too, and whoever reads them refuses them by name."""

_IMAGES: Final = (
    *storage_scp.STORAGE_CLASSES,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
)
_OTHERS: Final = (
    *(RTStructureSetStorage, RTPlanStorage, RTDoseStorage, RTImageStorage),
    *(SegmentationStorage, SpatialRegistrationStorage, ComprehensiveSRStorage, EncapsulatedPDFStorage),
)

OnProgress = Callable[[int, int | None], None]
"""Called with the number of images that came and the number there will be, None where nobody knows."""

_log = structlog.get_logger("orgseg.query")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """What was brought.

    Attributes
    ----------
    series : how many series were asked for
    instances : how many images came
    remarks : for how many the receiving side answered with a warning
    """

    series: int
    instances: int
    remarks: int


def storage_contexts() -> list[tuple[UID, list[UID]]]:
    """What a source may send over a C-GET association: each compressed syntax as a choice of its own.

    Where several syntaxes stand in one context the source must settle for one, and cannot send what it
    keeps in another; at most 128 contexts fit into an association (PS3.8 9.3.2.2).
    """
    plain = [(UID(kind), list(SYNTAXES)) for kind in (*_IMAGES, *_OTHERS)]
    return plain + [(UID(kind), [syntax]) for kind in _IMAGES for syntax in _COMPRESSED]


def require_matches(key: QueryKey, found: Sequence[Series]) -> None:
    """Raise PullTooWide if a source answers with what was not asked for.

    A source that does not know a key ignores it (PS3.4 C.2.2.2) and then answers with everything it has.
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
            asked and asked.casefold() != told.casefold() and not set(asked) & set("*?")
            for asked, told in pairs
        ):
            raise PullTooWide("The source answers with what was not asked for; it seems to ignore a key.")


def retrieve_by_get(
    source: Source,
    calling_ae: str,
    wanted: Sequence[Series],
    intake: storage_scp.Intake,
    told: OnProgress | None = None,
) -> Retrieved:
    """Bring series over one association and keep them (C-GET).

    Parameters
    ----------
    source : where they are
    calling_ae : AE title of the node
    wanted : what `find_series` found
    intake : what keeps each image; only when it has returned is the source told Success
    told : called after each image

    Raises
    ------
    Unreachable, AssociationRejected
        If there is no association, or it breaks; what came is kept.
    QueryRefused
        If the source does not do C-GET.
    PullIncomplete
        If not all came; what came is kept.
    StorageError
        If an image could not be kept.
    """
    keeper = _StoreHandler(intake=intake, wanted={series.series_uid for series in wanted}, told=told)
    keeper.expected = _total(series.instances for series in wanted)
    contexts = storage_contexts()
    roles = [build_role(kind, scp_role=True) for kind in dict.fromkeys(kind for kind, _ in contexts)]
    handlers = [(evt.EVT_C_STORE, keeper.store)]
    tally = _SubOperations(source=source)
    more = {"ext_neg": roles, "evt_handlers": handlers}
    with association(source, calling_ae, [(GET, SYNTAXES), *contexts], **more) as asked:
        for series in wanted:
            before = len(keeper.kept)
            tally.take(asked.send_c_get, _identifier(series), GET, kept=keeper.kept)
            if keeper.problem is not None:
                raise keeper.problem
            tally.check(series.instances, len(keeper.kept) - before)
    _log.info("fetched", source=source.ae_title, series=len(wanted), instances=len(keeper.kept))
    tally.require_all(len(keeper.kept))
    return Retrieved(series=len(wanted), instances=len(keeper.kept), remarks=tally.remarks)


def retrieve_by_move(
    source: Source, calling_ae: str, wanted: Sequence[Series], move_to: str, told: OnProgress | None = None
) -> Retrieved:
    """Let a source send series to another AE, such as the running node (C-MOVE).

    Parameters
    ----------
    source, calling_ae, wanted : as for `fetch`
    move_to : AE title under which the source knows the receiver
    told : called when the source tells how far it is

    Raises
    ------
    As `fetch`; QueryRefused also if the source does not know the receiver.
    """
    expected = _total(series.instances for series in wanted)
    tally = _SubOperations(source=source, to=f", for {move_to}", told=told, expected=expected)
    with association(source, calling_ae, [(MOVE, SYNTAXES)]) as asked:
        for series in wanted:
            before = tally.completed
            tally.take(asked.send_c_move, _identifier(series), move_to, MOVE)
            tally.check(series.instances, tally.completed - before)
    _log.info("moved", source=source.ae_title, series=len(wanted), instances=tally.completed)
    tally.require_all(tally.completed)
    return Retrieved(series=len(wanted), instances=tally.completed, remarks=tally.remarks)


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
    """Answers the images that come over a C-GET association."""

    intake: storage_scp.Intake
    wanted: set[str]
    told: OnProgress | None
    expected: int | None = None
    kept: set[str] = field(default_factory=set)
    problem: OrgsegError | None = None

    def store(self, event: Event) -> int:
        """Keep one image; the status that tells the truth about it."""
        incoming = storage_scp.incoming_instance(event, sender=event.assoc.acceptor.ae_title)
        try:
            header = part10.read_header(incoming.encoded, incoming.transfer_syntax)
            if header.series_uid not in self.wanted:
                _log.warning("an image came that was not asked for")
                return storage_scp.NOT_MATCHING
            self.intake.accept(incoming)
        except InputError as error:
            _log.warning("image refused", code=error.code)
            return storage_scp.c_store_status(error)
        except OrgsegError as error:
            _log.error("image not kept", code=error.code)
            self.problem = error
            return storage_scp.c_store_status(error)
        self.kept.add(incoming.sop_uid)
        if self.told is not None:
            self.told(len(self.kept), self.expected)
        return storage_scp.SUCCESS


@dataclass(slots=True, kw_only=True)
class _SubOperations:
    """Counts what the sub-operations of a retrieval became."""

    source: Source
    to: str = ""
    told: OnProgress | None = None
    expected: int | None = None
    completed: int = 0
    failed: int = 0
    remarks: int = 0
    missing: int = 0
    statuses: list[str] = field(default_factory=list)

    def take(self, send: Any, *request: Any, kept: set[str] | None = None) -> None:
        """Run one retrieval to its end. Raises Unreachable or QueryRefused."""
        counts = [0, 0, 0]
        try:
            for status, _ in send(*request):
                code = require_status(status, self.source)
                counts = self._counts(status, counts)
                if self.told is not None:
                    self.told(self.completed + counts[0] + counts[2], self.expected)
                if code not in PENDING:
                    self._end(code, counts)
        except (ValueError, RuntimeError, Unreachable) as error:
            came = self.completed + counts[0] + counts[2] if kept is None else len(kept)
            why = f"broke off, or was silent for {self.source.timeout_s:g} s, after {came} images"
            raise Unreachable(f"{name_of(self.source)} {why}.") from error

    def _counts(self, status: Dataset, before: list[int]) -> list[int]:
        names = ("Completed", "Failed", "Warning")
        told = [status.get(f"NumberOf{name}Suboperations") for name in names]
        return [old if new is None else int(new) for old, new in zip(before, told, strict=True)]

    def _end(self, code: int, counts: list[int]) -> None:
        completed, failed, warning = counts
        # a warning of the receiver means that it has the image (PS3.4 B.2.3)
        self.completed += completed + warning
        self.failed += failed
        self.remarks += warning
        if code == MOVE_DESTINATION_UNKNOWN:
            raise QueryRefused(
                f"{name_of(self.source)} answered {describe_status(code)}{self.to}.", status=code
            )
        only_remarks = code == SUBOPERATIONS_INCOMPLETE and not failed
        if code != SUCCESS and not only_remarks and describe_status(code) not in self.statuses:
            self.statuses.append(describe_status(code))

    def check(self, expected: int | None, came: int) -> None:
        """Remember how many images of a series did not come."""
        self.missing += max(0, (expected or 0) - came)

    def require_all(self, came: int) -> None:
        """Raise PullIncomplete, or QueryRefused if nothing came for one reason, unless all came."""
        if came and not (self.failed or self.missing or self.statuses):
            return
        reasons = "; ".join(self.statuses) or "the source called it done"
        if not came and not self.failed and self.statuses:
            raise QueryRefused(f"{name_of(self.source)} answered {reasons}{self.to}.")
        lost = max(self.failed, self.missing)
        raise PullIncomplete(f"{came} images came, {lost or 'an unknown number'} did not: {reasons}.")
