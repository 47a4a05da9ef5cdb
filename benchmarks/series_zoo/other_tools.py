"""The assessment of another tool, which runs in a process of its own under a time limit."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.series_zoo.assessment import EXACT_MM, Assessment, Outcome, ReadVolume, assess_volumes
from tests.support.ct.zoo import Stack

OTHER_TOOLS = ("SimpleITK", "dicom2nifti", "rt-utils")
TIME_LIMIT_S = 60.0
START_LIMIT_S = 180.0


class OtherTool:
    """A tool that reads one series after the other; a process that crashes or hangs is replaced."""

    def __init__(self, tool: str, temporary: Path) -> None:
        self._tool = tool
        self._out = temporary / f"{tool}.npz"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def assess(self, folder: Path, stacks: Sequence[Stack]) -> Assessment:
        """Let the tool read a folder and compare the result with the true slices."""
        answer = self._ask({"folder": str(folder), "out": str(self._out)})
        if answer is None:
            return Assessment(outcome=Outcome.CRASHED)
        if "error" in answer:
            return Assessment(outcome=Outcome.REFUSED, code=answer["error"])
        with np.load(self._out) as arrays:
            volumes = [
                ReadVolume(hu=arrays[f"hu_{n}"], affine=arrays[f"affine_{n}"])
                for n in range(answer["volumes"])
            ]
        assessment = assess_volumes(volumes, stacks)
        if answer["contour_error_mm"] > max(EXACT_MM, assessment.error_mm):
            return Assessment(outcome=Outcome.WRONG, error_mm=answer["contour_error_mm"], note="contours")
        return assessment

    def _ask(self, request: dict[str, str]) -> dict[str, Any] | None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.series_zoo.other_tool_worker", self._tool],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            if self._line(START_LIMIT_S) is None:
                return None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._line(TIME_LIMIT_S)

    def _line(self, limit_s: float) -> dict[str, Any] | None:
        """The next answer; None if there is none in time, and then the process is killed."""
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], limit_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self._stop()
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
