"""What sources said about series: how many images they have of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from orgseg_node.node.store.clock import stamp
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import Series


class Answer(StrEnum):
    """What is known from the source of a series."""

    ASKING = "ASKING"
    COMPLETE = "COMPLETE"
    INCOMPLETE = "INCOMPLETE"
    NO_ANSWER = "NO_ANSWER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """What the source says of one revision of a series.

    Attributes
    ----------
    expected, held : images at the source and here, where the source answered
    fetches : how often missing images were asked for
    note : a sentence
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
        """Whether nothing more is to be asked."""
        return self.answer != Answer.ASKING


class Answers:
    """What sources said, kept in the node's database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def of(self, series: Series) -> Completeness | None:
        """What is known of a revision of a series; None if nobody was asked."""
        found = self._db.read(
            Completeness,
            "SELECT * FROM completeness WHERE series_uid = ? AND revision = ?",
            (series.series_uid, series.revision),
        )
        return found[0] if found else None

    def put(self, known: Completeness) -> None:
        """Remember it, in the place of what was known of an earlier revision."""
        with self._db.write() as tx:
            tx.run("DELETE FROM completeness WHERE series_uid = ?", (known.series_uid,))
            tx.run(
                "INSERT INTO completeness (series_uid, revision, answer, expected, held, fetches, note,"
                " first_asked_at, next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (known.series_uid, known.revision, str(known.answer), known.expected, known.held,
                 known.fetches, known.note, stamp(known.first_asked_at), stamp(known.next_at)),
            )  # fmt: skip
