"""Several processes on one PostgreSQL database: parts of a node, workers that die, and who takes over."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from orgseg_node.cli import main
from orgseg_node.cli.node.doctor import examine
from orgseg_node.errors import NodeRunning
from orgseg_node.node.config.database import Server
from orgseg_node.node.processing.device_lock import hold_device
from orgseg_node.node.processing.heartbeat import DeadWorkerDetector, Heartbeat
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import Job, JobState
from orgseg_node.node.store.store import Store
from tests.support.node.node_process import NodeProcess, wait_for
from tests.support.peers.dcmtk import free_port, storescp, storescu
from tests.support.peers.postgres import Cluster

pytestmark = pytest.mark.endurance

DEAD_AFTER_S = 6


@pytest.fixture
def server(postgres: Cluster) -> Server:
    return postgres.new_database()


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    with contextlib.closing(Database(server)) as opened:
        yield opened


class Adopting:
    """Stands in for an engine: it notes from whom it was to adopt."""

    def __init__(self) -> None:
        self.adopted: list[str] = []

    def drop_outdated(self, dead: tuple[str, ...] = ()) -> list[str]:
        return []

    def adopt(self, worker: str) -> list[str]:
        self.adopted.append(worker)
        return [f"of {worker}"]


def heartbeat(database: Database, name: str, limit_s: float) -> Heartbeat:
    """One that does not kill the tests."""
    return Heartbeat(database, name, limit_s=limit_s, end_process=lambda: None)


def detector(database: Database, name: str, engine: Any, now: list[float]) -> DeadWorkerDetector:
    return DeadWorkerDetector(database, engine, name, limit_s=60, now=lambda: now[0])


def states(database: Database) -> dict[str, str]:
    with database.write() as tx:
        return {str(name): str(state) for name, state in tx.rows("SELECT name, state FROM worker")}


class TestHeartbeat:
    """Which workers are shown as alive, and which as dead."""

    def test_a_worker_whose_beats_stand_still_is_dead_and_one_that_beats_is_not(
        self, database: Database
    ) -> None:
        still = heartbeat(database, "still", 3600)
        beating = heartbeat(database, "beating", 1.2)
        still.start()
        beating.start()
        now, engine = [0.0], Adopting()
        others = detector(database, "me", engine, now)
        try:
            assert others.scan() == []
            now[0] = 59
            assert others.scan() == []

            def beats() -> int:
                with database.write() as tx:
                    return int(tx.rows("SELECT beats FROM worker WHERE name = 'beating'")[0][0])

            before = beats()
            wait_for(lambda: beats() > before, 30, "it beats")
            now[0] = 61
            assert others.scan() == ["of still"]
            assert states(database) == {"still": "DEAD", "beating": "ALIVE"}
        finally:
            beating.stop()
            still.stop()
        assert states(database) == {"still": "STOPPED", "beating": "STOPPED"}

    def test_a_restart_is_seen_also_by_who_looked_before_it(self, database: Database) -> None:
        first = heartbeat(database, "x", 3600)
        first.start()
        now, engine = [0.0], Adopting()
        others = detector(database, "me", engine, now)
        others.scan()
        now[0] = 100
        again = heartbeat(database, "x", 3600)
        again.start()
        # what this one read just before the restart
        assert not others._declare_dead("x", first._start_id, 0)
        assert states(database) == {"x": "ALIVE"}
        assert others.scan() == []
        assert engine.adopted == []
        again.stop()
        first.stop()

    def test_a_worker_that_was_taken_for_dead_kills_itself(self, database: Database) -> None:
        died = threading.Event()
        heart = Heartbeat(database, "x", limit_s=0.6, end_process=died.set)
        heart.start()
        with database.write() as tx:
            tx.run("UPDATE worker SET state = 'DEAD'")
        assert died.wait(30)
        heart.stop()

    def test_a_worker_that_cannot_beat_kills_itself_before_others_adopt(
        self, postgres: Cluster, server: Server
    ) -> None:
        died = threading.Event()
        lonely = Database(server)
        heart = Heartbeat(lonely, "x", limit_s=3, end_process=died.set)
        heart.start()
        postgres.crash()
        try:
            assert died.wait(30)
        finally:
            postgres.start()
            heart.stop()
            lonely.close()

    def test_a_name_that_another_host_uses_is_refused(self, database: Database) -> None:
        other = heartbeat(database, "x", 1.2)
        other.start()
        with database.write() as tx:
            tx.run("UPDATE worker SET host = 'elsewhere'")
        with pytest.raises(NodeRunning, match="Another host"):
            heartbeat(database, "x", 30).start()
        other.stop()
        with database.write() as tx:
            tx.run("UPDATE worker SET host = 'elsewhere', state = 'ALIVE'")
        successor = heartbeat(database, "x", 0.5)
        successor.start()
        with database.write() as tx:
            assert tx.rows("SELECT host FROM worker") == [(socket.gethostname(),)]
        successor.stop()


def test_a_device_is_held_by_one_and_free_when_it_is_over(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def wait() -> None:
        raise Enough

    with hold_device(tmp_path, "cpu", wait):
        with pytest.raises(Enough), hold_device(tmp_path, "cpu", wait):
            pass
        with hold_device(tmp_path, "cuda", wait):
            pass
    with hold_device(tmp_path, "cpu", wait):
        pass


@pytest.mark.peer
@pytest.mark.slow
def test_a_worker_killed_for_good_in_mid_inference_is_replaced_and_the_job_ends_once(
    tmp_path: Path, ct_folder: Path, server: Server
) -> None:
    (tmp_path / "secret").write_text(server.password, encoding="utf-8")
    port = free_port()

    def part(name: str, role: str) -> NodeProcess:
        more = (
            f'[database]\nurl = "{server.url}"\npassword_file = "secret"\n'
            f'[worker]\nname = "{name}"\nroles = ["{role}"]\ndead_after_s = {DEAD_AFTER_S}'
        )
        # not warm, so that only a worker with a job has a child
        return NodeProcess(folder=tmp_path, tps_port=port, seconds=5, name=name, more=more)

    parts = [part("door", "receiver"), part("one", "worker"), part("two", "worker")]
    door, *workers = parts
    with contextlib.ExitStack() as stack, storescp(tmp_path / "tps", port, "-aet", "TPS") as tps:
        for each in parts:
            each.start()
            stack.callback(lambda each=each: each.alive and each.kill())
        store = Store(Database(server, read_only=True))
        stack.callback(store.close)
        pushed = storescu(door.port, sorted(ct_folder.iterdir()), "-aec", "ORGSEG")
        assert pushed.returncode == 0, pushed.stdout

        def job_in(state: JobState) -> Job | None:
            return next((job for job in store.jobs() if job.state is state), None)

        wait_for(lambda: job_in(JobState.INFERRING), 60, "it infers")
        (busy,) = [
            worker
            for worker in workers
            if any("node_child" in " ".join(c.cmdline()) for c in worker.children())
        ]
        busy.kill()

        wait_for(lambda: job_in(JobState.DONE), 90, "the other worker does it")
        (job,) = store.jobs()
        assert job.run == 1
        changes = [e.change for e in store.events(job.job_id) if e.kind == "job"]
        assert changes.count("PREPARING -> INFERRING") == 2
        assert changes.count("SENDING -> DONE") == 1
        datasets = [pydicom.dcmread(path) for path in tps.iterdir()]
        assert sorted(d.Modality for d in datasets) == ["RTSTRUCT", "SEG"]
        (left,) = [worker for worker in workers if worker is not busy]
        adopted = [e for e in left.events() if e.get("event") == "workflows adopted"]
        assert [(e["worker"], e["adopted"]) for e in adopted] == [(busy.name, 1)]
        assert left.stop() == 0
        assert door.stop() == 0
        text = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.log"))
        assert server.password not in text
        assert "Traceback" not in text


@pytest.mark.peer
@pytest.mark.slow
def test_on_sqlite_receiver_and_worker_may_be_two_processes_but_not_three(
    tmp_path: Path, ct_folder: Path
) -> None:
    port = free_port()

    def part(name: str, role: str) -> NodeProcess:
        more = f'[worker]\nname = "{name}"\nroles = ["{role}"]'
        return NodeProcess(folder=tmp_path, tps_port=port, name=name, more=more)

    door, worker, second = part("door", "receiver"), part("one", "worker"), part("two", "worker")
    with contextlib.ExitStack() as stack, storescp(tmp_path / "tps", port, "-aet", "TPS") as tps:
        for each in (door, worker):
            each.start()
            stack.callback(lambda each=each: each.alive and each.kill())
        with pytest.raises(AssertionError, match="ENVIRONMENT_NODE_RUNNING"):
            second.start()
        pushed = storescu(door.port, sorted(ct_folder.iterdir()), "-aec", "ORGSEG")
        assert pushed.returncode == 0, pushed.stdout
        worker.job_in(JobState.DONE, seconds=90)
        assert len(list(tps.iterdir())) == 2
        assert worker.stop() == 0
        assert door.stop() == 0


def test_config_check_and_doctor_say_which_database_and_whether_it_answers(
    tmp_path: Path, postgres: Cluster, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text(server.password, encoding="utf-8")
    text = '[receiver]\naccept_any_calling_ae = true\nmin_free_mb = 1\n[database]\npassword_file = "secret"\n'
    file = tmp_path / "node.toml"
    file.write_text(f'{text}url = "{server.url}"\n', encoding="utf-8")
    said = f"PostgreSQL at 127.0.0.1:{postgres.port}"

    with pytest.raises(SystemExit) as done:
        main(["config", "check", str(file)])
    assert done.value.code in (0, None)
    assert said in capsys.readouterr().out

    (safe,) = [check for check in examine(file) if check.name == "database"]
    assert (safe.level, "fsync is off" in safe.message, said in safe.message) == ("error", True, True)
    file.write_text(f'{text}url = "{server.url}_not"\n', encoding="utf-8")
    (gone,) = [check for check in examine(file) if check.name == "database"]
    assert (gone.level, "STORAGE_DATABASE" in gone.message) == ("error", True)
    assert server.password not in safe.message + gone.message
