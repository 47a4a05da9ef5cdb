"""One sender, as a program: ``python -m tests.chaos.sender KIND PORT NAME LOG FOLDER...``.

It sends the series in the folders one after the other until every instance got Success, as a PACS does:
what was not answered with Success is sent again. An instance that got Success is written into LOG, durably,
before the next answer is looked at; started again after a kill, the sender goes on from there. KIND is
``dcmtk`` (DCMTK's storescu) or ``own`` (what ``orgseg send`` sends with).
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from orgseg_node.dicom.reading.part10 import content_hash, split_part10
from orgseg_node.errors import NetworkError
from orgseg_node.node.config.node_config import Destination
from orgseg_node.node.dimse.storage_scu import DicomSender
from tests.support.peers.dcmtk import dcmtk

_SENDING: Final = re.compile(r"Sending file: (.*\.dcm)")
_ANSWER: Final = re.compile(r"Received Store Response \((.*)\)")
_AGAIN_S: Final = 0.4

OnStored = Callable[[Path], None]


class AckLog:
    """The sender's own durable memory of what got Success: a line of path and content hash for each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.answered: set[Path] = {file for file, _ in read_acks(path)}

    def success(self, file: Path) -> None:
        """Remember that a file got Success."""
        line = f"{file}\t{hash_of(file)}\n".encode()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.answered.add(file)


def read_acks(path: Path) -> list[tuple[Path, str]]:
    """Files that got Success with their content hash; a line that was cut by a kill does not count."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [line.split("\t") for line in text.split("\n")[:-1]]
    return [(Path(line[0]), line[1]) for line in lines]


def hash_of(file: Path) -> str:
    """What the node calls the content of a file."""
    return content_hash(*split_part10(file.read_bytes()))


def by_dcmtk(port: int, files: Sequence[Path], on_stored: OnStored, *, name: str) -> None:
    """Push files with storescu; its own words say which were answered with Success."""
    command = [dcmtk("storescu"), "-v", "-ta", "20", "-td", "20", "-to", "5", "-aet", name, "-aec", "ORGSEG"]
    with subprocess.Popen(
        [*command, "127.0.0.1", str(port), *map(str, files)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        current: Path | None = None
        for line in process.stdout:
            if (begun := _SENDING.search(line)) is not None:
                current = Path(begun.group(1))
            elif (answer := _ANSWER.search(line)) is not None and current is not None:
                if answer.group(1) == "Success":
                    on_stored(current)
                current = None


def by_own(port: int, files: Sequence[Path], on_stored: OnStored, *, name: str) -> None:
    """Push files with the node's own sender."""
    node = Destination(ae_title="ORGSEG", host="127.0.0.1", port=port, timeout_s=20)
    try:
        DicomSender().send_all(node, name, files, on_progress=lambda stored: on_stored(files[stored - 1]))
    except NetworkError as error:
        print(f"again: {error.code}", flush=True)


def main(kind: str, port: int, name: str, log: Path, pause_s: float, folders: Sequence[Path]) -> None:
    """Send every series to the end."""
    acks, random_ = AckLog(log), random.Random(name)
    push = {"dcmtk": by_dcmtk, "own": by_own}[kind]
    for folder in folders:
        files, fresh = sorted(folder.iterdir()), True
        while left := [file for file in files if file not in acks.answered]:
            if fresh and len(left) == len(files):
                time.sleep(random_.uniform(0, 2 * pause_s))
            fresh = False
            push(port, left, acks.success, name=name)
            if any(file not in acks.answered for file in files):
                time.sleep(_AGAIN_S)


if __name__ == "__main__":
    main(
        sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), float(sys.argv[5]),
        [Path(folder) for folder in sys.argv[6:]],
    )  # fmt: skip
