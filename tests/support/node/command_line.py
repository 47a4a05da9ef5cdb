"""Running the command line inside the test process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from orgseg_node.cli import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command gave back."""

    status: int
    out: str
    err: str

    @property
    def code(self) -> str:
        """The code of the error that was printed, or empty."""
        errors = [line for line in self.err.splitlines() if line.startswith("error ")]
        return errors[0].removeprefix("error ") if errors else ""


def orgseg(capsys: pytest.CaptureFixture[str], *arguments: object) -> Answer:
    """Run ``orgseg`` with these arguments."""
    capsys.readouterr()
    status = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return Answer(status=status, out=captured.out, err=captured.err)
