"""Overrides: a person has a series judged now, keeps it waiting, or chooses one of its volumes.

An override is a row that the running node reads at its next scan, so the command line can write it while the
node runs. Who wrote it, and why, is an event of the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orgseg_node.errors import OptionInvalid, SeriesRefuses, SeveralParts
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Database, Transaction
from orgseg_node.node.store.model import Series, SeriesState
from orgseg_node.node.store.series_states import reopen_held

FORCE: Final = "force"
WAIT: Final = "wait"

_NEXT: Final = {
    SeriesState.READY: "Its job is in 'orgseg jobs list'.",
    SeriesState.IGNORED: "A rule set it aside.",
    SeriesState.CONFLICT: "Choose with 'orgseg series settle' which of the contradicting images count.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOverride:
    """What a person decided about the judging of a series.

    Attributes
    ----------
    series_uid : Series Instance UID
    kind : ``force`` (judge it now) or ``wait``
    revision : of the series at the time of the override
    ends_at : end of the waiting; None until it is released
    note : who decided it, and why
    at : time of the override
    """

    series_uid: str
    kind: str
    revision: int
    ends_at: datetime | None
    note: str
    at: datetime

    def forces(self, revision: int) -> bool:
        """Whether a revision is judged now, as it is. A later revision is judged as usual."""
        return self.kind == FORCE and self.revision == revision

    def holds(self, now: datetime) -> bool:
        """Whether the series is kept waiting at this time."""
        return self.kind == WAIT and (self.ends_at is None or now < self.ends_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesVolume:
    """One of several volumes of a held series, such as a phase of a 4DCT.

    Attributes
    ----------
    series_uid : Series Instance UID
    revision : of the series
    number : from 1
    name : of the volume
    slices : how many it has
    """

    series_uid: str
    revision: int
    number: int
    name: str
    slices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    revision: int
    name: str


class SeriesOverrides:
    """The overrides that are in force.

    Parameters
    ----------
    database : the node's database
    clock : source of the time
    """

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._db = database
        self._clock = clock

    def all(self) -> dict[str, SeriesOverride]:
        """Every override, by Series Instance UID."""
        return {one.series_uid: one for one in self._db.read(SeriesOverride, "SELECT * FROM series_order")}

    def force(self, series_uid: str, note: str) -> None:
        """Have a series judged now, with the images that are here. Raises SeriesRefuses."""
        with self._db.write() as tx:
            state, revision = self._of(tx, series_uid, FORCE)
            if state is SeriesState.HOLD:  # the change of state makes the event
                reopen_held(tx, series_uid, f"force: {note}")
            else:
                tx.append_event("series", series_uid, FORCE, note)
            self._put(
                tx,
                SeriesOverride(
                    series_uid=series_uid, kind=FORCE, revision=revision, ends_at=None, note=note,
                    at=self._clock(),
                ),
            )  # fmt: skip

    def wait(self, series_uid: str, note: str, until: datetime | None) -> None:
        """Keep a series waiting: it is not judged.

        Parameters
        ----------
        series_uid : Series Instance UID
        note : who decided it, and why
        until : end of the waiting; None until it is released

        Raises
        ------
        SeriesRefuses
            If the series is neither in RECEIVING nor in HOLD.
        """
        with self._db.write() as tx:
            _, revision = self._of(tx, series_uid, WAIT)
            ends = "until it is released" if until is None else f"until {until.isoformat(timespec='seconds')}"
            tx.append_event("series", series_uid, WAIT, f"{ends}; {note}")
            self._put(
                tx,
                SeriesOverride(
                    series_uid=series_uid, kind=WAIT, revision=revision, ends_at=until, note=note,
                    at=self._clock(),
                ),
            )  # fmt: skip

    def release(self, series_uid: str, note: str) -> None:
        """End the waiting of a series. Raises SeriesRefuses if it is not kept waiting."""
        with self._db.write() as tx:
            gone = tx.run("DELETE FROM series_order WHERE series_uid = ? AND kind = 'wait'", (series_uid,))
            if not gone:
                raise SeriesRefuses("It is not kept waiting.")
            tx.append_event("series", series_uid, "release", note)

    def offer_volumes(self, series: Series, volumes: Sequence[tuple[str, int]]) -> None:
        """Keep which volumes a held series has.

        Parameters
        ----------
        series : the series in its present revision
        volumes : name and number of slices of each
        """
        with self._db.write() as tx:
            tx.run("DELETE FROM series_volume WHERE series_uid = ?", (series.series_uid,))
            for number, (name, slices) in enumerate(volumes, start=1):
                tx.run(
                    "INSERT INTO series_volume (series_uid, revision, number, name, slices)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (series.series_uid, series.revision, number, name, slices),
                )

    def volumes(self, series: Series) -> list[SeriesVolume]:
        """The volumes of a series that is held because it has several, else none."""
        if series.state is not SeriesState.HOLD or series.reason != SeveralParts.code:
            return []
        return self._db.read(
            SeriesVolume,
            "SELECT * FROM series_volume WHERE series_uid = ? AND revision = ? ORDER BY number",
            (series.series_uid, series.revision),
        )

    def choose(self, series: Series, volume: str, note: str) -> SeriesVolume:
        """Have one volume of a held series contoured; the choice is for this revision of the series.

        Parameters
        ----------
        series : the series
        volume : name or number of the volume
        note : who decided it, and why

        Returns
        -------
        The volume

        Raises
        ------
        SeriesRefuses
            If the series is not held because it has several volumes.
        OptionInvalid
            If it has no such volume.
        """
        known = self.volumes(series)
        if not known:
            raise SeriesRefuses("It is not held because it has several volumes.")
        wanted = volume.strip().casefold()
        names = {one.name.casefold(): one for one in known}
        found = names.get(wanted) or {str(one.number): one for one in known}.get(wanted)
        if found is None:
            raise OptionInvalid(f"Its volumes are {', '.join(f'{one.number}: {one.name}' for one in known)}.")
        with self._db.write() as tx:
            state, revision = self._of(tx, series.series_uid, "choose")
            if state is not SeriesState.HOLD or revision != series.revision:
                raise SeriesRefuses("It was judged again meanwhile.")
            reopen_held(tx, series.series_uid, f"choose {found.name}: {note}")
            tx.run("DELETE FROM volume_choice WHERE series_uid = ?", (series.series_uid,))
            tx.run(
                "INSERT INTO volume_choice (series_uid, revision, name, note, at) VALUES (?, ?, ?, ?, ?)",
                (series.series_uid, revision, found.name, note, stamp(self._clock())),
            )
        return found

    def chosen(self, series: Series) -> str | None:
        """Name of the volume that a person has chosen for this revision of a series, or None."""
        found = self._db.read(
            _Choice, "SELECT revision, name FROM volume_choice WHERE series_uid = ?", (series.series_uid,)
        )
        return next((one.name for one in found if one.revision == series.revision), None)

    def judged(self, series_uid: str) -> None:
        """Remove the override of a series that was judged."""
        with self._db.write() as tx:
            tx.run("DELETE FROM series_order WHERE series_uid = ? AND kind = 'force'", (series_uid,))

    def _of(self, tx: Transaction, series_uid: str, kind: str) -> tuple[SeriesState, int]:
        rows = tx.rows("SELECT state, revision FROM series WHERE series_uid = ?", (series_uid,))
        if not rows:
            raise SeriesRefuses("It was never received.")
        state = SeriesState(rows[0][0])
        if state not in {SeriesState.RECEIVING, SeriesState.HOLD}:
            what = {FORCE: "judged again", WAIT: "kept waiting"}.get(kind, "contoured in part")
            raise SeriesRefuses(f"A series that is {state} cannot be {what}. {_NEXT[state]}")
        return state, int(rows[0][1])

    def _put(self, tx: Transaction, override: SeriesOverride) -> None:
        tx.run("DELETE FROM series_order WHERE series_uid = ?", (override.series_uid,))
        ends = stamp(override.ends_at) if override.ends_at else None
        tx.run(
            "INSERT INTO series_order (series_uid, kind, revision, ends_at, note, at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (override.series_uid, override.kind, override.revision, ends, override.note, stamp(override.at)),
        )
