"""Finds studies, series and images of a PACS: C-FIND in the study root model (PS3.4 C).

Matches arrive one by one as pending responses. When there are more than the limit, the query is cancelled by
C-CANCEL, so that an unspecific key does not make a PACS list its whole archive. Names of patients are
returned to the user who queried; they are never logged, and no error holds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import structlog
from pydicom.dataset import Dataset
from pynetdicom.association import Association

from orgseg_node.dicom.reading.files import whole_text
from orgseg_node.dicom.reading.part10 import valid_uid
from orgseg_node.errors import KeyUnusable, QueryRefused, Unreachable
from orgseg_node.node.config.node_config import Source
from orgseg_node.node.dimse.association import (
    CANCELLED,
    FIND,
    PENDING,
    SUCCESS,
    SYNTAXES,
    describe_status,
    require_status,
    source_association,
)

_MAX_AFTER_CANCEL: Final = 1000
"""So many responses are still read after a cancellation; then the association is aborted."""

_STUDY_KEYS: Final = (
    *("PatientID", "PatientName", "StudyDate", "AccessionNumber", "StudyInstanceUID", "StudyDescription"),
    *("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
)
_SERIES_KEYS: Final = (
    *("StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription"),
    "NumberOfSeriesRelatedInstances",
)

Item = TypeVar("Item")

_log = structlog.get_logger("orgseg.query")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryKey:
    """Matching keys of a query; empty keys match everything.

    Attributes
    ----------
    patient_id, accession : as in the PACS; may hold the wildcards * and ?
    study_uid, series_uid : UIDs
    modality : such as CT
    dates : of the study: YYYYMMDD, YYYYMMDD-YYYYMMDD, or a range with one end left out

    Raises
    ------
    KeyUnusable
        If a key is not valid in DICOM; the error does not quote the value.
    """

    patient_id: str = ""
    accession: str = ""
    study_uid: str = ""
    series_uid: str = ""
    modality: str = ""
    dates: str = ""

    def __post_init__(self) -> None:
        for name, text, longest in (
            ("patient ID", self.patient_id, 64),
            ("accession number", self.accession, 16),
        ):
            # a backslash separates several values (PS3.5 6.4), outer spaces are not significant
            if "\\" in text or not text.isprintable() or text != text.strip() or len(text) > longest:
                raise KeyUnusable(f"A {name} has up to {longest} characters, no backslash, no outer spaces.")
        for name, text in (("study", self.study_uid), ("series", self.series_uid)):
            if text and not valid_uid(text):
                raise KeyUnusable(f"The {name} is given by its UID: digits and dots, 64 at most.")
        if not re.fullmatch(r"[A-Z0-9_]{0,16}", self.modality):
            raise KeyUnusable("A modality has up to 16 capital letters, such as CT.")
        _check_dates(self.dates)

    @property
    def is_specific(self) -> bool:
        """Whether it selects one patient, order, study or series, without wildcards."""
        named = (self.study_uid, self.series_uid, self.patient_id, self.accession)
        return any(text and not set(text) & set("*?") for text in named)


def _check_dates(text: str) -> None:
    fits = re.fullmatch(r"(\d{8})?(-?)(\d{8})?", text, re.ASCII)
    days = [day for day in text.split("-") if day]
    try:
        for day in days:
            datetime.strptime(day, "%Y%m%d")  # noqa: DTZ007  # only checks whether there is such a day
    except ValueError:
        fits = None
    if fits is None or (text and not days) or days != sorted(days):
        raise KeyUnusable("Dates are YYYYMMDD, FROM-TO, FROM- or -TO, and FROM is not after TO.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study as the source describes it; counts are None where the source gives none."""

    study_uid: str
    patient_id: str
    patient_name: str
    date: str
    accession: str
    description: str
    modalities: str
    series: int | None
    instances: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series as the source describes it.

    Attributes
    ----------
    instances : number of its images; None if the source gives none
    images : SOP Instance UIDs of the images to retrieve; all images when empty
    study : the study it belongs to; None if only the UID of the series was queried
    """

    study_uid: str
    series_uid: str
    modality: str
    number: str
    description: str
    instances: int | None
    images: tuple[str, ...] = ()
    study: Study | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult(Generic[Item]):
    """The matches of a source, and whether there are more than the limit."""

    items: tuple[Item, ...]
    has_more: bool


def find_studies(source: Source, calling_ae: str, key: QueryKey, limit: int) -> QueryResult[Study]:
    """Find the studies of a source that match.

    Parameters
    ----------
    source : the source to query
    calling_ae : AE title of the node
    key : matching keys
    limit : most matches that are read before the query is cancelled

    Raises
    ------
    Unreachable
        If nothing answers, or the connection breaks.
    AssociationRejected
        If it does not accept one of the two AE titles.
    QueryRefused
        If it does not support queries, or responds with a failure.
    """
    with source_association(source, calling_ae, [(FIND, SYNTAXES)]) as association:
        found = _find_studies(association, source, key, limit)
    _log.info("studies found", source=source.ae_title, count=len(found.items), has_more=found.has_more)
    return found


def find_series(source: Source, calling_ae: str, key: QueryKey, limit: int) -> QueryResult[Series]:
    """Find the series of a source that match: those of each matching study, or the one with the given UID.

    A series given without its study is queried across studies, which not every source supports (PS3.4
    C.4.1.2.2, relational queries).

    Parameters
    ----------
    source : the source to query
    calling_ae : AE title of the node
    key : matching keys
    limit : most matches that are read before the query is cancelled

    Raises
    ------
    As `find_studies`.
    """
    across_studies = key.series_uid and not (key.study_uid or key.patient_id or key.accession or key.dates)
    with source_association(source, calling_ae, [(FIND, SYNTAXES)]) as association:
        studies: tuple[Study | None, ...] = (None,)
        has_more = False
        if not across_studies:
            found = _find_studies(association, source, replace(key, modality=""), limit)
            studies, has_more = found.items, found.has_more
        series: list[Series] = []
        for study in studies:
            part = _find_series(association, source, key, study, limit - len(series))
            series += part.items
            if part.has_more:
                has_more = True
                break
    _log.info("series found", source=source.ae_title, count=len(series), has_more=has_more)
    return QueryResult(items=tuple(series), has_more=has_more)


def find_images(source: Source, calling_ae: str, series: Series, limit: int) -> QueryResult[str]:
    """Find the SOP Instance UIDs of the images of a series.

    Parameters
    ----------
    source : the source to query
    calling_ae : AE title of the node
    series : a series that `find_series` found
    limit : most matches that are read before the query is cancelled

    Raises
    ------
    As `find_studies`.
    """
    identifier = _identifier("IMAGE", ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    identifier.StudyInstanceUID, identifier.SeriesInstanceUID = series.study_uid, series.series_uid
    with source_association(source, calling_ae, [(FIND, SYNTAXES)]) as association:
        matches, has_more = _find(association, source, identifier, limit)
    uids = tuple(uid for match in matches if valid_uid(uid := _text(match, "SOPInstanceUID")))
    return QueryResult(items=uids, has_more=has_more)


def has_object(source: Source, calling_ae: str, header: Dataset) -> bool:
    """Whether a source has an object.

    Parameters
    ----------
    source : the source to query
    calling_ae : AE title of the node
    header : with the UIDs of the study, the series and the object

    Raises
    ------
    As `find_studies`.
    """
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    identifier = _identifier("IMAGE", names)
    for name in names:
        setattr(identifier, name, header.get(name, ""))
    with source_association(source, calling_ae, [(FIND, SYNTAXES)]) as association:
        matches, _ = _find(association, source, identifier, 2)
    return any(_text(match, "SOPInstanceUID") == identifier.SOPInstanceUID for match in matches)


def _find_studies(association: Association, source: Source, key: QueryKey, limit: int) -> QueryResult[Study]:
    identifier = _identifier("STUDY", _STUDY_KEYS)
    identifier.PatientID, identifier.AccessionNumber = key.patient_id, key.accession
    identifier.StudyInstanceUID, identifier.StudyDate = key.study_uid, key.dates
    identifier.ModalitiesInStudy = key.modality
    matches, has_more = _find(association, source, identifier, limit)
    studies = tuple(
        Study(
            study_uid=_text(match, "StudyInstanceUID"),
            patient_id=_text(match, "PatientID"),
            patient_name=_text(match, "PatientName"),
            date=_text(match, "StudyDate"),
            accession=_text(match, "AccessionNumber"),
            description=_text(match, "StudyDescription"),
            modalities=_text(match, "ModalitiesInStudy").replace("\\", ", "),
            series=_number(match, "NumberOfStudyRelatedSeries"),
            instances=_number(match, "NumberOfStudyRelatedInstances"),
        )
        for match in matches
    )
    return QueryResult(items=studies, has_more=has_more)


def _find_series(
    association: Association, source: Source, key: QueryKey, study: Study | None, limit: int
) -> QueryResult[Series]:
    identifier = _identifier("SERIES", _SERIES_KEYS)
    identifier.StudyInstanceUID = "" if study is None else study.study_uid
    identifier.SeriesInstanceUID, identifier.Modality = key.series_uid, key.modality
    matches, has_more = _find(association, source, identifier, limit)
    series = tuple(
        Series(
            # unique keys; some sources do not return those of the levels above
            study_uid=_text(match, "StudyInstanceUID") or ("" if study is None else study.study_uid),
            series_uid=_text(match, "SeriesInstanceUID"),
            modality=_text(match, "Modality"),
            number=_text(match, "SeriesNumber"),
            description=_text(match, "SeriesDescription"),
            instances=_number(match, "NumberOfSeriesRelatedInstances"),
            study=study,
        )
        for match in matches
    )
    return QueryResult(items=series, has_more=has_more)


def _find(
    association: Association, source: Source, identifier: Dataset, limit: int
) -> tuple[list[Dataset], bool]:
    """The matches up to a limit, and whether the query was cancelled."""
    matches: list[Dataset] = []
    after_cancel = 0
    for status, response in _responses(association.send_c_find, source, identifier, FIND, msg_id=1):
        code = require_status(status, source)
        if code not in PENDING:
            if code == SUCCESS or (after_cancel and code == CANCELLED):
                break
            raise QueryRefused(f"{source.description} answered {describe_status(code)}.", status=code)
        if response is None:
            raise QueryRefused(f"{source.description} sent a response that cannot be read.", status=code)
        if len(matches) < limit:
            matches.append(response)
            continue
        if not after_cancel:
            association.send_c_cancel(1, query_model=FIND)
        after_cancel += 1
        if after_cancel > _MAX_AFTER_CANCEL:
            association.abort()
            break
    return matches, after_cancel > 0


def _responses(send: Any, source: Source, *request: Any, **more: Any) -> Iterator[tuple[Dataset, Any]]:
    """The responses to a request; errors of the network layer become errors with codes."""
    try:
        yield from send(*request, **more)
    except ValueError as error:
        raise QueryRefused(f"{source.description} does not accept this kind of request.") from error
    except RuntimeError as error:
        raise Unreachable(f"{source.description} closed the connection.") from error


def _identifier(level: str, keys: Sequence[str]) -> Dataset:
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"  # responses may use any other; each names its own
    identifier.QueryRetrieveLevel = level
    for key in keys:
        setattr(identifier, key, "")
    return identifier


def _text(match: Dataset, keyword: str) -> str:
    """A value of a response as one line that is safe on a terminal; several values stay separated."""
    text = whole_text(match, keyword)
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()


def _number(match: Dataset, keyword: str) -> int | None:
    text = _text(match, keyword)
    return int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else None
