"""What the registry of models promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orgseg_node.errors import IllegalTransition
from orgseg_node.node.models.shadow_rows import ShadowRuns
from orgseg_node.node.models.version_rows import history, in_state, live_version
from orgseg_node.node.store.audit import Audit
from orgseg_node.node.store.clock import utc_now
from orgseg_node.node.store.model import Instance, JobState, ModelState, NewJob, SeriesState
from tests.support.node.model_bench import FAMILY, ModelBench


@pytest.fixture(params=["sqlite", "postgres"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModelBench]:
    server = request.getfixturevalue("postgres").new_database() if request.param == "postgres" else None
    made = ModelBench(tmp_path, server=server)
    yield made
    made.store.close()


class TestModelRegistry:
    """One class for the seam."""

    def test_a_life_from_candidate_to_retired_and_back(self, bench: ModelBench) -> None:
        bench.make_first_live()
        bench.registry.begin_shadow(FAMILY, bench.installed("2"), "by A")
        assert bench.promote("2", "1").is_live
        assert bench.registry.roll_back(FAMILY, "by A: larynx").live.bundle == f"{FAMILY}@1"
        changes = [e.change for e in history(bench.store.database, FAMILY) if e.change != "signed"]
        assert changes == [
            "-> CANDIDATE", "CANDIDATE -> LIVE", "-> CANDIDATE", "CANDIDATE -> SHADOW",
            "LIVE -> RETIRED", "SHADOW -> LIVE", "LIVE -> RETIRED", "RETIRED -> LIVE",
        ]  # fmt: skip
        audit = Audit(bench.store.database)
        audit.seal()
        assert audit.verify().link >= len(changes)

    def test_a_reader_always_sees_exactly_one_live_version(self, bench: ModelBench) -> None:
        bench.make_first_live()
        seen: list[str] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                live = [v for v in bench.registry.versions(FAMILY) if v.state is ModelState.LIVE]
                seen.append(",".join(one.bundle for one in live))
            bench.store.close()

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(4):
            bench.promote("2", "1")
            bench.registry.roll_back(FAMILY, "by A")
        stop.set()
        reader.join(30)
        assert set(seen) <= {f"{FAMILY}@1", f"{FAMILY}@2"}
        assert seen

    def test_there_is_never_a_second_live_version(self, bench: ModelBench) -> None:
        bench.make_first_live()
        bench.sign(0, bench.proposal("2", bench.gate("2", "1")))
        with pytest.raises(IllegalTransition), bench.store.database.write() as tx:
            tx.run("UPDATE model_version SET state = 'LIVE' WHERE bundle = ?", (f"{FAMILY}@2",))
        assert live_version(bench.store.database, FAMILY).bundle == f"{FAMILY}@1"

    def test_the_shadow_gets_each_scan_of_the_live_version_once(self, bench: ModelBench) -> None:
        bench.make_first_live()
        bench.registry.begin_shadow(FAMILY, bench.installed("2"), "by A")
        database = bench.store.database
        live, shadow = (in_state(database, FAMILY, s) for s in (ModelState.LIVE, ModelState.SHADOW))
        assert live is not None
        assert shadow is not None
        runs = ShadowRuns(database)
        assert runs.next_job(live, shadow, 20) is None
        job_id = _job_done(bench)
        (job,) = bench.store.jobs()
        assert runs.next_job(live, shadow, 20) == job
        assert runs.begin(shadow, job_id)
        runs.take_back(shadow, job_id)
        assert runs.begin(shadow, job_id)
        assert runs.begin(shadow, job_id), "its process died once"
        assert not runs.begin(shadow, job_id), "and again: it is given up"
        assert runs.next_job(live, shadow, 20) is None
        assert [run.is_failed for run in runs.outcomes(shadow)] == [True]


def _job_done(bench: ModelBench) -> str:
    bench.store.accept(
        Instance(
            sop_uid="1.2.3.4", series_uid="1.2.3", sha256="a" * 64, size=10, path="inbox/1.dcm",
            transfer_syntax="1.2.840.10008.1.2.1", calling_ae="CT", received_at=utc_now(),
        )
    )  # fmt: skip
    new = NewJob(
        series_uid="1.2.3", content_sha256="b" * 64, bundles=(f"{FAMILY}@1",), slices=1,
        models=(bench.bundles["1"].sha256,),
    )  # fmt: skip
    assert bench.store.judge(bench.store.one_series("1.2.3"), SeriesState.READY, job=new)
    for state in (JobState.PREPARING, JobState.INFERRING, JobState.WRITING, JobState.CHECKING):
        bench.store.move(new.job_id, state, "")
    bench.store.begin_sending(new.job_id, [])
    return new.job_id
