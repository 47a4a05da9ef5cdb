"""The durable engine, and the only module that uses DBOS.

It guarantees three things: a submitted workflow runs even if the machine loses power first; a step that
finished is not repeated; a workflow whose process dies more than three times is given up, which its state
shows. The state of a job is not kept here but in `node.store.store`; both are reconciled every minute.

On SQLite one process works, which the lock of the data folder ensures: at its start it adopts everything that
is unfinished, whatever the process that left it was called. On PostgreSQL several work, each under a name
that stays the same when it is started again. A process that is started again resumes what it left
unfinished. If it does not come back, the others adopt its workflows once
`orgseg_node.node.processing.heartbeat` has found that it is dead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID, WorkflowStatus
from sqlalchemy.exc import DBAPIError

from orgseg_node.errors import DatabaseUnreachable
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
Workflow = Callable[..., Any]


class WorkflowState(StrEnum):
    """The state of a workflow in the engine; ABSENT if the engine does not know it."""

    ABSENT = "absent"
    ACTIVE = "active"
    FINISHED = "finished"
    FAILED = "failed"
    GIVEN_UP = "given up"


_STATES: Final[Mapping[str, WorkflowState]] = {
    "ENQUEUED": WorkflowState.ACTIVE,
    "DELAYED": WorkflowState.ACTIVE,
    "PENDING": WorkflowState.ACTIVE,
    "SUCCESS": WorkflowState.FINISHED,
    "CANCELLED": WorkflowState.FINISHED,
    "ERROR": WorkflowState.FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": WorkflowState.GIVEN_UP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue and how many of its workflows one process may run at once."""

    name: str
    concurrency: int


class Engine:
    """Runs workflows durably in one database.

    Parameters
    ----------
    place : folder for a SQLite file, which only one process may use, or a PostgreSQL server
    workflows : name and function of each; a function has text arguments only, and does in a `step` what must
        not be repeated
    queues : of the workflows
    worker : name of this process among those that use a server, the same each time it is started
    poll_s : interval at which a queue is polled
    version : of the steps of the workflows
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
        if not logger.handlers:  # otherwise DBOS adds its own handler and a banner
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
        self._is_sole = isinstance(place, Path)
        self._poll_s = poll_s
        self._version = version

    def start(self) -> None:
        """Start; the workflows that an earlier process of this name left unfinished run first.

        On SQLite those of a process of any name are adopted. Raises DatabaseUnreachable; the process should
        then end and be started again, because workflows may be running already.
        """
        with _unreachable():
            DBOS.launch()
            self.add_queues(self._queues)
            if self._is_sole:
                for worker in self._others():
                    self.adopt(worker)

    def add_queues(self, queues: tuple[Queue, ...]) -> None:
        """Open queues; one that exists already gets its new limit. Raises DatabaseUnreachable."""
        with _unreachable():
            for queue in queues:
                DBOS.register_queue(
                    queue.name,
                    worker_concurrency=queue.concurrency,
                    polling_interval_sec=self._poll_s,
                    on_conflict="always_update",
                )

    def submit(
        self, queue: str, workflow: str, workflow_id: str, *arguments: str, priority: int = USUAL_PRIORITY
    ) -> None:
        """Put a workflow into a queue; an ID that was submitted before is not run a second time.

        Parameters
        ----------
        queue : name of the queue
        workflow : name of the workflow
        workflow_id : unique ID of this run of the workflow
        arguments : of the function of the workflow
        priority : from 1; of those that wait in a queue the smallest number runs first, of equals the oldest
        """
        with SetWorkflowID(workflow_id), SetEnqueueOptions(priority=priority):
            DBOS.enqueue_workflow(queue, self._workflows[workflow], *arguments)

    def state(self, workflow_id: str) -> WorkflowState:
        """The state of a workflow."""
        status: WorkflowStatus | None = DBOS.get_workflow_status(workflow_id)
        if status is None:
            return WorkflowState.ABSENT
        if (status.attributes or {}).get(_GIVEN_UP):
            return WorkflowState.GIVEN_UP
        return _STATES.get(status.status, WorkflowState.FAILED)

    def cancel(self, workflow_id: str) -> None:
        """Cancel a workflow: one that waits does not start, one that runs ends before its next step."""
        if self.state(workflow_id) is WorkflowState.ACTIVE:
            DBOS.cancel_workflow(workflow_id)

    def adopt(self, worker: str) -> list[str]:
        """Queue what a dead process was running again; the IDs of these workflows.

        The caller makes sure that the process is dead and that no other process adopts from it at the same
        time. A workflow during which processes died too often is given up instead.
        """
        adopted = []
        for status in self._active("PENDING", worker=worker):
            if status.app_version not in (None, self._version):
                continue  # see `drop_outdated`
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
        """Delete unfinished workflows of another version of the program; their IDs.

        Their steps are not those of this version, so the engine would never run them: they must be submitted
        again. Those of a process that may still be alive are left alone; on SQLite there is none.

        Parameters
        ----------
        dead : names of processes that are known to be dead

        Raises
        ------
        DatabaseUnreachable
        """
        with _unreachable():
            gone = {self._worker, *dead, *(self._others() if self._is_sole else ())}
            dropped = [
                status.workflow_id
                for status in self._active(*_ACTIVE)
                if status.app_version not in (None, self._version)
                and (status.status != "PENDING" or status.executor_id in gone)
            ]
            if dropped:
                DBOS.delete_workflows(dropped)
            return dropped

    def _others(self) -> set[str]:
        """Names of other processes under which workflows are stored as running."""
        return {status.executor_id for status in self._active("PENDING") if status.executor_id} - {
            self._worker
        }

    @staticmethod
    def _active(*states: str, worker: str | None = None) -> list[WorkflowStatus]:
        return DBOS.list_workflows(
            status=list(states), executor_id=worker, load_input=False, load_output=False
        )

    def forget_finished(self, workflow_ids: list[str]) -> None:
        """Delete what the engine has stored about workflows that have ended."""
        for workflow_id in workflow_ids:
            if self.state(workflow_id) in {WorkflowState.FINISHED, WorkflowState.FAILED}:
                DBOS.delete_workflow(workflow_id)

    def stop(self) -> None:
        """Stop; the next start resumes what is unfinished."""
        DBOS.destroy(destroy_registry=True)


@contextmanager
def _unreachable() -> Iterator[None]:
    """Turn a database error of the engine into a DatabaseUnreachable, without the text of the statement."""
    try:
        yield
    except DBAPIError as error:
        raise DatabaseUnreachable(f"The workflow engine: {type(error.orig).__name__}.") from error


def _database(place: Path | Server) -> DBOSConfig:
    """Where the engine keeps its tables: its own file, or its own schema next to that of the node."""
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
    """A function around a method: DBOS sets attributes on a function, which a bound method does not allow."""

    def workflow(*arguments: str) -> None:
        function(*arguments)

    return workflow


def step(name: str, function: Step, *arguments: str) -> Any:
    """Run a part of a workflow whose result is stored, so that it is not repeated once it has finished.

    Parameters
    ----------
    name : of the step; must not change while workflows are unfinished
    function : what it does; its result must be serialisable
    arguments : of the function
    """
    return DBOS.run_step({"name": name}, function, *arguments)


def sleep(seconds: float) -> None:
    """Wait inside a workflow; the time that has passed counts across restarts."""
    DBOS.sleep(seconds)
