"""Commands as a physicist types them, one after the other, with their times."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class StepFailed(Exception):
    """A step did not end as it must."""


class Steps:
    """Steps of the way, printed as they are done.

    Parameters
    ----------
    folder : gets ``log.txt`` with the output of all commands
    environment : of the commands
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.log = folder / "log.txt"
        self.environment = environment
        self.done: list[tuple[str, float]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step: its time is printed; whatever it raises ends the way."""
        started = time.monotonic()
        print(f"{name} ...", flush=True)
        yield
        seconds = time.monotonic() - started
        self.done.append((name, seconds))
        print(f"{name}: {seconds:.0f} s", flush=True)

    def train(self, *arguments: str) -> str:
        """Run ``orgseg-train``; returns what it printed. Raises StepFailed."""
        return self._run("orgseg_training.cli", arguments)

    def node(self, *arguments: str) -> str:
        """Run ``orgseg``; returns what it printed. Raises StepFailed."""
        return self._run("orgseg_node.cli", arguments)

    def _run(self, module: str, arguments: Sequence[str]) -> str:
        program = "orgseg-train" if module == "orgseg_training.cli" else "orgseg"
        line = f"$ {program} {' '.join(arguments)}"
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=self.environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"{line}\n{done.stdout}\n")
        if done.returncode:
            tail = "\n".join(done.stdout.strip().splitlines()[-25:])
            raise StepFailed(f"{line}\nstatus {done.returncode}\n{tail}")
        return done.stdout


def wait_until(what: str, check: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so.

    Parameters
    ----------
    what : is waited for, for the error
    check : whether it is so
    seconds : at most

    Raises
    ------
    StepFailed
        If it does not become so in time.
    """
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise StepFailed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
