"""The inbox: accepted instances, and when a series is complete.

Layout of the data folder::

    inbox/<series uid>/<sop uid>.dcm           as received, never changed
    inbox/<series uid>/<sop uid>~<hash>.dcm    another content under the same UID: the series is in CONFLICT
    quarantine/                                files that were not finished when the node stopped
    jobs/<job id>/                             request, log, results
    db/                                        the node's memory and the engine's
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from orgseg_node import __version__
from orgseg_node.dicom.series import CtSeries, Inventory, choose, survey
from orgseg_node.errors import MissingSlices, NotDurable, OrgsegError
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.node import landing
from orgseg_node.node.clock import Clock, utc_now
from orgseg_node.node.config import NodeConfig
from orgseg_node.node.jobs import Instance, NewJob, Series, SeriesState
from orgseg_node.node.predictors import open_bundles
from orgseg_node.node.protocols import ASK, FIRST, load_protocol
from orgseg_node.node.store import Store

INBOX: Final = "inbox"
QUARANTINE: Final = "quarantine"
_STRIPES: Final = 64

_log = structlog.get_logger("orgseg.inbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One C-STORE request: what was announced, by whom, and the encoded dataset."""

    sop_class_uid: str
    sop_uid: str
    transfer_syntax: str
    calling_ae: str
    association: int
    encoded: bytes


class Inbox:
    """Accepts instances durably and turns quiet series into jobs.

    Parameters
    ----------
    config : the node's configuration
    store : the node's memory
    clock : where the time comes from
    """

    def __init__(self, config: NodeConfig, store: Store, *, clock: Clock = utc_now) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._data = config.node.data_dir
        self._root = self._data / INBOX
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._open: dict[int, set[str]] = {}
        self._open_lock = threading.Lock()
        self._judging = threading.Lock()
        self._adopted_at: datetime | None = None
        landing.make_folder(self._root)

    # ------------------------------------------------------------------ accept

    def accept(self, incoming: Incoming) -> SeriesState:
        """Take one instance in; when this returns it is on the disk and remembered.

        Returns
        -------
        The state its series has now.

        Raises
        ------
        InputError
            If it cannot be filed: unreadable, without UIDs, or not what was announced. Nothing is kept.
        DiskFull, NotDurable, StorageError
            On any doubt about durability; the sender must keep it and try again.
        """
        landing.require_space(self._root, self._config.receiver.min_free_mb)
        header = landing.read_header(incoming.encoded, incoming.transfer_syntax)
        landing.require_match(header, incoming.sop_class_uid, incoming.sop_uid)
        with self._open_lock:
            self._open.setdefault(incoming.association, set()).add(header.series_uid)
        sha256 = landing.content_hash(incoming.encoded, incoming.transfer_syntax)
        with self._stripes[hash(header.sop_uid) % _STRIPES]:
            known = {copy.sha256: copy for copy in self._store.copies(header.sop_uid)}
            if sha256 in known and (self._data / known[sha256].path).is_file():
                return self._store.one_series(known[sha256].series_uid).state
            content = landing.part10(incoming.encoded, header, incoming.transfer_syntax)
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
                )
            )
        if state is SeriesState.CONFLICT:
            _log.warning("conflict", series=header.series_uid, instance=header.sop_uid)
        return state

    def _write(self, header: landing.Header, sha256: str, content: bytes) -> Path:
        """Write an instance under a free name; a file that is already there is never overwritten."""
        folder = self._root / header.series_uid
        if not folder.is_dir():
            landing.make_folder(folder)
        path = folder / f"{header.sop_uid}.dcm"
        if path.exists() and not _same(path, sha256):
            path = folder / f"{header.sop_uid}~{sha256[:16]}.dcm"
        if path.exists():
            # written before, but the node stopped before it was remembered
            with _as_not_durable():
                landing.sync_folder(folder)
        else:
            landing.write_durably(path, content)
        return path

    def association_ended(self, association: int) -> None:
        """Forget an association that has ended, and the database connection of its thread."""
        with self._open_lock:
            self._open.pop(association, None)
        self._store.close()

    # ------------------------------------------------------------------ start

    def adopt(self) -> tuple[int, int]:
        """Look through the inbox at the start: adopt files without a row, set unfinished ones aside.

        Returns
        -------
        How many files were adopted, and how many were moved to quarantine.
        """
        adopted = quarantined = 0
        self._adopted_at = self._clock()
        for folder in sorted(p for p in self._root.iterdir() if p.is_dir()):
            known = {instance.path for instance in self._store.instances_of(folder.name)}
            for path in sorted(folder.iterdir()):
                if str(path.relative_to(self._data)) in known:
                    continue
                try:
                    if path.suffix == landing.PART or not path.is_file():
                        raise NotDurable("It was not finished.")
                    self._adopt(path)
                    adopted += 1
                except (OrgsegError, OSError):
                    self._quarantine(path)
                    quarantined += 1
        if adopted or quarantined:
            _log.warning("inbox scanned", adopted=adopted, quarantined=quarantined)
        return adopted, quarantined

    def _adopt(self, path: Path) -> None:
        encoded, syntax = landing.split_part10(path.read_bytes())
        header = landing.read_header(encoded, syntax)
        landing.require_match(header, header.sop_class_uid, path.stem.split("~")[0])
        if header.series_uid != path.parent.name:
            raise NotDurable("It lies in the folder of another series.")
        self._store.accept(
            Instance(
                sop_uid=header.sop_uid,
                series_uid=header.series_uid,
                sha256=landing.content_hash(encoded, syntax),
                size=path.stat().st_size,
                path=str(path.relative_to(self._data)),
                transfer_syntax=syntax,
                calling_ae="(found at start)",
                received_at=self._clock(),
            )
        )

    def _quarantine(self, path: Path) -> None:
        place = self._data / QUARANTINE
        landing.make_folder(place)
        path.rename(place / f"{path.parent.name}_{path.name.lstrip('.')}")

    # ------------------------------------------------------------------ judge

    def judge_quiet_series(self) -> list[str]:
        """Settle every series that is quiet and has no open association; the ones that were settled.

        May be called at any time and as often as one likes. Nothing is settled within a quiet time of the
        start: a sender that was cut off when the node went down could not have gone on before.
        """
        if not self._judging.acquire(blocking=False):
            return []
        try:
            limit = self._clock() - timedelta(seconds=self._config.receiver.quiet_seconds)
            if self._adopted_at is not None and limit < self._adopted_at:
                return []
            quiet = self._store.series(state=SeriesState.RECEIVING, quiet_since=limit)
            with self._open_lock:
                busy = set().union(*self._open.values())
            return [s.series_uid for s in quiet if s.series_uid not in busy and self._judge(s)]
        finally:
            self._judging.release()

    def _judge(self, series: Series) -> bool:
        """Survey one quiet series and settle it, unless something arrived meanwhile."""
        instances = self._store.instances_of(series.series_uid)
        if not instances:
            return False
        inventory = survey([self._data / instance.path for instance in instances])
        verdict = verdict_on(inventory, phase=self._phase())
        job = None
        if verdict.content_sha256:
            job = NewJob(
                series_uid=series.series_uid,
                content_sha256=verdict.content_sha256,
                bundles=self._config.inference.bundles,
                slices=verdict.slices,
                made_with=self._made_with(),
            )
        done = self._store.judge(series, verdict.state, reason=verdict.reason, note=verdict.note, job=job)
        if done:
            _log.info(
                "series judged",
                series=series.series_uid,
                state=verdict.state.value,
                reason=verdict.reason,
                instances=len(instances),
                job=job.job_id if job else None,
            )
        return done

    def _phase(self) -> str:
        """What the protocol says of a series that holds several volumes."""
        try:
            return load_protocol(self._config.contours.protocol).phase
        except OrgsegError:
            return ASK  # a job would fail visibly with the reason; a series with several volumes waits

    def _made_with(self) -> tuple[str, ...]:
        """What a result depends on besides the series: another model or method makes other objects.

        How much memory and how many threads it may use is no part of it: that changes no label.
        """
        inference = self._config.inference
        settings = InferenceSettings(**inference.settings())
        try:
            bundles = open_bundles(inference.bundles, self._config.bundle_paths)
        except OrgsegError:
            bundles = ()  # the job is made all the same, and fails visibly with the reason
        try:
            protocol = load_protocol(self._config.contours.protocol).sha256
        except OrgsegError:
            protocol = ""  # likewise
        seg = self._config.contours.seg
        return (__version__, settings.method_said, protocol, seg, *(bundle.sha256 for bundle in bundles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a quiet series."""

    state: SeriesState
    reason: str = ""
    note: str = ""
    content_sha256: str = ""
    slices: int = 0


def verdict_on(inventory: Inventory, *, phase: str = ASK) -> Verdict:
    """READY for exactly one usable CT; HOLD with the reason; IGNORED when all was set aside by a rule.

    A series of which any image was refused is held as a whole: leaving the image out would be a guess. One in
    which slices are missing is held too: they may still be on their way.
    """
    if inventory.refused:
        return _held(inventory.refused[0].error)
    if inventory.accepted:
        try:
            return _ready(choose(inventory, part=_part(inventory, phase)))
        except OrgsegError as error:
            return _held(error)
    rules = ", ".join(f"{count} {rule}" for rule, count in sorted(inventory.set_aside.items()))
    return Verdict(state=SeriesState.IGNORED, reason="ONLY_SET_ASIDE", note=f"Nothing to contour: {rules}.")


def _part(inventory: Inventory, phase: str) -> str | None:
    """Which part of a series with several volumes a protocol asks for."""
    if phase == ASK or len(inventory.accepted) == 1:
        return None
    return "1" if phase == FIRST else phase


def _ready(series: CtSeries) -> Verdict:
    missing = next((f for f in series.findings if f.code == "SERIES_MISSING_SLICES"), None)
    if missing is not None:
        raise MissingSlices(f"Their number is {missing.value or 0:.0f}.")
    note = f"{len(series.slices)} slices" + (f" of {series.part}" if series.part else "")
    return Verdict(
        state=SeriesState.READY,
        note=note,
        content_sha256=series.content_sha256,
        slices=len(series.slices),
    )


def _held(error: OrgsegError) -> Verdict:
    return Verdict(state=SeriesState.HOLD, reason=error.code, note=f"{error.sentence} {error.next_step}")


def _same(path: Path, sha256: str) -> bool:
    """Whether a file in the inbox holds the dataset with this hash."""
    try:
        return landing.content_hash(*landing.split_part10(path.read_bytes())) == sha256
    except (OrgsegError, OSError):
        return False


@contextlib.contextmanager
def _as_not_durable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotDurable(f"{error.strerror}.") from error
