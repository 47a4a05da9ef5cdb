"""An engine that runs nothing: it remembers what was submitted, and says what the test wants."""

from __future__ import annotations

from orgseg_node.node.engine import RunState


class MemoryEngine:
    """Workflow numbers and their states."""

    def __init__(self) -> None:
        self.states: dict[str, RunState] = {}
        self.submitted: list[tuple[str, ...]] = []
        self.forgotten: list[str] = []

    def submit(self, queue: str, workflow: str, workflow_id: str, *arguments: str) -> None:
        self.submitted.append((queue, workflow, workflow_id, *arguments))
        self.states[workflow_id] = RunState.ALIVE

    def state(self, workflow_id: str) -> RunState:
        return self.states.get(workflow_id, RunState.ABSENT)

    def forget_finished(self, workflow_ids: list[str]) -> None:
        self.forgotten += workflow_ids
