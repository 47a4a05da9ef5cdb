"""Asks a PACS what it holds: C-FIND in the study root model (PS3.4 C), study by study and series by series.

Answers come one by one as pending responses. More than the limit are cancelled by C-CANCEL, so that a key
that fits everything does not make a PACS list its whole archive. Names of patients are in the answers for
the person who asked; they are never logged and no error holds them.
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

from orgseg_node.dicom.reading.part10 import valid_uid
from orgseg_node.errors import KeyUnusable, QueryRefused, Unreachable
from orgseg_node.node.config.node_config import Source
from orgseg_node.node.dimse.association import (
    CANCELLED,
    FIND,
    PENDING,
    SUCCESS,
    SYNTAXES,
    association,
    describe_status,
    name_of,
    require_status,
)

_MAX_AFTER_CANCEL: Final = 1000
"""So many answers are still read after a cancellation; a source that goes on is hung up on."""

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
    """What is looked for; parts that are empty match everything.

    Attributes
    ----------
    patient_id, accession : as in the PACS; may hold the wildcards * and ?
    study_uid, series_uid : UIDs
    modality : such as CT
    dates : of the study: YYYYMMDD, YYYYMMDD-YYYYMMDD, or one side of it left out

    Raises
    ------
    KeyUnusable
        If a part is not written as DICOM wants it; the value is not repeated.
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
            # a backslash would make it several values (PS3.5 6.4), outer spaces are not significant
            if "\\" in text or not text.isprintable() or text != text.strip() or len(text) > longest:
                raise KeyUnusable(f"A {name} has up to {longest} characters, no backslash, no outer spaces.")
        for name, text in (("study", self.study_uid), ("series", self.series_uid)):
            if text and not valid_uid(text):
                raise KeyUnusable(f"The {name} is named by its UID: digits and dots, 64 at most.")
        if not re.fullmatch(r"[A-Z0-9_]{0,16}", self.modality):
            raise KeyUnusable("A modality has up to 16 capital letters, such as CT.")
        _check_dates(self.dates)

    @property
    def is_specific(self) -> bool:
        """Whether it names one patient, order, study or series, without wildcards."""
        named = (self.study_uid, self.series_uid, self.patient_id, self.accession)
        return any(text and not set(text) & set("*?") for text in named)


def _check_dates(text: str) -> None:
    fits = re.fullmatch(r"(\d{8})?(-?)(\d{8})?", text, re.ASCII)
    days = [day for day in text.split("-") if day]
    try:
        for day in days:
            datetime.strptime(day, "%Y%m%d")  # noqa: DTZ007  # only asked whether there is such a day
    except ValueError:
        fits = None
    if fits is None or (text and not days) or days != sorted(days):
        raise KeyUnusable("Dates are YYYYMMDD, FROM-TO, FROM- or -TO, and FROM is not after TO.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study as the source tells it; counts are None where it does not say."""

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
    """A series as the source tells it.

    Attributes
    ----------
    instances : how many images it has, None where the source does not say
    images : SOP Instance UIDs of those that are meant, where not all are
    study : the study it belongs to, None where only its UID was asked for
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
    """What a source told, and whether it has more than the limit."""

    items: tuple[Item, ...]
    has_more: bool


def find_studies(source: Source, calling_ae: str, key: QueryKey, limit: int) -> QueryResult[Study]:
    """The studies of a source that match.

    Parameters
    ----------
    source : whom to ask
    calling_ae : AE title of the node
    key : what to look for
    limit : how many answers are taken before the rest is cancelled

    Raises
    ------
    Unreachable
        If nothing answers, or the connection breaks.
    AssociationRejected
        If it does not accept one of the two AE titles.
    QueryRefused
        If it does not answer queries, or answers with a failure.
    """
    with association(source, calling_ae, [(FIND, SYNTAXES)]) as asked:
        found = _find_studies(asked, source, key, limit)
    _log.info("studies found", source=source.ae_title, count=len(found.items), has_more=found.has_more)
    return found


def find_series(source: Source, calling_ae: str, key: QueryKey, limit: int) -> QueryResult[Series]:
    """The series of a source that match: those of each matching study, or the one that is named.

    Parameters, Raises
    ------------------
    As `find_studies`. A series named without its study is asked for across studies, which not every source
    answers (PS3.4 C.4.1.2.2, relational queries).
    """
    named = key.series_uid and not (key.study_uid or key.patient_id or key.accession or key.dates)
    with association(source, calling_ae, [(FIND, SYNTAXES)]) as asked:
        studies: tuple[Study | None, ...] = (None,)
        has_more = False
        if not named:
            found = _find_studies(asked, source, replace(key, modality=""), limit)
            studies, has_more = found.items, found.has_more
        series: list[Series] = []
        for study in studies:
            part = _find_series(asked, source, key, study, limit - len(series))
            series += part.items
            if part.has_more:
                has_more = True
                break
    _log.info("series found", source=source.ae_title, count=len(series), has_more=has_more)
    return QueryResult(items=tuple(series), has_more=has_more)


def find_images(source: Source, calling_ae: str, series: Series, limit: int) -> QueryResult[str]:
    """The SOP Instance UIDs of the images of a series.

    Parameters, Raises
    ------------------
    As `find_studies`, with a series that `find_series` found.
    """
    wanted = _identifier("IMAGE", ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    wanted.StudyInstanceUID, wanted.SeriesInstanceUID = series.study_uid, series.series_uid
    with association(source, calling_ae, [(FIND, SYNTAXES)]) as asked:
        answers, has_more = _find(asked, source, wanted, limit)
    uids = tuple(uid for answer in answers if valid_uid(uid := _text(answer, "SOPInstanceUID")))
    return QueryResult(items=uids, has_more=has_more)


def _find_studies(asked: Association, source: Source, key: QueryKey, limit: int) -> QueryResult[Study]:
    wanted = _identifier("STUDY", _STUDY_KEYS)
    wanted.PatientID, wanted.AccessionNumber = key.patient_id, key.accession
    wanted.StudyInstanceUID, wanted.StudyDate = key.study_uid, key.dates
    wanted.ModalitiesInStudy = key.modality
    answers, has_more = _find(asked, source, wanted, limit)
    studies = tuple(
        Study(
            study_uid=_text(answer, "StudyInstanceUID"),
            patient_id=_text(answer, "PatientID"),
            patient_name=_text(answer, "PatientName"),
            date=_text(answer, "StudyDate"),
            accession=_text(answer, "AccessionNumber"),
            description=_text(answer, "StudyDescription"),
            modalities=_text(answer, "ModalitiesInStudy").replace("\\", ", "),
            series=_number(answer, "NumberOfStudyRelatedSeries"),
            instances=_number(answer, "NumberOfStudyRelatedInstances"),
        )
        for answer in answers
    )
    return QueryResult(items=studies, has_more=has_more)


def _find_series(
    asked: Association, source: Source, key: QueryKey, study: Study | None, limit: int
) -> QueryResult[Series]:
    wanted = _identifier("SERIES", _SERIES_KEYS)
    wanted.StudyInstanceUID = "" if study is None else study.study_uid
    wanted.SeriesInstanceUID, wanted.Modality = key.series_uid, key.modality
    answers, has_more = _find(asked, source, wanted, limit)
    series = tuple(
        Series(
            # type 1 keys by which answers are unique; some sources do not repeat those above their level
            study_uid=_text(answer, "StudyInstanceUID") or ("" if study is None else study.study_uid),
            series_uid=_text(answer, "SeriesInstanceUID"),
            modality=_text(answer, "Modality"),
            number=_text(answer, "SeriesNumber"),
            description=_text(answer, "SeriesDescription"),
            instances=_number(answer, "NumberOfSeriesRelatedInstances"),
            study=study,
        )
        for answer in answers
    )
    return QueryResult(items=series, has_more=has_more)


def _find(asked: Association, source: Source, wanted: Dataset, limit: int) -> tuple[list[Dataset], bool]:
    """Answers up to a limit, and whether the rest was cancelled."""
    found: list[Dataset] = []
    late = 0
    for status, answer in _responses(asked.send_c_find, source, wanted, FIND, msg_id=1):
        code = require_status(status, source)
        if code not in PENDING:
            if code == SUCCESS or (late and code == CANCELLED):
                break
            raise QueryRefused(f"{name_of(source)} answered {describe_status(code)}.", status=code)
        if answer is None:
            raise QueryRefused(f"{name_of(source)} sent an answer that cannot be read.", status=code)
        if len(found) < limit:
            found.append(answer)
            continue
        if not late:
            asked.send_c_cancel(1, query_model=FIND)
        late += 1
        if late > _MAX_AFTER_CANCEL:
            asked.abort()
            break
    return found, late > 0


def _responses(send: Any, source: Source, *request: Any, **more: Any) -> Iterator[tuple[Dataset, Any]]:
    """The answers to a request, with what the network layer raises told as what it means."""
    try:
        yield from send(*request, **more)
    except ValueError as error:
        raise QueryRefused(f"{name_of(source)} does not do this kind of request.") from error
    except RuntimeError as error:
        raise Unreachable(f"{name_of(source)} broke off.") from error


def _identifier(level: str, keys: Sequence[str]) -> Dataset:
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"  # the answers may be in any; each says which
    identifier.QueryRetrieveLevel = level
    for key in keys:
        setattr(identifier, key, "")
    return identifier


def _text(answer: Dataset, keyword: str) -> str:
    """A value of an answer as one line that is safe on a terminal; several values stay apart."""
    try:
        value = answer.get(keyword)
    except Exception:  # noqa: BLE001  # whatever a PACS sends, the other values are still worth telling
        return ""
    parts = [] if value is None else value if isinstance(value, (list, tuple)) else [value]
    text = "\\".join(str(part) for part in parts)
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()


def _number(answer: Dataset, keyword: str) -> int | None:
    text = _text(answer, keyword)
    return int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else None
