"""The judgement on a rival, which works in a process of its own under a time limit."""

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

from benchmarks.series_zoo.verdict import EXACT_MM, Outcome, Picture, Verdict, judge_pictures
from tests.support.ct.zoo import Stack

RIVALS = ("SimpleITK", "dicom2nifti", "rt-utils")
TIME_LIMIT_S = 60.0
START_LIMIT_S = 180.0


class Rival:
    """A tool that reads series after series; a process that dies or hangs is replaced by a new one."""

    def __init__(self, tool: str, scratch: Path) -> None:
        self._tool = tool
        self._out = scratch / f"{tool}.npz"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def judge(self, folder: Path, stacks: Sequence[Stack]) -> Verdict:
        """Let the tool read a folder and hold what it makes of it to what is true."""
        answer = self._ask({"folder": str(folder), "out": str(self._out)})
        if answer is None:
            return Verdict(outcome=Outcome.CRASHED)
        if "error" in answer:
            return Verdict(outcome=Outcome.REFUSED, code=answer["error"])
        with np.load(self._out) as arrays:
            pictures = [
                Picture(hu=arrays[f"hu_{n}"], affine=arrays[f"affine_{n}"]) for n in range(answer["pictures"])
            ]
        verdict = judge_pictures(pictures, stacks)
        if answer["off_mm"] > max(EXACT_MM, verdict.error_mm):
            return Verdict(outcome=Outcome.WRONG, error_mm=answer["off_mm"], note="contours")
        return verdict

    def _ask(self, order: dict[str, str]) -> dict[str, Any] | None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.series_zoo.rival_worker", self._tool],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            if self._line(START_LIMIT_S) is None:
                return None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._line(TIME_LIMIT_S)

    def _line(self, limit_s: float) -> dict[str, Any] | None:
        """The next answer; None, and no process any more, if there is none in time."""
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
