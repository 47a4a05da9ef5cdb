"""An engine that runs nothing: it remembers what was submitted, and says what the test wants."""

from __future__ import annotations

from orgseg_node.node.processing.engine import USUAL_PRIORITY, WorkflowState


class MemoryEngine:
    """Workflow numbers and their states."""

    def __init__(self) -> None:
        self.states: dict[str, WorkflowState] = {}
        self.submitted: list[tuple[str, ...]] = []
        self.forgotten: list[str] = []
        self.cancelled: list[str] = []
        self.priorities: dict[str, int] = {}

    def submit(
        self, queue: str, workflow: str, workflow_id: str, *arguments: str, priority: int = USUAL_PRIORITY
    ) -> None:
        self.submitted.append((queue, workflow, workflow_id, *arguments))
        self.priorities[workflow_id] = priority
        self.states[workflow_id] = WorkflowState.ACTIVE

    def cancel(self, workflow_id: str) -> None:
        self.cancelled.append(workflow_id)
        self.states[workflow_id] = WorkflowState.FINISHED

    def state(self, workflow_id: str) -> WorkflowState:
        return self.states.get(workflow_id, WorkflowState.ABSENT)

    def forget_finished(self, workflow_ids: list[str]) -> None:
        self.forgotten += workflow_ids
