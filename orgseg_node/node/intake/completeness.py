"""Is a series whole? Its source knows: it is asked for the number of images, and for those that are missing.

The source of a sender is a PACS that has what the sender sends (`source` of a peer). It is asked by C-FIND
for Number of Series Related Instances (0020,1209, PS3.4 C.6.2.1.3); where the node has fewer, it is asked
which, and those come by C-MOVE or C-GET, a bounded number of times. A source that does not answer is waited
for, but not for ever: then geometry alone decides, and the series says so.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pydicom
import structlog

from orgseg_node.errors import NetworkError, OrgsegError
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig, Source
from orgseg_node.node.dimse.find_scu import QueryKey, find_images, find_series
from orgseg_node.node.dimse.find_scu import Series as Asked
from orgseg_node.node.dimse.retrieve_scu import require_matches, retrieve_by_get, retrieve_by_move
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.model import Incoming, Series
from orgseg_node.node.store.source_answers import Answer, Answers, Completeness
from orgseg_node.node.store.store import Store

_MOST_IMAGES: Final = 20_000
_AT_ONCE: Final = 100
"""So many UIDs stand in one request; more would not fit into the messages of some archives."""

_log = structlog.get_logger("orgseg.completeness")


class Completer:
    """Asks sources about series that have gone quiet.

    Parameters
    ----------
    config : the node's configuration
    store : the node's memory
    inbox : knows which series are quiet, and takes what is fetched
    clock : where the time comes from
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

    def look(self, source_name: str) -> int:
        """Ask one source about every quiet series that comes from it; how many.

        Each source has a clock of its own, so that one that does not answer holds up no other.
        """
        asked = 0
        for series, name in self._inbox.unasked_series():
            if name != source_name:
                continue
            now = self._clock()
            known = self._answers.of(series) or Completeness(
                series_uid=series.series_uid, revision=series.revision, answer=Answer.ASKING, expected=None,
                held=None, fetches=0, note="", first_asked_at=now, next_at=now,
            )  # fmt: skip
            if known.next_at <= now:
                self._answers.put(self._ask(series, known, self._config.source(name)))
                asked += 1
        return asked

    def _ask(self, series: Series, known: Completeness, source: Source) -> Completeness:
        """Ask once; what is known then."""
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
        self._answers.put(known)  # before anything comes: a crash in a fetch must not make them endless
        self._bring(found, source)
        came = len(self._held(series.series_uid)) > held
        wait = timedelta(seconds=0 if came else section.fetch_wait_s)
        return replace(known, next_at=self._clock() + wait)

    def _no_answer(self, known: Completeness, note: str) -> Completeness:
        now, section = self._clock(), self._config.completeness
        if now - known.first_asked_at >= timedelta(seconds=section.answer_within_s):
            return replace(known, answer=Answer.NO_ANSWER, note=f"{note}; geometry alone decided")
        return replace(known, note=note, next_at=now + timedelta(seconds=section.fetch_wait_s))

    def _count(self, series: Series, source: Source) -> Asked | None:
        """The series as the source tells it; None if it has none.

        Number of Series Related Instances is an optional key; where it has no answer, the images are counted.
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

    def _bring(self, found: Asked, source: Source) -> None:
        """Have the missing images brought; that something went wrong shows when they are counted again."""
        calling = self._config.calling_ae_for(source)
        try:
            told = find_images(source, calling, found, _MOST_IMAGES).items
            here = self._held(found.series_uid)
            missing = [uid for uid in told if uid not in here]
            parts = [missing[n : n + _AT_ONCE] for n in range(0, len(missing), _AT_ONCE)]
            wanted = [replace(found, images=tuple(part), instances=len(part)) for part in parts]
            _log.info("missing images asked for", source=source.ae_title, count=len(missing))
            if not wanted:
                return
            if source.method == "move":
                retrieve_by_move(source, calling, wanted, source.move_to or self._config.node.ae_title)
                return
            into = _Into(inbox=self._inbox, associations=set())
            try:
                retrieve_by_get(source, calling, wanted, into)
            finally:
                into.close()
        except OrgsegError as error:
            _log.warning("missing images did not come", source=source.ae_title, code=error.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Into:
    """The inbox as what keeps fetched images; their association counts as open until the end."""

    inbox: Inbox
    associations: set[int]

    def accept(self, incoming: Incoming) -> object:
        """Take one image in."""
        self.associations.add(incoming.association)
        return self.inbox.accept(incoming)

    def association_ended(self, association: int, *, released: bool = False) -> None:
        """Nothing: they are closed together."""

    def close(self) -> None:
        """Say that the associations are over."""
        for association in self.associations:
            self.inbox.association_ended(association, released=True)


def _study_uid(path: Path) -> str:
    """The study of an accepted image; empty where it does not say."""
    try:
        header = pydicom.dcmread(path, specific_tags=["StudyInstanceUID"], stop_before_pixels=True)
        return str(header.get("StudyInstanceUID", ""))
    except Exception:  # noqa: BLE001  # whatever the file holds; the series is asked for by its own UID then
        return ""


_SOURCES_AT_ONCE = 16

_log = structlog.get_logger("orgseg.completeness")


class SourceRounds:
    """Goes round the sources of the configuration in force.

    Parameters
    ----------
    config : which sources are asked
    completer : asks one
    """

    def __init__(self, config: CurrentConfig, completer: Completer) -> None:
        self._current = config
        self._completer = completer
        self._pool = ThreadPoolExecutor(_SOURCES_AT_ONCE, thread_name_prefix="source")
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    @property
    def busy(self) -> frozenset[str]:
        """The sources that are being asked now."""
        with self._lock:
            return frozenset(self._busy)

    def go_round(self) -> None:
        """Begin to ask every source that is not being asked already; does not wait for answers."""
        for name in self._current.config.completeness_sources:
            with self._lock:
                if name in self._busy:
                    continue
                self._busy.add(name)
            self._pool.submit(self._ask, name)

    def _ask(self, name: str) -> None:
        try:
            self._completer.look(name)
        except OrgsegError as error:
            _log.error("asking failed", source=name, code=error.code, detail=error.sentence)
        except Exception as error:  # noqa: BLE001 (the next round asks again)
            _log.error("asking failed", source=name, code="UNEXPECTED", kind=type(error).__name__)
        finally:
            with self._lock:
                self._busy.discard(name)

    def stop(self) -> None:
        """Wait for those that are being asked; ask no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
