"""Faults of disk, database and clock."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orgseg_node.node.full_disk import PROBLEM
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.model import JobState, SeriesState
from orgseg_node.node.store.store import DATABASE, Store
from tests.chaos.supervisor import SupervisedProcess, Supervisor, until
from tests.faults.bench import Fault, echo, images, listening, mount, push, small_disk, uid_of
from tests.support.peers.dcmtk import free_port

_SUCCESS, _LATER = 0x0000, 0xA700


def full(scratch: Path) -> str:
    """Fill the disk by sending; then free space."""
    paths = images(scratch, 240)
    with small_disk(scratch / "disk", 3) as disk:
        with listening(disk / "data") as node:
            (disk / "filler").write_bytes(bytes(1_500_000))
            kept: list[Path] = []
            for path in paths:
                status = node.push(path)
                if status != _SUCCESS:
                    break
                kept.append(path)
            assert status == _LATER, hex(status)
            assert node.kept(kept)
            (disk / "filler").unlink()
            assert node.push(path) == _SUCCESS
            assert node.kept([*kept, path])
        return f"{len(kept)} times Success, then 0xA700; all of them whole on the disk; then Success again"


def started_full(scratch: Path) -> str:
    """Start the real node on a full disk; free space later."""
    (path,) = images(scratch, 1)
    port, web = free_port(), free_port()
    config = scratch / "node.toml"
    with small_disk(scratch / "disk", 40) as disk:
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1_000_000))
                file.flush()
        config.write_text(
            f'[node]\nhost = "127.0.0.1"\nport = {port}\ndata_dir = "{disk / "data"}"\n'
            f"[web]\nport = {web}\n[receiver]\nmin_free_mb = 1\naccept_any_calling_ae = true\n"
            "[worker]\nspare_child = false\n",
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "orgseg_node.cli", "node", "run", "--config", str(config)]
        with Supervisor() as supervisor:
            node = supervisor.start(SupervisedProcess(name="node", command=command, log=scratch / "node.log"))
            until(lambda: echo(port), 60, "the node answers")
            assert push(port, path) == _LATER
            problems = _problems(web)
            assert problems == [PROBLEM], problems
            filler.unlink()
            until(lambda: push(port, path) == _SUCCESS, 60, "it takes images")
            assert not node.own_deaths, "the node ended"
            assert _problems(web) == []
            assert list((disk / "data" / "inbox").rglob("*.dcm"))
    return f"0xA700 and '{PROBLEM}' in /readyz; Success once there was space, by the same process"


def _problems(web: int) -> list[str]:
    """What `/readyz` of a node names."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{web}/readyz", timeout=5) as response:
            found: dict[str, list[str]] = json.loads(response.read())
    except urllib.error.HTTPError as error:
        found = json.loads(error.read())
    return found.get("problems", [])


def read_only(scratch: Path) -> str:
    """Make the inbox read-only under the running node, and writable again."""
    paths = images(scratch)
    with small_disk(scratch / "disk", 20) as disk, listening(disk / "data") as node:
        assert node.push(paths[0]) == _SUCCESS
        inbox = str(disk / "data" / "inbox")
        mount("--bind", inbox, inbox)
        try:
            mount("-o", "remount,bind,ro", inbox)
            status = node.push(paths[1])
        finally:
            subprocess.run(["umount", inbox], check=True)
        assert status == _LATER
        assert node.push(paths[1]) == _SUCCESS
        assert node.kept(paths[:2])
    return "0xA700; Success as soon as it is writable again"


def locked(scratch: Path) -> str:
    """Another program holds the database."""
    paths = images(scratch)
    with listening(scratch / "data") as node:
        other = sqlite3.connect(scratch / "data" / DATABASE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        status = node.push(paths[0])
        waited = time.monotonic() - begun
        other.execute("ROLLBACK")
        other.close()
        assert status == _LATER
        assert node.push(paths[0]) == _SUCCESS
        assert node.kept(paths[:1])
    return f"0xA700 after {waited:.0f} s of waiting; Success as soon as it is free"


def gone(scratch: Path) -> str:
    """The files of the database are deleted under the running node, which is then started again."""
    paths = images(scratch)
    answered: list[Path] = []
    with listening(scratch / "data") as node:
        for number, path in enumerate(paths):
            if number == 8:
                for file in (scratch / "data" / "db").iterdir():
                    file.unlink()
            if node.push(path) == _SUCCESS:
                answered.append(path)
    store = Store(scratch / "data")
    adopted, _ = Inbox(node.config, store).adopt()
    known = {path for path in paths if store.copies(uid_of(path))}
    store.close()
    assert known >= set(answered)
    result = f"{len(answered)} of {len(paths)} got Success"
    return f"{result}; the next start took all of them in again ({adopted} files)"


def forward(scratch: Path) -> str:
    """The clock jumps an hour forward while a series arrives."""
    return _jump(scratch, timedelta(hours=1), after=12)


def back(scratch: Path) -> str:
    """The clock jumps an hour back when a series has just arrived."""
    return _jump(scratch, timedelta(hours=-1), after=24)


def _jump(scratch: Path, jump: timedelta, *, after: int) -> str:
    """Move the clock after so many of 24 slices, and see when the series is judged, and how often."""
    moved = [timedelta()]
    paths = images(scratch)
    with listening(scratch / "data", clock=lambda: datetime.now(UTC) + moved[0]) as node:
        for path in paths[:after]:
            assert node.push(path) == _SUCCESS
        moved[0] = jump
        early = len(node.inbox.judge_stable_series()) if after < len(paths) else 0
        for path in paths[after:]:
            assert node.push(path) == _SUCCESS
        waited, end = 0.0, time.monotonic() + 30
        while not node.inbox.judge_stable_series():
            time.sleep(0.1)
            if time.monotonic() > end - 25:  # real time does not help: let the clock run
                moved[0] += timedelta(minutes=1)
                waited += 1
        (series,) = node.store.series()
        live = [job for job in node.store.jobs() if job.state is not JobState.SUPERSEDED]
        assert series.state is SeriesState.READY
        assert [job.slices for job in live] == [24]
    early_text = "judged too early once; " if early else ""
    return f"{early_text}one live job with all 24 slices, revision {series.revision}, {waited:.0f} min late"


FAULTS = (
    Fault(name="disk full", trial=full,
          expected="0xA700 once an image cannot be kept; what got Success is whole; goes on with free space"),
    Fault(name="started on a full disk", trial=started_full,
          expected="it starts, answers 0xA700 and says why in /readyz; it works once there is space"),
    Fault(name="disk read-only", trial=read_only, expected="0xA700 while it is; Success afterwards"),
    Fault(name="database locked", trial=locked, expected="0xA700 after 10 s; Success once it is free"),
    Fault(name="database deleted", trial=gone,
          expected="no image that got Success is lost: the next start adopts the files of the inbox"),
    Fault(name="clock jumps forward by an hour", trial=forward,
          expected="a series may be judged too early; the rest makes a new revision, one live job"),
    Fault(name="clock jumps back by an hour", trial=back,
          expected="nothing is lost; a series in arrival may wait until the clock is where it was"),
)  # fmt: skip
