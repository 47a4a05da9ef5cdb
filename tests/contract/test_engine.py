"""What the durable engine promises, proven on SQLite and on PostgreSQL, with processes that are killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from orgseg_node.errors import DatabaseUnreachable
from orgseg_node.node.config.database import Server
from orgseg_node.node.processing.engine import USUAL_PRIORITY, Engine, WorkflowState
from tests.support.node.engine_program import EngineProcess, engine_process
from tests.support.node.memory_engine import MemoryEngine
from tests.support.node.node_process import wait_for
from tests.support.peers.dcmtk import free_port
from tests.support.peers.postgres import PASSWORD, Cluster

Start = Callable[..., contextlib.AbstractContextManager[EngineProcess]]
LONG_S = 60.0


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Server:
    if request.param == "sqlite":
        return tmp_path / "db"
    server: Server = request.getfixturevalue("postgres").new_database()
    return server


def lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines()


def until(log: Path, line: str) -> None:
    wait_for(lambda: line in lines(log), 60, line)


class TestEngine:
    """One class for the seam."""

    def test_submitted_twice_is_run_once(self, place: Path | Server, log: Path) -> None:
        with engine_process(place, log) as engine:
            for _ in range(3):
                engine.submit("w")
            until(log, "a end w")
            wait_for(lambda: engine.ask("state", "w") == WorkflowState.FINISHED, 30, "it is over")
            engine.submit("w")
            engine.submit("later")
            until(log, "a end later")
            assert engine.ask("state", "nobody") == WorkflowState.ABSENT
        assert [line for line in lines(log) if line.endswith(" w")] == ["a first w", "a second w", "a end w"]

    def test_a_step_that_finished_is_not_repeated_after_a_kill(self, place: Path | Server, log: Path) -> None:
        with engine_process(place, log) as engine:
            engine.submit("w", 2.0)
            engine.submit("waiting")
            until(log, "a second w")
            engine.kill()
        with engine_process(place, log) as engine:
            until(log, "a end w")
            until(log, "a end waiting")
        assert lines(log).count("a first w") == 1
        assert lines(log).count("a second w") == 2

    def test_the_smallest_number_runs_first_and_equals_in_their_order(
        self, place: Path | Server, log: Path
    ) -> None:
        with engine_process(place, log) as engine:
            engine.submit("running", 2.0)
            until(log, "a second running")
            for name, priority in (("late", 3), ("first", 1), ("usual", USUAL_PRIORITY), ("second", 1)):
                engine.submit(name, 0.0, priority)
            until(log, "a end usual")
        ends = [line.split()[2] for line in lines(log) if line.split()[1] == "end"]
        assert ends == ["running", "first", "second", "late", "usual"]

    def test_what_is_cancelled_does_not_begin(self, place: Path | Server, log: Path) -> None:
        with engine_process(place, log) as engine:
            engine.submit("running", 1.5)
            until(log, "a second running")
            engine.submit("unwanted")
            engine.ask("cancel", "unwanted")
            engine.ask("cancel", "nobody")
            engine.submit("last")
            until(log, "a end last")
            assert engine.ask("state", "unwanted") == WorkflowState.FINISHED
        assert "a first unwanted" not in lines(log)

    def test_a_workflow_that_kills_its_process_is_given_up(self, place: Path | Server, log: Path) -> None:
        for start in range(1, 6):
            with engine_process(place, log) as engine:
                if start == 1:
                    engine.submit("poison", -1.0)
                if start == 5:
                    wait_for(lambda: engine.ask("state", "poison") == WorkflowState.GIVEN_UP, 30, "given up")
                    engine.submit("next")
                    until(log, "a end next")
                    break
                assert engine.process.wait(60) == 1
        assert lines(log).count("a second poison") == 4

    def test_workflows_of_another_version_are_listed_and_can_be_submitted_again(
        self, place: Path | Server, log: Path
    ) -> None:
        with engine_process(place, log, version="old") as engine:
            engine.submit("running", LONG_S)
            engine.submit("waiting")
            until(log, "a second running")
            engine.kill()
        with engine_process(place, log, version="new") as engine:
            assert engine.ask("state", "running") == WorkflowState.ACTIVE
            assert engine.ask("drop") == ["running", "waiting"]
            assert engine.ask("state", "running") == WorkflowState.ABSENT
            engine.submit("running")
            until(log, "a end running")
            assert engine.ask("drop") == ["running", "waiting"]
        assert lines(log).count("a first running") == 2


class TestOneWorker:
    """On SQLite there is one process, whatever it is called: a container has another host name each time."""

    def test_what_a_process_of_another_name_left_is_adopted_at_the_start(
        self, tmp_path: Path, log: Path
    ) -> None:
        with engine_process(tmp_path / "db", log, worker="container-1") as engine:
            engine.submit("w", 2.0)
            engine.submit("waiting")
            until(log, "container-1 second w")
            engine.kill()
        with engine_process(tmp_path / "db", log, worker="container-2"):
            until(log, "container-2 end w")
            until(log, "container-2 end waiting")
        assert len([line for line in lines(log) if line.endswith("first w")]) == 1

    def test_a_workflow_that_kills_its_process_is_given_up_under_any_name(
        self, tmp_path: Path, log: Path
    ) -> None:
        for start in range(1, 6):
            with engine_process(tmp_path / "db", log, worker=f"container-{start}") as engine:
                if start == 1:
                    engine.submit("poison", -1.0)
                if start == 5:
                    wait_for(lambda: engine.ask("state", "poison") == WorkflowState.GIVEN_UP, 30, "given up")
                    break
                assert engine.process.wait(60) == 1
        assert len([line for line in lines(log) if line.endswith("second poison")]) == 4

    def test_workflows_of_another_version_and_name_are_dropped(self, tmp_path: Path, log: Path) -> None:
        with engine_process(tmp_path / "db", log, worker="container-1", version="old") as engine:
            engine.submit("running", LONG_S)
            until(log, "container-1 second running")
            engine.kill()
        with engine_process(tmp_path / "db", log, worker="container-2", version="new") as engine:
            assert engine.ask("drop") == ["running"]


class TestSeveralWorkers:
    """What PostgreSQL is there for."""

    @pytest.fixture
    def server(self, postgres: Cluster) -> Server:
        return postgres.new_database()

    def test_a_dead_worker_is_adopted_once_and_its_finished_steps_are_kept(
        self, server: Server, log: Path
    ) -> None:
        with engine_process(server, log) as first:
            first.submit("w", 2.0)
            until(log, "a second w")
            first.kill()
        with engine_process(server, log, worker="b") as second, engine_process(server, log, worker="c"):
            assert second.ask("state", "w") == WorkflowState.ACTIVE
            assert second.ask("adopt", "nobody") == []
            assert second.ask("adopt", "a") == ["w"]
            assert second.ask("adopt", "a") == []
            wait_for(lambda: second.ask("state", "w") == WorkflowState.FINISHED, 60, "it is over")
        assert [line.split()[1] for line in lines(log)] == ["first", "second", "second", "end"]

    def test_crashes_are_counted_across_workers(self, server: Server, log: Path) -> None:
        names = "abcd"
        for index, name in enumerate(names):
            with engine_process(server, log, worker=name) as engine:
                if index == 0:
                    engine.submit("poison", -1.0)
                else:
                    # it may die before it answers
                    with contextlib.suppress(ValueError, BrokenPipeError):
                        engine.ask("adopt", names[index - 1])
                assert engine.process.wait(60) == 1
        with engine_process(server, log, worker="e") as engine:
            assert engine.ask("adopt", "d") == []
            assert engine.ask("state", "poison") == WorkflowState.GIVEN_UP
        assert len([line for line in lines(log) if line.endswith("second poison")]) == 4

    def test_two_workers_share_a_queue_and_nothing_is_run_twice(self, server: Server, log: Path) -> None:
        names = [f"w{n}" for n in range(20)]
        with engine_process(server, log) as one, engine_process(server, log, worker="b") as two:
            for name in names:
                one.submit(name, 0.05)
                two.submit(name, 0.05)
            for name in names:
                wait_for(lambda: one.ask("state", name) == WorkflowState.FINISHED, 60, "all are over")  # noqa: B023
        ends = [line.split()[2] for line in lines(log) if line.split()[1] == "end"]
        assert sorted(ends) == sorted(names)
        assert {line.split()[0] for line in lines(log)} == {"a", "b"}


def test_a_database_that_is_away_at_the_start_is_a_coded_error() -> None:
    nowhere = Server(url=f"postgresql://orgseg@127.0.0.1:{free_port()}/orgseg", password=PASSWORD)
    engine = Engine(nowhere, {}, ())
    try:
        with pytest.raises(DatabaseUnreachable, match="The workflow engine") as raised:
            engine.start()
    finally:
        engine.stop()
    assert PASSWORD not in str(raised.value)


def test_the_memory_engine_has_the_states_of_the_real_one() -> None:
    engine = MemoryEngine()
    assert engine.state("w") is WorkflowState.ABSENT
    engine.submit("queue", "work", "w", "x", priority=3)
    assert engine.state("w") is WorkflowState.ACTIVE
    engine.cancel("w")
    assert engine.state("w") is WorkflowState.FINISHED
