"""Answers of sources: how many images of a series a source has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from orgseg_node.node.store.clock import stamp
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import Series


class Answer(StrEnum):
    """What the source of a series has answered so far."""

    ASKING = "ASKING"
    COMPLETE = "COMPLETE"
    INCOMPLETE = "INCOMPLETE"
    NO_ANSWER = "NO_ANSWER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """The answer of the source about one revision of a series.

    Attributes
    ----------
    series_uid : Series Instance UID
    revision : of the series
    answer : see `Answer`
    expected : number of images at the source; None if it has not answered
    held : number of images here; None if the source has not answered
    fetches : how often missing images were retrieved
    note : the answer as a sentence
    first_asked_at : time of the first question
    next_at : time of the next question
    """

    series_uid: str
    revision: int
    answer: str
    expected: int | None
    held: int | None
    fetches: int
    note: str
    first_asked_at: datetime
    next_at: datetime

    @property
    def is_final(self) -> bool:
        """Whether the source does not have to be asked again."""
        return self.answer != Answer.ASKING


class Answers:
    """Answers of sources in the node's database.

    Parameters
    ----------
    database : the node's database
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def of(self, series: Series) -> Completeness | None:
        """The answer about the present revision of a series; None if no source was asked."""
        found = self._db.read(
            Completeness,
            "SELECT * FROM completeness WHERE series_uid = ? AND revision = ?",
            (series.series_uid, series.revision),
        )
        return found[0] if found else None

    def put(self, known: Completeness) -> None:
        """Store an answer; it replaces that about an earlier revision."""
        with self._db.write() as tx:
            tx.run("DELETE FROM completeness WHERE series_uid = ?", (known.series_uid,))
            tx.run(
                "INSERT INTO completeness (series_uid, revision, answer, expected, held, fetches, note,"
                " first_asked_at, next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (known.series_uid, known.revision, str(known.answer), known.expected, known.held,
                 known.fetches, known.note, stamp(known.first_asked_at), stamp(known.next_at)),
            )  # fmt: skip
