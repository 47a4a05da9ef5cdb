"""When a series is stable: no association is open for it, and no image has come for long enough."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.intake.transfers import Transfers
from orgseg_node.node.store.clock import Clock
from orgseg_node.node.store.model import Series, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.store.source_answers import Answers
from orgseg_node.node.store.store import Store


class Stability:
    """Finds the series that are stable, and those about which a source has to be asked first.

    Parameters
    ----------
    config : the node's configuration
    store : the node's database
    transfers : the associations over which series arrive
    clock : source of the time
    """

    def __init__(self, config: CurrentConfig, store: Store, transfers: Transfers, clock: Clock) -> None:
        self._current = config
        self._store = store
        self._transfers = transfers
        self._clock = clock
        self._began = clock()
        self._overrides = SeriesOverrides(store.database, clock=clock)
        self._answers = Answers(store.database)
        self.adopted_at: datetime | None = None

    def stable(self) -> list[tuple[Series, datetime]]:
        """Stable series without an override in force, each with the time since which it is stable."""
        now, overrides = self._clock(), self._overrides.all()
        still = self._store.series(state=SeriesState.RECEIVING, stable_since=now - min(self.waits))
        found = []
        for series, stable_at in self.idle(still):
            override = overrides.get(series.series_uid)
            if stable_at <= now and not (
                override and (override.holds(now) or override.forces(series.revision))
            ):
                found.append((series, stable_at))
        return found

    @property
    def waits(self) -> tuple[timedelta, timedelta]:
        """How long no image may arrive until a series is stable: as a rule, and after a release."""
        usual = self._current.config.receiver.quiet_seconds
        after_release = self._current.config.completeness.quiet_seconds_after_release or usual
        return timedelta(seconds=usual), timedelta(seconds=after_release)

    def idle(self, series: Iterable[Series]) -> list[tuple[Series, datetime]]:
        """Of some series those without an open association, each with the time at which it is stable.

        A sender that lost its connection can only then continue: the waiting starts at the break, and after
        a stop of the node at its start.
        """
        usual, after_release = self.waits
        after_break = max(usual, timedelta(seconds=self._current.config.completeness.broken_wait_s))
        transfers = self._transfers.state
        found = []
        for one in series:
            if one.series_uid in transfers.open:
                continue
            since = max(one.last_received_at, self.adopted_at or one.last_received_at)
            broken = transfers.broken.get(one.series_uid)
            if broken is not None:
                found.append((one, max(since, broken.at) + after_break))
            else:
                found.append((one, since + (usual if self._is_adopted(one) else after_release)))
        return found

    def _is_adopted(self, series: Series) -> bool:
        """Whether its last image came before this process started; the end of its association is unknown."""
        return series.last_received_at < self._began

    def source_of(self, series: Series) -> str | None:
        """The source that can be asked about a series: that of its sender."""
        sources = {peer.ae_title: peer.source for peer in self._current.config.peers}
        return sources.get(series.calling_ae)

    def must_ask(self, series: Series, stable_at: datetime) -> bool:
        """Whether the source has to be asked before a series is judged that is stable since a time."""
        section = self._current.config.completeness
        asks = section.expect == "ask" or series.series_uid in self._transfers.state.broken
        if not asks or self.source_of(series) is None:
            return False
        known = self._answers.of(series)
        if known is not None and known.is_final:
            return False
        return self._clock() - stable_at < timedelta(seconds=3 * section.answer_within_s)
