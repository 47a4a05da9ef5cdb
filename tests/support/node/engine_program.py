"""A process with the durable engine in it: ``python -m tests.support.node.engine_program SETTINGS.json``.

It does what it reads from stdin, one JSON list a line, and answers each with one. Its one workflow has two
steps: the first is over at once, the second takes as long as the second argument says, and kills the process
if that is negative. Each step writes a line into the log when it begins, and the second when it ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from orgseg_node.node.config.database import Server
from orgseg_node.node.processing import engine
from orgseg_node.node.processing.engine import Engine, Queue
from tests.support.processes.forked import ForkedProcess

QUEUE = "queue"


@dataclass(frozen=True, kw_only=True)
class EngineProcess:
    """The program from outside, with the ends of its standard input and output."""

    process: ForkedProcess
    stdin: TextIO
    stdout: TextIO

    def ask(self, *command: Any) -> Any:
        """Have it do something; its answer."""
        self.stdin.write(json.dumps(command) + "\n")
        self.stdin.flush()
        return json.loads(self.stdout.readline())

    def submit(self, workflow_id: str, seconds: float = 0.0, priority: int = 1000) -> None:
        """Have it submit a workflow."""
        self.ask("submit", workflow_id, seconds, priority)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(30)


@contextmanager
def engine_process(
    place: Path | Server, log: Path, *, worker: str = "a", version: str = "1"
) -> Iterator[EngineProcess]:
    """A process that works, killed at the end of the block.

    Parameters
    ----------
    place : folder of an SQLite database, or a PostgreSQL server
    log : file that the steps of its workflows write to
    worker, version : name of the worker, and version of its program
    """
    settings = {"place": str(place), "log": str(log), "worker": worker, "version": version, "password": ""}
    if isinstance(place, Server):
        settings |= {"place": place.url, "password": place.password}
    (its_input, stdin), (stdout, its_output) = os.pipe(), os.pipe()
    with os.fdopen(stdin, "w") as commands, os.fdopen(stdout) as answers:
        process = ForkedProcess(
            "tests.support.node.engine_program", [json.dumps(settings)], streams=(its_input, its_output, 2)
        )
        os.close(its_input)
        os.close(its_output)
        running = EngineProcess(process=process, stdin=commands, stdout=answers)
        try:
            assert json.loads(answers.readline()) == "ready"
            yield running
        finally:
            running.kill()


def main(settings: dict[str, str]) -> None:
    """Work until stdin ends."""
    said = Path(settings["log"])

    def note(text: str) -> None:
        descriptor = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{settings['worker']} {text}\n".encode())
        os.close(descriptor)

    def second(workflow_id: str, seconds: str) -> None:
        note(f"second {workflow_id}")
        if float(seconds) < 0:
            os._exit(1)
        time.sleep(float(seconds))
        note(f"end {workflow_id}")

    def work(workflow_id: str, seconds: str) -> None:
        engine.step("first", note, f"first {workflow_id}")
        engine.step("second", second, workflow_id, seconds)

    place: Path | Server = Path(settings["place"])
    if settings["place"].startswith("postgresql:"):
        place = Server(url=settings["place"], password=settings["password"])
    running = Engine(
        place, {"work": work}, (Queue(name=QUEUE, concurrency=1),),
        worker=settings["worker"], version=settings["version"], poll_s=0.1,
    )  # fmt: skip
    outdated: list[str] = []
    running.start()

    def do(what: str, *rest: Any) -> Any:
        if what == "submit":
            workflow_id, seconds, priority = rest
            running.submit(QUEUE, "work", workflow_id, workflow_id, str(seconds), priority=priority)
            return None
        if what == "drop":
            outdated.extend(running.drop_outdated(*rest))
            return sorted(outdated)
        return getattr(running, what)(*rest)

    _say("ready")
    for line in sys.stdin:
        _say(do(*json.loads(line)))


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
