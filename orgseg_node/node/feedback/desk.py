"""Works on the structure sets that came back, one after the other, in a thread of its own.

Whatever is wrong with one of them belongs to it alone: it ends in a named state, and the next one follows. A
structure set that was being measured when the node was killed is measured again; its result is stored in one
transaction, so it is never counted twice.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import structlog
from pydicom.uid import RTStructureSetStorage

from orgseg_node import durable
from orgseg_node.dicom.objects.structure_set_facts import StructureSetFacts
from orgseg_node.dicom.reading import part10
from orgseg_node.errors import (
    DatabaseUnreachable,
    DiskFull,
    FeedbackUnmeasured,
    JobStopped,
    NotAStructureSet,
    NotDurable,
    OrgsegError,
    StorageError,
)
from orgseg_node.errors.unexpected import coded
from orgseg_node.node.background_task import BackgroundTask
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.feedback.charts import note_alarms
from orgseg_node.node.feedback.child import Runner, run_child
from orgseg_node.node.feedback.matching import Match, Sending, match
from orgseg_node.node.feedback.measuring import Measured
from orgseg_node.node.feedback.model import Feedback, FeedbackState
from orgseg_node.node.feedback.planner_key import PlannerKey
from orgseg_node.node.feedback.rows import FILE, Arrived, FeedbackResult, FeedbackRows
from orgseg_node.node.store.clock import Clock, utc_now
from orgseg_node.node.store.data_folder import FEEDBACK, LOCKS
from orgseg_node.node.store.model import Job, OutputObject
from orgseg_node.node.store.store import Store

_ATTEMPTS: Final = 3
"""So often a structure set is tried over which the process that reads it dies, or that cannot be read now."""

_WORK: Final = ".work"

_log = structlog.get_logger("orgseg.feedback")


class FeedbackDesk:
    """Measures what came back.

    Parameters
    ----------
    config : the configuration in force
    store : the node's database
    clock : source of the time
    runner : runs the process that reads
    """

    def __init__(
        self,
        config: NodeConfig | CurrentConfig,
        store: Store,
        *,
        clock: Clock = utc_now,
        runner: Runner = run_child,
    ) -> None:
        self._runner = runner
        self._current = CurrentConfig.of(config)
        self._store = store
        self.rows = FeedbackRows(store.database, clock=clock)
        self._task = BackgroundTask("feedback", self._data / LOCKS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _config(self) -> NodeConfig:
        return self._current.config

    @property
    def _data(self) -> Path:
        return self._config.node.data_dir

    # ------------------------------------------------------------------ arrive

    def add_file(self, path: Path) -> int | None:
        """Take a structure set from a file; its number, or None if the same one is here already.

        Raises
        ------
        NotAStructureSet
            If it is none.
        """
        try:
            encoded, syntax = part10.open_part10(path)
            header = part10.read_header(encoded, syntax)
        except OrgsegError as error:
            raise NotAStructureSet(error.sentence) from error
        if header.sop_class_uid != RTStructureSetStorage:
            raise NotAStructureSet
        sha256 = part10.content_hash(encoded, syntax)
        place = self._place(sha256)
        durable.make_folder(place.parent)
        durable.write_durably(place, path.read_bytes())
        return self.rows.register(
            Arrived(
                sop_uid=header.sop_uid, sha256=sha256, path=str(place.relative_to(self._data)), sender=FILE
            )
        )

    # ------------------------------------------------------------------ work

    def poll(self) -> None:
        """Begin to work on what waits, unless that is being done."""
        if self._task.is_free and self.rows.all(states=(FeedbackState.RECEIVED,)):
            self._task.begin(self._in_thread)

    def stop(self) -> None:
        """Stop; what is being measured is measured again later."""
        self._task.stop()

    def _in_thread(self) -> None:
        try:
            self.work()
        except OrgsegError as error:
            _log.error("feedback stopped", code=error.code)
        finally:
            self._store.close()

    def work(self) -> int:
        """Work on everything that waits; how many structure sets got their state.

        Nothing is done while another process of this data folder does it.
        """
        done = 0
        with self._task.alone() as alone:
            waiting = self.rows.all(states=(FeedbackState.RECEIVED,)) if alone else []
            for feedback in waiting:
                if self._task.stopping.is_set():
                    break
                done += self._one(feedback)
        return done

    def _one(self, feedback: Feedback) -> bool:
        """Work on one structure set; whether it got its state."""
        number = feedback.number
        try:
            result = self._result(self._with_own_copy(feedback))
        except JobStopped:
            return False
        except (DatabaseUnreachable, DiskFull, NotDurable):
            raise  # it concerns every structure set, and passes: they wait
        except Exception as error:  # whatever it is, it belongs to this structure set
            known = coded(error)
            if isinstance(known, DiskFull):
                raise known from error
            attempts = _ATTEMPTS
            if known.retryable or isinstance(known, FeedbackUnmeasured):
                attempts = self.rows.died(feedback)
            _log.error("feedback not measured", number=number, code=known.code, attempt=attempts)
            if attempts < _ATTEMPTS:
                return False
            result = FeedbackResult(state=FeedbackState.UNREADABLE, note=known.sentence)
        state = self.rows.finish(feedback, result)
        _log.info("feedback", number=number, state=state.value, job=result.job_id)
        if state is FeedbackState.COUNTED:
            for alarm in note_alarms(self._store.database, self._config.feedback):
                _log.error("feedback alarm", organ=alarm.organ, measure=alarm.measure, kind=alarm.kind)
        return True

    def _with_own_copy(self, feedback: Feedback) -> Feedback:
        """The structure set with a file in the folder for feedback, which retention never deletes."""
        place = self._place(feedback.sha256)
        path = str(place.relative_to(self._data))
        if feedback.path != path:
            if not place.is_file():
                durable.make_folder(place.parent)
                try:
                    content = (self._data / feedback.path).read_bytes()
                except OSError as error:
                    raise StorageError(f"Its file is not here any more: {error.strerror}.") from error
                durable.write_durably(place, content)
            self.rows.moved(feedback, path)
        return replace(feedback, path=path)

    def _result(self, feedback: Feedback) -> FeedbackResult:
        section = self._config.feedback
        found = self._run(
            {
                "what": "facts",
                "returned": str(self._data / feedback.path),
                "approved_label": section.approved_label,
            }
        )
        if "error" in found:
            return FeedbackResult(state=FeedbackState.UNREADABLE, note=str(found["error"]))
        facts = StructureSetFacts.from_json(found)
        base = FeedbackResult(
            state=FeedbackState.RECEIVED,
            planner=self._planner(facts.person),
            written=facts.written,
            contours_sha256=facts.contours_sha256,
        )
        sending = Sending(sender=feedback.sender, received_at=feedback.received_at, job_id=feedback.job_id)
        matched = match(self._store, self._config, facts, sending)
        if matched.job is not None:
            base = replace(base, job_id=matched.job.job_id)
        if matched.state is not None:
            return replace(base, state=matched.state)
        return self._compared(feedback, matched, facts, base)

    def _compared(
        self, feedback: Feedback, matched: Match, facts: StructureSetFacts, base: FeedbackResult
    ) -> FeedbackResult:
        job, delivered = matched.job, matched.delivered
        if job is None or delivered is None:
            return replace(base, state=FeedbackState.PURGED)
        found = self._run(self._request(feedback, job, delivered))
        if "error" in found:
            return replace(base, state=FeedbackState.UNREADABLE, note=str(found["error"]))
        measured = Measured.from_json(found)
        organs = tuple(replace(organ, protocol=job.protocol) for organ in measured.organs)
        base = replace(base, role=delivered.role, organs=organs)
        if measured.state is not None:
            return replace(base, state=measured.state, note=measured.note)
        counts = facts.approved or self._config.feedback.unapproved == "count"
        return replace(base, state=FeedbackState.COUNTED if counts else FeedbackState.UNAPPROVED)

    def _request(self, feedback: Feedback, job: Job, delivered: OutputObject) -> dict[str, Any]:
        images = self._store.instances_of(job.series_uid)
        return {
            "what": "measure",
            "returned": str(self._data / feedback.path),
            "delivered": str(self._data / delivered.path),
            "delivered_sha256": delivered.sha256,
            "images": [str(self._data / image.path) for image in images],
            "content_sha256": job.content_sha256,
            "report": str((self._data / delivered.path).parent / "report.json"),
        }

    def _run(self, request: dict[str, Any]) -> dict[str, Any]:
        section, folder = self._config.feedback, self._data / FEEDBACK / _WORK
        try:
            return self._runner(
                request,
                folder,
                memory_mb=section.memory_mb,
                limit_s=section.limit_s,
                stopping=self._task.stopping,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _planner(self, person: str) -> str:
        return PlannerKey(self._data).code(person) if person else ""

    def _place(self, sha256: str) -> Path:
        return self._data / FEEDBACK / f"{sha256}.dcm"
