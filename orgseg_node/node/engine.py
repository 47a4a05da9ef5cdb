"""The durable engine, and the only module that knows it is DBOS.

It promises three things: a submitted workflow runs even if the machine loses power first; a step that
finished is not repeated; a workflow whose process dies more than three times is given up and said so. What
the node means by a job is not kept here but in `orgseg_node.node.store`; both are reconciled every minute.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSConfig, SetWorkflowID, WorkflowStatus

PIPELINE_VERSION: Final = "orgseg-pipeline-1"
"""Changes only when the steps of a workflow change; pending workflows of another version are not resumed."""

MAX_RECOVERIES: Final = 3

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
    """Runs workflows durably on one SQLite file.

    Parameters
    ----------
    folder : where its database is; the engine of one folder runs in one process only
    workflows : name and function of each; a function takes text arguments only and does everything that
        must not be repeated through `Engine.step`
    queues : the waiting lines
    poll_s : how often a queue is looked at
    """

    def __init__(
        self,
        folder: Path,
        workflows: Mapping[str, Workflow],
        queues: tuple[Queue, ...],
        *,
        poll_s: float = 0.5,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        logger = logging.getLogger("dbos")
        if not logger.handlers:  # otherwise DBOS adds a handler of its own, and a banner
            logger.addHandler(logging.NullHandler())
        config: DBOSConfig = {
            "name": "orgseg-node",
            "system_database_url": f"sqlite:///{(folder / 'engine.sqlite').resolve()}",
            "application_version": PIPELINE_VERSION,
            "executor_id": f"{socket.gethostname()}-0",
            "log_level": "WARNING",
            "enable_otlp": False,
            "scheduler_polling_interval_sec": 3600.0,
        }
        DBOS(config=config)
        self._workflows = {
            name: DBOS.workflow(name=name, max_recovery_attempts=MAX_RECOVERIES)(_plain(function))
            for name, function in workflows.items()
        }
        self._queues = queues
        self._poll_s = poll_s

    def start(self) -> None:
        """Start working, first of all on what an earlier process left unfinished."""
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

    def submit(self, queue: str, workflow: str, workflow_id: str, *arguments: str) -> None:
        """Put a workflow into a queue; a number that was submitted before is not run a second time."""
        with SetWorkflowID(workflow_id):
            DBOS.enqueue_workflow(queue, self._workflows[workflow], *arguments)

    def state(self, workflow_id: str) -> RunState:
        """What has become of a workflow."""
        status: WorkflowStatus | None = DBOS.get_workflow_status(workflow_id)
        return RunState.ABSENT if status is None else _RUN_STATES.get(status.status, RunState.BROKEN)

    def forget_finished(self, workflow_ids: list[str]) -> None:
        """Delete what the engine remembers about workflows that are over."""
        for workflow_id in workflow_ids:
            if self.state(workflow_id) in {RunState.FINISHED, RunState.BROKEN}:
                DBOS.delete_workflow(workflow_id)

    def stop(self) -> None:
        """Stop; what is unfinished is resumed by the next start."""
        DBOS.destroy(destroy_registry=True)


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
