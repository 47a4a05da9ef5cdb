"""How the command line speaks: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from orgseg_node.errors import OrgsegError

if TYPE_CHECKING:  # numpy and scipy would make every command start late
    from orgseg_node.core.checks import Finding
    from orgseg_node.inference.predictor import ProgressCallback as Tell

OK, FAILED, USAGE, CONFIGURATION, ENVIRONMENT = range(5)
"""Exit codes: all well; failed, or a finding of level error; usage; configuration; environment."""

COLORS = {"info": "cyan", "warning": "yellow", "error": "red"}


def out() -> Console:
    """Where results go."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """Where messages go."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())


@contextlib.contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Let stdout hold results only: logs go to stderr, and what DICOM libraries quote of datasets nowhere."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    for name in ("pydicom", "pynetdicom"):
        if not logging.getLogger(name).handlers:
            logging.getLogger(name).addHandler(logging.NullHandler())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom(\.|$)")
        yield


def print_json(content: Any) -> None:
    """Write a result for machines: JSON, and nothing else, on stdout."""
    sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def say(text: str) -> None:
    """A message for a person."""
    err().print(escape(text))


def tell_error(error: OrgsegError) -> None:
    """Code, sentence and next step of an error, without a traceback."""
    console = err()
    console.print(f"[bold red]error[/] [bold]{error.code}[/]")
    console.print(escape(error.sentence))
    console.print(f"Next step: {escape(error.next_step)}")


def tell_unexpected(error: Exception) -> None:
    """Tell of an error nobody foresaw; its details go into a log file that only the user can read."""
    descriptor, name = tempfile.mkstemp(prefix="orgseg-error-", suffix=".log")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    console = err()
    console.print("[bold red]error[/] [bold]UNEXPECTED[/]")
    console.print(f"Something went wrong that the program does not know: {type(error).__name__}.")
    console.print(f"Next step: Report it to whoever maintains the node, with the log file {Path(name)}")


def tell_findings(findings: tuple[Finding, ...]) -> None:
    """One line for each finding, with its level in colour."""
    console = err()
    for finding in findings:
        level = finding.level.value
        console.print(f"[{COLORS[level]}]{level}[/] {finding.code}: {escape(finding.message)}")


@contextlib.contextmanager
def progress_bar() -> Iterator[Tell]:
    """A progress bar on stderr where that is a terminal, silence where it is not."""
    console = err()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)

        def tell(part: float, text: str) -> None:
            bar.update(task, completed=part, description=escape(text))

        yield tell
