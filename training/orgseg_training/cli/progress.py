"""The progress of long work, on a terminal and in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from orgseg_node.tenths import Tenths


def progress_display() -> ProgressDisplay:
    """What shows the progress of long work on standard output, also while it goes into a file."""
    return ProgressDisplay(Console(soft_wrap=True))  # entered as a context manager, a console only collects


class ProgressDisplay:
    """A progress bar, and in a file a line for every tenth; a line for every validation of a training.

    Parameters
    ----------
    console : where it is shown
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None
        self._text, self._total, self._done, self._tenths = "", 0, 0, Tenths()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, text: str, total: int) -> None:
        """A stage begins."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        if not self._console.is_terminal:
            self._console.print(f"{text}, 0 of {total}" if total else text)
        self._task = self._progress.add_task(text, total=total or None)
        self._text, self._total, self._done, self._tenths = text, total, 0, Tenths()
        self._tenths.reached(0.0)

    def done(self, number: int) -> None:
        """So many parts of it are done."""
        self._done = number
        if self._task is not None:
            self._progress.update(self._task, completed=number)
        if self._total and not self._console.is_terminal and self._tenths.reached(number / self._total):
            self._console.print(f"{self._text}, {number} of {self._total}")

    def advance(self) -> None:
        """One part more is done."""
        self.done(self._done + 1)

    def event(self, event: Mapping[str, Any]) -> None:
        """The training process reports something."""
        if event["event"] == "timed":
            per_step, left = event["seconds_per_step"], event["seconds_left"] / 60
            self._console.print(
                f"{per_step:.2f} s a step, measured: about {left:.0f} min to the end of this network"
            )
            if self._task is not None:
                self._progress.update(self._task, total=event["steps"])
        elif event["event"] == "shifted":
            self._console.print(
                f"Background lowered by {event['shift']:g}: mean validation Dice {event['gain']:+.3f}"
            )
        elif event["event"] == "validated":
            dice = ", ".join(
                f"{organ} {'-' if value is None else f'{value:.2f}'}"
                for organ, value in event["dice"].items()
            )
            mark = "" if event["best"] else " (earlier weights were better)"
            undone = f"; {event['undone']} steps undone" if event.get("undone") else ""
            self._console.print(f"{event['done']} of {event['total']} steps: Dice {dice}{mark}{undone}")
