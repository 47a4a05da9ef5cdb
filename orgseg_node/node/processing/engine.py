"""The durable engine, and the only module that knows it is DBOS.

It promises three things: a submitted workflow runs even if the machine loses power first; a step that
finished is not repeated; a workflow whose process dies more than three times is given up and said so. What
the node means by a job is not kept here but in `node.store.store`; both are reconciled every minute.

On SQLite one process works; on PostgreSQL several do, each under a name that stays the same when it is
started again. What such a process left behind it resumes by itself; what one left that does not come back,
the others adopt once they know that it is dead, which `orgseg_node.node.processing.heartbeat` finds out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID, WorkflowStatus

from orgseg_node.node.config.database import Server

PIPELINE_VERSION: Final = "orgseg-pipeline-1"
"""Changes only when the steps of a workflow change; pending workflows of another version are not resumed."""

MAX_RECOVERIES: Final = 3

USUAL_PRIORITY: Final = 1000

_SCHEMA: Final = "orgseg_engine"
_ACTIVE: Final = ("PENDING", "ENQUEUED", "DELAYED")
_STARTS: Final = "starts_of_the_dead"
_GIVEN_UP: Final = "given_up"

Step = Callable[..., Any]
RunStep = Callable[..., Any]
Workflow = Callable[..., Any]


class RunState(StrEnum):
    """What the engine knows about a workflow."""

    ABSENT = "absent"
    ALIVE = "alive"
    FINISHED = "finished"
    BROKEN = "broken"
    GIVEN_UP = "given up"


_RUN_STATES: Final[Mapping[str, RunState]] = {
    "ENQUEUED": RunState.ALIVE,
    "DELAYED": RunState.ALIVE,
    "PENDING": RunState.ALIVE,
    "SUCCESS": RunState.FINISHED,
    "CANCELLED": RunState.FINISHED,
    "ERROR": RunState.BROKEN,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": RunState.GIVEN_UP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A waiting line and how many of it may run at once."""

    name: str
    at_once: int


class Engine:
    """Runs workflows durably in one database.

    Parameters
    ----------
    place : folder for a SQLite file, which one process only may use, or a PostgreSQL server
    workflows : name and function of each; a function takes text arguments only and does everything that
        must not be repeated through `Engine.step`
    queues : the waiting lines
    worker : name of this process among those that use the database, the same each time it is started
    poll_s : how often a queue is looked at
    version : what the steps of the workflows are called as a whole
    """

    def __init__(  # noqa: PLR0913 (each has a sensible default)
        self,
        place: Path | Server,
        workflows: Mapping[str, Workflow],
        queues: tuple[Queue, ...],
        *,
        worker: str = "worker",
        poll_s: float = 0.5,
        version: str = PIPELINE_VERSION,
    ) -> None:
        logger = logging.getLogger("dbos")
        if not logger.handlers:  # otherwise DBOS adds a handler of its own, and a banner
            logger.addHandler(logging.NullHandler())
        config: DBOSConfig = {
            "name": "orgseg-node",
            "application_version": version,
            "executor_id": worker,
            "log_level": "WARNING",
            "enable_otlp": False,
            "scheduler_polling_interval_sec": 3600.0,
            **_database(place),
        }
        DBOS(config=config)
        self._workflows = {
            name: DBOS.workflow(name=name, max_recovery_attempts=MAX_RECOVERIES)(_plain(function))
            for name, function in workflows.items()
        }
        self._queues = queues
        self._worker = worker
        self._poll_s = poll_s
        self._version = version

    def start(self) -> None:
        """Start working, first of all on what an earlier process of this name left unfinished."""
        DBOS.launch()
        self.add_queues(self._queues)

    def add_queues(self, queues: tuple[Queue, ...]) -> None:
        """Open waiting lines; one that is there already gets its new limit."""
        for queue in queues:
            DBOS.register_queue(
                queue.name,
                worker_concurrency=queue.at_once,
                polling_interval_sec=self._poll_s,
                on_conflict="always_update",
            )

    def submit(
        self, queue: str, workflow: str, workflow_id: str, *arguments: str, priority: int = USUAL_PRIORITY
    ) -> None:
        """Put a workflow into a queue; a number that was submitted before is not run a second time.

        Parameters
        ----------
        priority : from 1; of those that wait in a queue the smallest number runs first, of equals the oldest
        """
        with SetWorkflowID(workflow_id), SetEnqueueOptions(priority=priority):
            DBOS.enqueue_workflow(queue, self._workflows[workflow], *arguments)

    def state(self, workflow_id: str) -> RunState:
        """What has become of a workflow."""
        status: WorkflowStatus | None = DBOS.get_workflow_status(workflow_id)
        if status is None:
            return RunState.ABSENT
        if (status.attributes or {}).get(_GIVEN_UP):
            return RunState.GIVEN_UP
        return _RUN_STATES.get(status.status, RunState.BROKEN)

    def cancel(self, workflow_id: str) -> None:
        """Let a workflow end: what waits does not begin, what runs ends before its next step."""
        if self.state(workflow_id) is RunState.ALIVE:
            DBOS.cancel_workflow(workflow_id)

    def adopt(self, worker: str) -> list[str]:
        """Take over what a dead process was running; the numbers of the workflows that wait again.

        Whoever calls this knows that the process is dead and that no other process adopts from it just now. A
        workflow under which processes died too often is given up instead.
        """
        adopted = []
        for status in self._active("PENDING", worker=worker):
            known = status.attributes or {}
            starts = int(known.get(_STARTS, 0)) + max(1, status.recovery_attempts or 0)
            if starts > MAX_RECOVERIES:
                DBOS.update_workflow_attributes(status.workflow_id, {_STARTS: starts, _GIVEN_UP: True})
                DBOS.cancel_workflow(status.workflow_id)
                continue
            DBOS.update_workflow_attributes(status.workflow_id, {_STARTS: starts})
            DBOS.resume_workflow(status.workflow_id, queue_name=status.queue_name)
            adopted.append(status.workflow_id)
        return adopted

    def drop_outdated(self, dead: Collection[str] = ()) -> list[str]:
        """Forget unfinished workflows of another version of the program; their numbers.

        Their steps are not those of this version, so the engine would never run them: whoever submitted them
        must do so again. Those that a process runs which may still be alive are left alone.

        Parameters
        ----------
        dead : names of processes that are known to be dead
        """
        gone = [self._worker, *dead]
        dropped = [
            status.workflow_id
            for status in self._active(*_ACTIVE)
            if status.app_version not in (None, self._version)
            and (status.status != "PENDING" or status.executor_id in gone)
        ]
        if dropped:
            DBOS.delete_workflows(dropped)
        return dropped

    @staticmethod
    def _active(*states: str, worker: str | None = None) -> list[WorkflowStatus]:
        return DBOS.list_workflows(
            status=list(states), executor_id=worker, load_input=False, load_output=False
        )

    def forget_finished(self, workflow_ids: list[str]) -> None:
        """Delete what the engine remembers about workflows that are over."""
        for workflow_id in workflow_ids:
            if self.state(workflow_id) in {RunState.FINISHED, RunState.BROKEN}:
                DBOS.delete_workflow(workflow_id)

    def stop(self) -> None:
        """Stop; what is unfinished is resumed by the next start."""
        DBOS.destroy(destroy_registry=True)


def _database(place: Path | Server) -> DBOSConfig:
    """Where the engine keeps its tables: a file of its own, or a schema of its own beside the node's."""
    if isinstance(place, Server):
        arguments: dict[str, Any] = {
            "options": "-c synchronous_commit=on",
            "application_name": "orgseg-engine",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        }
        if place.password:  # not in the URL, which may be shown
            arguments["password"] = place.password
        return {
            "system_database_url": place.url,
            "dbos_system_schema": _SCHEMA,
            "sys_db_pool_size": 10,
            "db_engine_kwargs": {"connect_args": arguments},
        }
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {"system_database_url": f"sqlite:///{(place / 'engine.sqlite').resolve()}"}


def _plain(function: Workflow) -> Workflow:
    """A function around a method: DBOS marks what it is given, and a bound method bears no marks."""

    def workflow(*arguments: str) -> None:
        function(*arguments)

    return workflow


def step(name: str, function: Step, *arguments: str) -> Any:
    """Run a part of a workflow whose result is remembered, so that it is never repeated once finished."""
    return DBOS.run_step({"name": name}, function, *arguments)


def sleep(seconds: float) -> None:
    """Wait inside a workflow; the time that has passed counts across restarts."""
    DBOS.sleep(seconds)
