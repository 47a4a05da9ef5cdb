"""Completeness: whether a series has all the images that its source has.

The source of a sender is a PACS that also has the images of the sender (`source` of a peer). It is asked by
C-FIND for Number of Series Related Instances (0020,1209, PS3.4 C.6.2.1.3). If the node has fewer, the missing
images are retrieved by C-MOVE or C-GET, a limited number of times. The node waits for a source that does not
answer, but not for ever: then geometry alone decides, and the series says so. Each source is asked in its own
thread, so one that does not answer delays no other.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from orgseg_node.dicom.reading import part10
from orgseg_node.errors import DatabaseUnreachable, NetworkError, OrgsegError
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig, Source
from orgseg_node.node.dimse.find_scu import QueryKey, find_images, find_series
from orgseg_node.node.dimse.find_scu import Series as FoundSeries
from orgseg_node.node.dimse.retrieve_scu import require_matches, retrieve_by_get, retrieve_by_move
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.isolation import Isolation
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.model import Incoming, Series
from orgseg_node.node.store.source_answers import Answer, Answers, Completeness
from orgseg_node.node.store.store import Store

_MOST_IMAGES: Final = 20_000
_UIDS_PER_REQUEST: Final = 100
"""More UIDs would not fit into the messages of some archives."""

_SOURCES_AT_ONCE: Final = 16
"""How many sources are asked at the same time."""

_log = structlog.get_logger("orgseg.completeness")


class CompletenessChecker:
    """Asks sources about series that are stable, and retrieves missing images.

    Parameters
    ----------
    config : the node's configuration
    store : the node's database
    inbox : knows which series are stable, and accepts the retrieved images
    clock : source of the time
    """

    def __init__(
        self, config: NodeConfig | CurrentConfig, store: Store, inbox: Inbox, *, clock: Clock = utc_now
    ) -> None:
        self._current = CurrentConfig.of(config)
        self._store = store
        self._inbox = inbox
        self._answers = Answers(store.database)
        self._clock = clock

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    def check(self, source_name: str) -> int:
        """Ask one source about every stable series of its senders.

        Returns
        -------
        About how many series it was asked
        """
        asked = 0
        isolation = Isolation("ask sources")
        for series, name in self._inbox.series_to_ask_about():
            if name != source_name:
                continue
            with isolation.item(f"series {series.series_uid}"):
                asked += self._check_one(series, self._config.source(name))
        isolation.finish()
        return asked

    def _check_one(self, series: Series, source: Source) -> bool:
        """Ask about one series if it is time; whether it was asked.

        If something unforeseen goes wrong, the series is asked about again later, not at each scan.
        """
        now = self._clock()
        known = self._answers.of(series) or Completeness(
            series_uid=series.series_uid, revision=series.revision, answer=Answer.ASKING, expected=None,
            held=None, fetches=0, note="", first_asked_at=now, next_at=now,
        )  # fmt: skip
        if known.next_at > now:
            return False
        try:
            self._answers.put(self._ask(series, known, source))
        except DatabaseUnreachable:
            raise
        except Exception:
            self._answers.put(self._no_answer(known, f"{source.ae_title} could not be asked"))
            raise
        return True

    def _ask(self, series: Series, known: Completeness, source: Source) -> Completeness:
        """Ask once, and retrieve what is missing; returns what is known then."""
        section = self._config.completeness
        try:
            found = self._count(series, source)
        except NetworkError as error:
            _log.warning("source does not answer", source=source.ae_title, code=error.code)
            return self._no_answer(known, f"{source.ae_title} does not answer ({error.code})")
        if found is None or found.instances is None:
            what = "has nothing of it" if found is None else "does not say how many images it has"
            return self._no_answer(known, f"{source.ae_title} {what}")
        held = len(self._held(series.series_uid))
        known = replace(known, expected=found.instances, held=held)
        if held >= found.instances:
            note = f"{source.ae_title} has {found.instances} images of it, all are here"
            return replace(known, answer=Answer.COMPLETE, note=note)
        note = f"{source.ae_title} has {found.instances} images of it, {held} are here"
        if known.fetches >= section.fetches:
            _log.warning("series incomplete", series=series.series_uid, expected=found.instances, held=held)
            return replace(known, answer=Answer.INCOMPLETE, note=note)
        known = replace(known, fetches=known.fetches + 1, note=note)
        self._answers.put(known)  # before the retrieval: crashes in it must not repeat it for ever
        self._retrieve(found, source)
        came = len(self._held(series.series_uid)) > held
        wait = timedelta(seconds=0 if came else section.fetch_wait_s)
        return replace(known, next_at=self._clock() + wait)

    def _no_answer(self, known: Completeness, note: str) -> Completeness:
        now, section = self._clock(), self._config.completeness
        if now - known.first_asked_at >= timedelta(seconds=section.answer_within_s):
            return replace(known, answer=Answer.NO_ANSWER, note=f"{note}; geometry alone decided")
        return replace(known, note=note, next_at=now + timedelta(seconds=section.fetch_wait_s))

    def _count(self, series: Series, source: Source) -> FoundSeries | None:
        """The series as the source describes it; None if the source does not have it.

        Number of Series Related Instances is an optional key; without an answer to it, the images are
        counted.
        """
        first = self._store.instances_of(series.series_uid)[0]
        study = _study_uid(self._config.node.data_dir / first.path)
        key = QueryKey(study_uid=study, series_uid=series.series_uid)
        calling = self._config.calling_ae_for(source)
        found = find_series(source, calling, key, limit=2).items
        require_matches(key, found)
        if not found or found[0].instances is not None:
            return found[0] if found else None
        images = find_images(source, calling, found[0], _MOST_IMAGES)
        return replace(found[0], instances=None if images.has_more else len(set(images.items)) or None)

    def _held(self, series_uid: str) -> set[str]:
        return {one.sop_uid for one in self._store.instances_of(series_uid)}

    def _retrieve(self, found: FoundSeries, source: Source) -> None:
        """Retrieve the missing images; a failure shows when the images are counted again."""
        calling = self._config.calling_ae_for(source)
        try:
            listed = find_images(source, calling, found, _MOST_IMAGES).items
            here = self._held(found.series_uid)
            missing = [uid for uid in listed if uid not in here]
            parts = [missing[n : n + _UIDS_PER_REQUEST] for n in range(0, len(missing), _UIDS_PER_REQUEST)]
            wanted = [replace(found, images=tuple(part), instances=len(part)) for part in parts]
            _log.info("missing images asked for", source=source.ae_title, count=len(missing))
            if not wanted:
                return
            if source.method == "move":
                retrieve_by_move(source, calling, wanted, source.move_to or self._config.node.ae_title)
                return
            sink = _InboxSink(inbox=self._inbox, associations=set())
            in_order = False
            try:
                retrieve_by_get(source, calling, wanted, sink)
                in_order = True
            finally:
                sink.close(in_order=in_order)
        except OrgsegError as error:
            _log.warning("missing images did not come", source=source.ae_title, code=error.code)


class SourcePoller:
    """Asks every source of the configuration in force, each in its own thread.

    Parameters
    ----------
    config : the configuration in force
    checker : asks one source
    """

    def __init__(self, config: CurrentConfig, checker: CompletenessChecker) -> None:
        self._current = config
        self._checker = checker
        self._pool = ThreadPoolExecutor(_SOURCES_AT_ONCE, thread_name_prefix="source")
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    @property
    def busy(self) -> frozenset[str]:
        """Names of the sources that are being asked now."""
        with self._lock:
            return frozenset(self._busy)

    def poll(self) -> None:
        """Start to ask every source that is not being asked already; does not wait for the answers."""
        for name in self._current.config.completeness_sources:
            with self._lock:
                if name in self._busy:
                    continue
                self._busy.add(name)
            self._pool.submit(self._ask, name)

    def _ask(self, name: str) -> None:
        try:
            self._checker.check(name)
        except OrgsegError as error:
            _log.error("asking failed", source=name, code=error.code, detail=error.sentence)
        except Exception as error:  # noqa: BLE001 (the next poll asks again)
            _log.error("asking failed", source=name, code="UNEXPECTED", kind=type(error).__name__)
        finally:
            with self._lock:
                self._busy.discard(name)

    def stop(self) -> None:
        """Wait for the sources that are being asked, and ask no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _InboxSink:
    """Puts retrieved images into the inbox; their association counts as open until all are there."""

    inbox: Inbox
    associations: set[int]

    def accept(self, incoming: Incoming) -> object:
        """Accept one image."""
        self.associations.add(incoming.association)
        return self.inbox.accept(incoming)

    @property
    def receiving_folder(self) -> Path:
        """That of the inbox."""
        return self.inbox.receiving_folder

    def association_ended(
        self, association: int, *, released: bool = False, cause: str = "", incomplete: str = ""
    ) -> None:
        """Do nothing: `close` ends them together."""

    def close(self, *, in_order: bool) -> None:
        """End the associations."""
        for association in self.associations:
            self.inbox.association_ended(association, released=in_order, cause="the retrieval failed")


def _study_uid(path: Path) -> str:
    """The Study Instance UID of an accepted image; empty if it has none."""
    try:
        return part10.read_header(*part10.open_part10(path)).study_uid
    except Exception:  # noqa: BLE001  # whatever the file contains; the Series Instance UID is enough
        return ""
