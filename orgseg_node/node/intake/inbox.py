"""The inbox: it accepts images durably, and judges a series once it is stable.

Layout of the data folder::

    inbox/<series uid>/<sop uid>.dcm           as received, never changed
    inbox/<series uid>/<sop uid>~<hash>.dcm    other content with the same UID: the series is in CONFLICT
    quarantine/                                files that were not complete when the node stopped
    jobs/<job id>/                             request, log, results
    db/                                        the databases of the node and of the engine
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from orgseg_node import durable
from orgseg_node.dicom.reading import part10
from orgseg_node.errors import NotDurable, OrgsegError, RuleUndecided
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.intake.recovery import adopt_files
from orgseg_node.node.intake.survey_cache import Surveys
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.routing.decision import ae_titles_of, decide, new_job
from orgseg_node.node.routing.facts import facts_of
from orgseg_node.node.routing.verdict import judge_completeness, judge_late_images, judge_series
from orgseg_node.node.scheduler import DISPATCH, JUDGE, Trigger, no_trigger
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.data_folder import INBOX
from orgseg_node.node.store.model import Incoming, Instance, NewJob, Notice, Series, SeriesState
from orgseg_node.node.store.routing_rows import SEVERAL_TITLES
from orgseg_node.node.store.series_overrides import SeriesOverride, SeriesOverrides
from orgseg_node.node.store.source_answers import Answers
from orgseg_node.node.store.store import Store

_LOCKS: Final = 64
_PRELOAD_S: Final = 10.0  # a series is preloaded this long before it is stable, at most half the waiting time

_log = structlog.get_logger("orgseg.inbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxCallbacks:
    """What an inbox calls when there will be work.

    Attributes
    ----------
    trigger : runs the next judging, and the dispatch of new jobs, in time
    preload : gets the folder of a series that will soon be a job
    """

    trigger: Trigger = no_trigger
    preload: Callable[[Path], None] = lambda _folder: None


class Inbox:
    """Accepts images durably and turns stable series into jobs.

    Parameters
    ----------
    config : the node's configuration
    store : the node's database
    clock : source of the time
    meters : count the images that arrive
    callbacks : are called when there will be work
    """

    def __init__(
        self,
        config: NodeConfig | CurrentConfig,
        store: Store,
        *,
        clock: Clock = utc_now,
        meters: Meters | None = None,
        callbacks: InboxCallbacks | None = None,
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._meters = meters or Meters()
        self._store = store
        self._clock = clock
        self._began = clock()
        self._data = self._config.node.data_dir
        self._root = self._data / INBOX
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._overrides = SeriesOverrides(store.database, clock=clock)
        self._answers = Answers(store.database)
        self._surveys = Surveys(self._data)
        self._callbacks = callbacks or InboxCallbacks()
        self._open: dict[int, set[str]] = {}
        self._aborted: set[str] = set()
        self._open_lock = threading.Lock()
        self._judging = threading.Lock()
        self._adopted_at: datetime | None = None
        durable.make_folder(self._root)

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    # ------------------------------------------------------------------ accept

    def accept(self, incoming: Incoming) -> SeriesState:
        """Accept one image; when this returns, it is on disk and in the database.

        Returns
        -------
        The state of its series

        Raises
        ------
        InputError
            If the image is unreadable, has no UIDs, or does not match the request. Nothing is kept.
        DiskFull, NotDurable, StorageError
            On any doubt about durability; the sender must keep the image and try again.
        """
        listed = any(peer.ae_title == incoming.calling_ae for peer in self._config.peers)
        with self._meters.accepting(incoming.calling_ae if listed else "other", len(incoming.encoded)):
            return self._accept(incoming)

    def _accept(self, incoming: Incoming) -> SeriesState:
        durable.require_space(self._root, self._config.receiver.min_free_mb)
        header = part10.read_header(incoming.encoded, incoming.transfer_syntax)
        part10.require_match(header, incoming.sop_class_uid, incoming.sop_uid)
        with self._open_lock:
            self._open.setdefault(incoming.association, set()).add(header.series_uid)
        sha256 = part10.content_hash(incoming.encoded, incoming.transfer_syntax)
        with self._locks[hash(header.sop_uid) % _LOCKS]:
            known = {copy.sha256: copy for copy in self._store.copies(header.sop_uid)}
            if sha256 in known and (self._data / known[sha256].path).is_file():
                return self._seen_again(known[sha256].series_uid, incoming)
            content = part10.part10(incoming.encoded, header, incoming.transfer_syntax)
            path = self._write(header, sha256, content)
            state = self._store.accept(
                Instance(
                    sop_uid=header.sop_uid,
                    series_uid=header.series_uid,
                    sha256=sha256,
                    size=len(content),
                    path=str(path.relative_to(self._data)),
                    transfer_syntax=incoming.transfer_syntax,
                    calling_ae=incoming.calling_ae,
                    received_at=self._clock(),
                    called_ae=incoming.called_ae,
                )
            )
        if state is SeriesState.CONFLICT:
            _log.warning("conflict", series=header.series_uid, instance=header.sop_uid)
        return state

    def _seen_again(self, series_uid: str, incoming: Incoming) -> SeriesState:
        """Handle an image that is here already; under another AE title its series is judged again."""
        series = self._store.one_series(series_uid)
        called_ae = incoming.called_ae
        if called_ae in {"", series.called_ae} and series.reason != RuleUndecided.code:
            return series.state
        _log.info("series sent to another AE title", series=series_uid, called=called_ae)
        return self._store.received_again(series_uid, called_ae, incoming.calling_ae)

    def _write(self, header: part10.Header, sha256: str, content: bytes) -> Path:
        """Write an image under a free name; an existing file is never overwritten."""
        folder = self._root / header.series_uid
        if not folder.is_dir():
            durable.make_folder(folder)
        path = folder / f"{header.sop_uid}.dcm"
        if path.exists() and not _same(path, sha256):
            path = folder / f"{header.sop_uid}~{sha256[:16]}.dcm"
        if path.exists():
            # written before, but the node stopped before it was in the database
            with _as_not_durable():
                durable.sync_folder(folder)
        else:
            durable.write_durably(path, content)
        return path

    def association_ended(self, association: int, *, released: bool = False) -> None:
        """Note that an association ended, and close the database connection of its thread.

        Parameters
        ----------
        association : its number
        released : whether it ended by A-RELEASE (PS3.8 9.3.6); otherwise the sender may have more images
        """
        with self._open_lock:
            series = self._open.pop(association, set())
            if not released:
                self._aborted |= series
        self._store.close()
        if series:
            self._callbacks.trigger(JUDGE, 0.0)

    # ------------------------------------------------------------------ start

    def adopt(self) -> tuple[int, int]:
        """Scan the inbox when the node starts: adopt files without a row, set incomplete files aside.

        Returns
        -------
        How many files were adopted, and how many were moved to quarantine
        """
        self._adopted_at = self._clock()
        return adopt_files(self._data, self._store, clock=self._clock)

    # ------------------------------------------------------------------ judge

    def judge_stable_series(self) -> list[str]:
        """Judge every series that is stable and has no open association.

        An override comes first: a series that a person forced is judged, one that a person keeps waiting is
        not. This may be called at any time and as often as needed. Without an override no series is judged
        within the waiting time after the start: a sender that lost its connection when the node stopped could
        not continue earlier.

        Returns
        -------
        Series Instance UIDs of the series that were judged
        """
        if not self._judging.acquire(blocking=False):
            return []
        try:
            overrides = self._overrides.all()
            forced = [
                series
                for series in self._store.series(state=SeriesState.RECEIVING)
                if series.series_uid in overrides and overrides[series.series_uid].forces(series.revision)
            ]
            stable = [series for series in self._stable(overrides) if not self._must_ask(series)]
            judged = [s.series_uid for s in forced if self._judge(s, forced=True)]
            judged += [s.series_uid for s in stable if self._judge(s)]
            if judged:
                self._callbacks.trigger(DISPATCH, 0.0)
            self._preload()
            return judged
        finally:
            self._judging.release()

    def series_to_ask_about(self) -> list[tuple[Series, str]]:
        """Stable series about which a source has to be asked, each with the name of the source."""
        return [
            (series, self._source_of(series) or "")
            for series in self._stable(self._overrides.all())
            if self._must_ask(series)
        ]

    def _stable(self, overrides: dict[str, SeriesOverride]) -> list[Series]:
        """Series that are stable and have no override."""
        now = self._clock()
        still = self._store.series(state=SeriesState.RECEIVING, stable_since=now - min(self._waits))
        found = []
        for series, stable_at in self._idle(still):
            override = overrides.get(series.series_uid)
            if stable_at <= now and not (
                override and (override.holds(now) or override.forces(series.revision))
            ):
                found.append(series)
        return found

    @property
    def _waits(self) -> tuple[timedelta, timedelta]:
        """How long no image may arrive until a series is stable: after an abort, and after a release."""
        after_abort = self._config.receiver.quiet_seconds
        after_release = self._config.completeness.quiet_seconds_after_release or after_abort
        return timedelta(seconds=after_abort), timedelta(seconds=after_release)

    def _idle(self, series: Iterable[Series]) -> list[tuple[Series, datetime]]:
        """Of some series those without an open association, each with the time at which it is stable."""
        after_abort, after_release = self._waits
        with self._open_lock:
            busy = set().union(*self._open.values())
            broken = set(self._aborted)
        found = []
        for one in series:
            wait = after_abort if one.series_uid in broken or self._is_adopted(one) else after_release
            # a sender that lost its connection when the node stopped cannot continue before the restart
            since = max(one.last_received_at, self._adopted_at or one.last_received_at)
            if one.series_uid not in busy:
                found.append((one, since + wait))
        return found

    def _preload(self) -> None:
        """Survey and preload series that will soon be stable, and have them judged at that moment."""
        now = self._clock()
        coming = [
            (series, (stable_at - now).total_seconds())
            for series, stable_at in self._idle(self._store.series(state=SeriesState.RECEIVING))
            if stable_at > now
        ]
        coming.sort(key=lambda each: each[1])
        for series, wait_s in coming[: Surveys.MOST]:
            if wait_s <= min(_PRELOAD_S, min(self._waits).total_seconds() / 2):
                instances = self._store.instances_of(series.series_uid)
                if not self._surveys.has(series.series_uid, instances):
                    self._callbacks.preload(self._root / series.series_uid)
                    self._surveys.of(series.series_uid, instances)
        if coming:
            soonest = coming[0][1]
            self._callbacks.trigger(JUDGE, soonest / 2 if soonest > 1.0 else soonest)

    def _is_adopted(self, series: Series) -> bool:
        """Whether its last image came before this process started; the end of its association is unknown."""
        return series.last_received_at < self._began

    def _source_of(self, series: Series) -> str | None:
        """The source that can be asked about a series: that of its sender."""
        sources = {peer.ae_title: peer.source for peer in self._config.peers}
        return sources.get(series.calling_ae)

    def _must_ask(self, series: Series) -> bool:
        """Whether the source has to be asked before the series is judged; the waiting is limited."""
        if self._config.completeness.expect == "none" or self._source_of(series) is None:
            return False
        known = self._answers.of(series)
        if known is not None and known.is_final:
            return False
        patience = self._config.receiver.quiet_seconds + 3 * self._config.completeness.answer_within_s
        return self._clock() - series.last_received_at < timedelta(seconds=patience)

    def _judge(self, series: Series, *, forced: bool = False) -> bool:
        """Survey one series and judge it, unless an image arrived in the meantime."""
        instances = self._store.instances_of(series.series_uid)
        if not instances:
            return False
        paths = [self._data / instance.path for instance in instances]
        inventory = self._surveys.of(series.series_uid, instances)
        decision = decide(self._config, facts_of(inventory, paths, **ae_titles_of(series))).decision
        verdict, protocol = judge_series(decision, inventory, forced=forced)
        if self._config.completeness.expect == "ask":
            verdict = judge_completeness(verdict, self._answers.of(series), forced=forced)
        job: NewJob | None = None
        notices: tuple[Notice, ...] = ()
        if verdict.content_sha256 and protocol is not None:
            content = (verdict.content_sha256, verdict.slices)
            job = new_job(self._config, decision, protocol, series_uid=series.series_uid, content=content)
            again = forced or self._config.completeness.late == "contour"
            verdict, notices = judge_late_images(
                verdict, series, job, self._store.jobs_of(series.series_uid), again=again
            )
            job = replace(job, remark=verdict.remark) if verdict.state is SeriesState.READY else None
        if series.note.startswith(SEVERAL_TITLES):
            verdict = replace(verdict, note=f"{verdict.note} {series.note}")
        done = self._store.judge(
            series, verdict.state, reason=verdict.reason, note=verdict.note, job=job, notices=notices
        )
        if done:
            self._surveys.forget(series.series_uid)
            with self._open_lock:
                self._aborted.discard(series.series_uid)
            if forced:
                self._overrides.judged(series.series_uid)
            _log.info(
                "series judged",
                series=series.series_uid,
                state=verdict.state.value,
                reason=verdict.reason,
                rule=decision.rule,
                instances=len(instances),
                job=job.job_id if job else None,
                forced=forced,
            )
        return done


def _same(path: Path, sha256: str) -> bool:
    """Whether a file in the inbox holds the dataset with this hash."""
    try:
        return part10.content_hash(*part10.split_part10(path.read_bytes())) == sha256
    except (OrgsegError, OSError):
        return False


@contextlib.contextmanager
def _as_not_durable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotDurable(f"{error.strerror}.") from error
