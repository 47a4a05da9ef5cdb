"""The inbox: it accepts images durably, and judges a series once it is stable.

The two halves meet only in the database. `Inbox.accept` runs in the thread of an association and adds rows
of images. `Inbox.judge_stable_series` is a tick of the scheduler (`JUDGE`): a series that is stable becomes
a job in QUEUED, which `processing.dispatcher.Dispatcher` gives to the engine.

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
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Final

import structlog
from pydicom.uid import RTStructureSetStorage

from orgseg_node import durable
from orgseg_node.dicom.reading import part10
from orgseg_node.errors import InputError, NotDurable, OrgsegError, RuleUndecided
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.feedback.rows import Arrived, FeedbackRows
from orgseg_node.node.intake.conflicts import compare_content
from orgseg_node.node.intake.file_reader import DirectReader, FileReader
from orgseg_node.node.intake.recovery import adopt_files
from orgseg_node.node.intake.series_judge import SeriesJudge
from orgseg_node.node.intake.stability import Stability
from orgseg_node.node.intake.survey_cache import Surveys
from orgseg_node.node.intake.transfers import Transfers
from orgseg_node.node.isolation import Isolation
from orgseg_node.node.monitoring.metrics import Meters
from orgseg_node.node.scheduler import DISPATCH, JUDGE, Trigger, no_trigger
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.data_folder import INBOX
from orgseg_node.node.store.model import Incoming, Instance, Series, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
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
    reader : reads the files; in this process when None
    """

    def __init__(  # noqa: PLR0913
        self,
        config: NodeConfig | CurrentConfig,
        store: Store,
        *,
        clock: Clock = utc_now,
        meters: Meters | None = None,
        callbacks: InboxCallbacks | None = None,
        reader: FileReader | None = None,
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._meters = meters or Meters()
        self._store = store
        self._clock = clock
        self._data = self._config.node.data_dir
        self._root = self._data / INBOX
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._overrides = SeriesOverrides(store.database, clock=clock)
        self._feedback = FeedbackRows(store.database, clock=clock)
        self._reader = reader or DirectReader()
        self._surveys = Surveys(self._data, self._reader)
        self._callbacks = callbacks or InboxCallbacks()
        self._transfers = Transfers(store.database, clock)
        self._stability = Stability(self._current, store, self._transfers, clock)
        self._judge = SeriesJudge(self._current, store, self._surveys, self._overrides, clock=clock)
        self._judging = threading.Lock()
        self._preloaded: set[tuple[str, int]] = set()
        durable.make_folder(self._root)

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    @property
    def receiving_folder(self) -> Path:
        """For large datasets while they arrive."""
        return self._root

    # ------------------------------------------------------------------ accept

    def accept(self, incoming: Incoming) -> SeriesState:
        """Accept one image; when this returns, it is on disk and in the database.

        An image that is here already changes nothing, also in another encoding (see
        `orgseg_node.dicom.reading.same_image`). Another image with its UID puts its series into CONFLICT.

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
        with self._meters.accepting(
            incoming.calling_ae if listed else "other", part10.size_of(incoming.encoded)
        ):
            try:
                state = self._accept(incoming)
            except InputError:
                raise  # it would be refused again
            except Exception as error:
                self._transfers.not_stored(incoming.association, incoming.sop_uid)
                if isinstance(error, OSError):  # the file of a large dataset cannot be read
                    raise durable.storage_error(error) from error
                raise
            self._transfers.stored(incoming.association, incoming.sop_uid)
            return state

    def _accept(self, incoming: Incoming) -> SeriesState:
        header = part10.read_header(incoming.encoded, incoming.transfer_syntax)
        part10.require_match(header, incoming.sop_class_uid, incoming.sop_uid)
        self._transfers.brings(incoming.association, header.series_uid)
        durable.require_space(self._root, self._config.receiver.min_free_mb)
        self._reader.prepare()
        sha256 = part10.content_hash(incoming.encoded, incoming.transfer_syntax)
        with self._locks[hash(header.sop_uid) % _LOCKS]:
            known = {copy.sha256: copy for copy in self._store.copies(header.sop_uid)}
            if sha256 in known and (self._data / known[sha256].path).is_file():
                self._note_feedback(incoming, header, sha256, known[sha256].path)
                return self._seen_again(known[sha256].series_uid, incoming)
            head = part10.part10_head(header.sop_class_uid, header.sop_uid, incoming.transfer_syntax)
            size = len(head) + part10.size_of(incoming.encoded)
            content = chain((head,), part10.pieces(incoming.encoded))
            same, differs = compare_content(self._data, list(known.values()), content, self._reader)
            if same is not None:
                _log.info("same image in another encoding", series=same.series_uid, instance=header.sop_uid)
                self._note_feedback(incoming, header, same.sha256, same.path)
                return self._seen_again(same.series_uid, incoming)
            path = self._write(header, sha256, head, incoming.encoded)
            state = self._store.accept(
                Instance(
                    sop_uid=header.sop_uid,
                    series_uid=header.series_uid,
                    sha256=sha256,
                    size=size,
                    path=str(path.relative_to(self._data)),
                    transfer_syntax=incoming.transfer_syntax,
                    calling_ae=incoming.calling_ae,
                    received_at=self._clock(),
                    called_ae=incoming.called_ae,
                ),
                differs=differs,
                contradicts=not self._is_feedback(incoming, header),
            )
            if not path.is_file():  # retention moved it away at this moment
                raise NotDurable("Its series was being deleted; it can be sent again.")
            self._note_feedback(incoming, header, sha256, str(path.relative_to(self._data)))
        if state is SeriesState.CONFLICT:
            _log.warning("conflict", series=header.series_uid, instance=header.sop_uid, differs=differs)
        return state

    def _note_feedback(self, incoming: Incoming, header: part10.Header, sha256: str, path: str) -> None:
        """Note a structure set of a peer whose structure sets are compared with what was delivered."""
        if self._is_feedback(incoming, header):
            self._feedback.register(
                Arrived(sop_uid=header.sop_uid, sha256=sha256, path=path, sender=incoming.calling_ae)
            )

    def _is_feedback(self, incoming: Incoming, header: part10.Header) -> bool:
        """Whether it is a structure set that came back; several with one UID are versions, no conflict."""
        is_peer = any(peer.feedback and peer.ae_title == incoming.calling_ae for peer in self._config.peers)
        return is_peer and header.sop_class_uid == RTStructureSetStorage

    def _seen_again(self, series_uid: str, incoming: Incoming) -> SeriesState:
        """Handle an image that is here already; under another AE title its series is judged again."""
        series = self._store.one_series(series_uid)
        called_ae = incoming.called_ae
        if called_ae in {"", series.called_ae} and series.reason != RuleUndecided.code:
            return series.state
        _log.info("series sent to another AE title", series=series_uid, called=called_ae)
        return self._store.received_again(series_uid, called_ae, incoming.calling_ae)

    def _write(self, header: part10.Header, sha256: str, head: bytes, encoded: part10.Encoded) -> Path:
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
            part10.write_part10(path, encoded, head)
        return path

    def association_ended(
        self, association: int, *, released: bool = False, cause: str = "", incomplete: str = ""
    ) -> None:
        """Note that an association ended, and close the database connection of its thread.

        Parameters
        ----------
        association : its number
        released : whether it ended by A-RELEASE (PS3.8 9.3.6); otherwise the sender may have more images
        cause : what ended it if it was not released, in words
        incomplete : Series Instance UID of the image that was arriving; empty if none was. A sender with an
            association for each image has brought nothing else over it
        """
        if incomplete:
            self._transfers.brings(association, incomplete)
        series = self._transfers.ended(association, released=released, cause=cause or "connection lost")
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
        self._stability.adopted_at = now = self._clock()
        found = adopt_files(self._data, self._store, self._reader, clock=self._clock)
        self._transfers.node_started(now)
        self._judge.node_started()
        return found

    # ------------------------------------------------------------------ judge

    def judge_stable_series(self) -> list[str]:
        """Judge every series that is stable and has no open association.

        A series whose sending was broken off waits longer: the sender may send it again.

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
            isolation = Isolation("judge")
            judged = self._judge_each(isolation, [(series, None) for series in forced])
            judged += self._judge_each(isolation, self._stability.stable())
            if judged:
                self._callbacks.trigger(DISPATCH, 0.0)
            self._preload(isolation)
            isolation.finish()
            return judged
        finally:
            self._judging.release()

    def _judge_each(
        self, isolation: Isolation, series: Iterable[tuple[Series, datetime | None]]
    ) -> list[str]:
        """Judge series; those that come without the time since which they are stable are forced.

        Returns
        -------
        Series Instance UIDs of those that were judged
        """
        broken = self._transfers.state.broken
        judged = []
        for one, stable_at in series:
            with isolation.item(f"series {one.series_uid}"):
                forced = stable_at is None
                if stable_at is not None and self._stability.must_ask(one, stable_at):
                    continue
                if self._judge.judge(one, broken.get(one.series_uid), forced=forced):
                    judged.append(one.series_uid)
        return judged

    def series_to_ask_about(self) -> list[tuple[Series, str]]:
        """Stable series about which a source has to be asked, each with the name of the source."""
        return [
            (series, self._stability.source_of(series) or "")
            for series, at in self._stability.stable()
            if self._stability.must_ask(series, at)
        ]

    def _preload(self, isolation: Isolation) -> None:
        """Survey and preload series that will soon be stable, and have them judged at that moment."""
        now = self._clock()
        coming = [
            (series, (stable_at - now).total_seconds())
            for series, stable_at in self._stability.idle(self._store.series(state=SeriesState.RECEIVING))
            if stable_at > now
        ]
        coming.sort(key=lambda each: each[1])
        for series, wait_s in coming[: Surveys.MOST]:
            if wait_s <= min(_PRELOAD_S, min(self._stability.waits).total_seconds() / 2):
                with isolation.item(f"series {series.series_uid}"):
                    self._preload_one(series)
        if coming:
            soonest = coming[0][1]
            self._callbacks.trigger(JUDGE, soonest / 2 if soonest > 1.0 else soonest)

    def _preload_one(self, series: Series) -> None:
        """Survey and preload one series, unless that failed before; then the judging reports it."""
        instances = self._store.instances_of(series.series_uid)
        seen = (series.series_uid, len(instances))
        if self._surveys.has(series.series_uid, instances) or seen in self._preloaded:
            return
        self._preloaded.add(seen)
        if self._judge.survey_early(series, instances) and self._judge.may_preload(series):
            self._callbacks.preload(self._root / series.series_uid)
        self._preloaded.discard(seen)


def _same(path: Path, sha256: str) -> bool:
    """Whether a file in the inbox holds the dataset with this hash."""
    try:
        return part10.content_hash(*part10.open_part10(path)) == sha256
    except (OrgsegError, OSError):
        return False


@contextlib.contextmanager
def _as_not_durable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotDurable(f"{error.strerror}.") from error
