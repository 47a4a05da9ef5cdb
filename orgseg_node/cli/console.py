"""Output of the command line: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orgseg_node.errors import OrgsegError
from orgseg_node.tenths import Tenths

if TYPE_CHECKING:  # numpy and scipy would delay the start of every command
    from orgseg_node.core.checks import Finding
    from orgseg_node.inference.predictor import ProgressCallback

OK, FAILED, USAGE, CONFIGURATION, ENVIRONMENT = range(5)
"""Exit codes: success; failure, or a finding of level error; usage; configuration; environment."""

_UNBROKEN = 1000
COLORS = {"info": "cyan", "warning": "yellow", "error": "red"}


def out() -> Console:
    """The console for results, on stdout; no line is broken where they go into a file or a pipe."""
    is_terminal = sys.stdout.isatty()
    width = None if is_terminal else _UNBROKEN
    return Console(file=sys.stdout, highlight=False, soft_wrap=not is_terminal, width=width)


def local_time(moment: datetime) -> str:
    """A time in the time zone of this machine, which is named with it."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def err() -> Console:
    """The console for messages, on stderr."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())


@contextlib.contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Send logs to stderr, and suppress messages of DICOM libraries, which may quote datasets."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    for name in ("pydicom", "pynetdicom"):
        if not logging.getLogger(name).handlers:
            logging.getLogger(name).addHandler(logging.NullHandler())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom(\.|$)")
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedItem:
    """An item of a list: one line of cells, and lines below it.

    Attributes
    ----------
    cells : one for each column
    below : sentences about it
    commands : the commands that continue it, each whole
    is_marked : whether it is marked with ``!``
    """

    cells: Sequence[str]
    below: Sequence[str] = ()
    commands: Sequence[str] = ()
    is_marked: bool = False


def print_items(columns: Sequence[str], items: Sequence[ListedItem]) -> None:
    """Print a list of which no cell, sentence or command is cut or broken, however narrow the terminal is.

    Each command has its own line, so that it can be copied from any terminal or file.
    """
    if not items:
        return
    console = out()
    rows = [columns, *(item.cells for item in items)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    marks = ["", *("[red]![/]" if item.is_marked else "" for item in items)]
    for mark, row, item in zip(marks, rows, [None, *items], strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        console.print(f"{mark or ' '} {escape('  '.join(cells).rstrip())}", soft_wrap=True)
        for line in item.below if item else ():
            console.print(f"    {escape(line)}", soft_wrap=True)
        for command in item.commands if item else ():
            console.print(f"    Next: [bold]{escape(command)}[/]", soft_wrap=True)


def print_json(content: Any) -> None:
    """Print a result as JSON on stdout."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def print_message(text: str) -> None:
    """Print a message for a person on stderr."""
    err().print(escape(text))


def print_error(error: OrgsegError) -> None:
    """Print code, sentence and next step of an error."""
    console = err()
    console.print(f"[bold red]error[/] [bold]{error.code}[/]")
    console.print(escape(error.sentence))
    console.print(f"Next step: {escape(error.next_step)}")


def print_unexpected_error(error: Exception) -> None:
    """Print that an unexpected error occurred; the details go to a log file that only the user can read."""
    # a log file may be lost in a power cut, so it is not written durably
    descriptor, name = tempfile.mkstemp(prefix="orgseg-error-", suffix=".log")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    console = err()
    console.print("[bold red]error[/] [bold]UNEXPECTED[/]")
    console.print(f"An error occurred that the program does not expect: {type(error).__name__}.")
    console.print(f"Next step: Report it to the maintainer of the node, with the log file {Path(name)}")


def print_findings(findings: tuple[Finding, ...]) -> None:
    """Print one line for each finding, with its level in colour."""
    console = err()
    for finding in findings:
        level = finding.level.value
        console.print(f"[{COLORS[level]}]{level}[/] {finding.code}: {escape(finding.message)}")


@contextlib.contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Progress on stderr; yields the callback that advances it.

    On a terminal it is a bar. Otherwise each tenth is a line with the time that passed, so that a file shows
    what long work does.
    """
    console = err()
    if not console.is_terminal:
        yield _progress_lines(console)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def on_progress(fraction: float, text: str) -> None:
            bar.update(task, completed=fraction, description=escape(text))

        yield on_progress


def _progress_lines(console: Console) -> ProgressCallback:
    begun, tenths = time.monotonic(), Tenths()

    def on_progress(fraction: float, text: str) -> None:
        if tenths.reached(fraction):
            passed = timedelta(seconds=round(time.monotonic() - begun))
            console.print(f"{fraction:4.0%} after {passed}  {escape(text)}".rstrip())

    return on_progress
