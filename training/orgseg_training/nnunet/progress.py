"""Progress of a training, as lines of JSON that the training process appends and its parent reads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_STEP_INTERVAL_S: Final = 2.0


class ProgressWriter:
    """Appends events to a file.

    Parameters
    ----------
    path : of the file
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_step = 0.0

    def step(self, done: int, total: int, loss: float) -> None:
        """A training step is done; written at most every two seconds.

        Parameters
        ----------
        done, total : number of steps
        loss : of this step
        """
        now = time.monotonic()
        if now - self._last_step >= _STEP_INTERVAL_S or done == total:
            self._last_step = now
            self.event("step", done=done, total=total, loss=round(loss, 4))

    def event(self, name: str, **fields: Any) -> None:
        """Something else happened."""
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"event": name, **fields}) + "\n")


class ProgressReader:
    """Reads the events that were appended since the last time; a line that is not complete yet waits.

    Parameters
    ----------
    path : of the file; it need not exist yet
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = path.stat().st_size if path.is_file() else 0

    def events(self) -> Iterator[dict[str, Any]]:
        """New events, oldest first."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                try:
                    yield json.loads(line)
                except ValueError:  # the end of a line that a killed process wrote
                    continue
