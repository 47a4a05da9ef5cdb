"""Is a series whole? Real archives are asked, and bring what is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest

from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.dimse.storage_scp import Receiver
from orgseg_node.node.intake.completeness import CompletenessChecker
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.store.model import JobState, Series, SeriesState
from orgseg_node.node.store.series_overrides import SeriesOverrides
from orgseg_node.node.store.source_answers import Answer, Answers, Completeness
from orgseg_node.node.store.store import Store
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import running_node, wait_for
from tests.support.peers import dcmqrscp as qr
from tests.support.peers import orthanc as archive
from tests.support.peers.dcmtk import free_port, storescp, storescu
from tests.support.peers.pacs import introduce

pytestmark = [pytest.mark.endurance, pytest.mark.peer, *LEAKS]

TO_NODE = ("-aec", "ORGSEG", "-aet", "SCANNER")
SLICES = 8
SMALL = PhantomOptions(slices=SLICES, rows=32, columns=32)


@dataclass(kw_only=True)
class Bench:
    """A node's receiving half, with an archive that it asks."""

    inbox: Inbox
    store: Store
    checker: CompletenessChecker
    port: int
    overrides: SeriesOverrides

    def series(self) -> Series:
        (series,) = self.store.series()
        return series

    def known(self) -> Completeness:
        known = Answers(self.store.database).of(self.series())
        assert known is not None
        return known

    def push(self, files: list[Path]) -> None:
        assert storescu(self.port, files, *TO_NODE).returncode == 0

    def look(self) -> None:
        """Ask and judge, as the clock does."""
        self.checker.check("pacs")
        self.inbox.judge_stable_series()

    def until(self, state: SeriesState) -> Series:
        def judged() -> bool:
            self.look()
            return self.series().state is state

        wait_for(judged, 60, f"the series is {state}")
        return self.series()


Start = Callable[..., Bench]


def _orthanc(folder: Path, files: list[Path], node_port: int) -> Any:
    @contextlib.contextmanager
    def run() -> Iterator[tuple[str, int]]:
        with archive.orthanc(folder) as running:
            for path in files:
                running.upload(path.read_bytes())
            introduce(running, "ORGSEG", node_port)
            yield archive.AE_TITLE, running.dicom_port

    return run()


def _dcmqrscp(folder: Path, files: list[Path], node_port: int) -> Any:
    @contextlib.contextmanager
    def run() -> Iterator[tuple[str, int]]:
        with qr.dcmqrscp(folder, files, {"ORGSEG": node_port}) as port:
            yield qr.AE_TITLE, port

    return run()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def make(kind: Any, held: list[Path], method: str = "move", **section: Any) -> Bench:
            port = free_port()
            title, source_port = ("NOBODY", free_port())
            if kind is not None:
                title, source_port = stack.enter_context(kind(tmp_path / "archive", held, port))
            config = NodeConfig.model_validate(
                {
                    "node": {"host": "127.0.0.1", "port": port, "data_dir": tmp_path / "data"},
                    "receiver": {"quiet_seconds": 0.3, "min_free_mb": 1},
                    "peers": [{"ae_title": "SCANNER", "source": "pacs"}, {"ae_title": title}],
                    "sources": {
                        "pacs": {
                            "ae_title": title, "host": "127.0.0.1", "port": source_port, "method": method,
                            "timeout_s": 10, "calling_ae_title": "ORGSEG",
                        }
                    },
                    "completeness": {"expect": "ask", "fetch_wait_s": 0.3, "fetches": 2} | section,
                }
            )  # fmt: skip
            store = Store(config.node.data_dir)
            inbox = Inbox(config, store)
            receiver = Receiver(config, inbox)
            receiver.start()
            stack.callback(receiver.stop)
            checker = CompletenessChecker(config, store, inbox)
            overrides = SeriesOverrides(store.database)
            return Bench(inbox=inbox, store=store, checker=checker, port=port, overrides=overrides)

        yield make


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return build_ct_series(tmp_path / "ct", SMALL)


@pytest.mark.parametrize("method", ["move", "get"])
@pytest.mark.parametrize("kind", [_dcmqrscp, _orthanc], ids=["dcmqrscp", "orthanc"])
def test_the_missing_half_is_brought_from_the_source(
    start: Start, files: list[Path], kind: Any, method: str
) -> None:
    bench = start(kind, files, method)
    bench.push(files[: SLICES // 2])
    series = bench.until(SeriesState.READY)
    assert series.instances == SLICES
    assert "all are here" in series.note
    assert (bench.known().answer, bench.known().fetches) == (Answer.COMPLETE, 1)
    (job,) = bench.store.jobs()
    assert (job.slices, job.remark) == (SLICES, "")
    conflicts = [len(bench.store.copies(i.sop_uid)) for i in bench.store.instances_of(series.series_uid)]
    assert set(conflicts) == {1}, "what was here already was not brought again"


def test_a_series_that_stays_incomplete_is_held_with_both_numbers_and_can_be_forced(
    start: Start, files: list[Path], tmp_path: Path
) -> None:
    def closed(folder: Path, held: list[Path], port: int) -> Any:
        return _dcmqrscp(folder, held, free_port())  # it knows another address: what it sends never comes

    bench = start(closed, files)
    bench.push(files[:5])
    series = bench.until(SeriesState.HOLD)
    assert series.reason == "INCOMPLETE"
    assert "5 of 8 images are here" in series.note
    assert bench.known().fetches == 2
    bench.overrides.force(series.series_uid, "by anna")
    bench.until(SeriesState.READY)
    (job,) = bench.store.jobs()
    assert job.remark == "INCOMPLETE: Contoured by a user's decision with 5 of 8 images that the source has."


def test_a_series_on_hold_that_gets_its_images_after_all_is_asked_for_anew(
    start: Start, files: list[Path]
) -> None:
    bench = start(lambda folder, held, _: _dcmqrscp(folder, held, free_port()), files, fetches=0)
    bench.push(files[:5])
    assert bench.until(SeriesState.HOLD).reason == "INCOMPLETE"
    bench.push(files[5:])
    assert bench.until(SeriesState.READY).revision == 2


def test_a_source_that_does_not_answer_is_not_waited_for_for_ever(start: Start, files: list[Path]) -> None:
    bench = start(None, [], answer_within_s=1)
    bench.push(files)
    series = bench.until(SeriesState.READY)
    assert "does not answer (NETWORK_UNREACHABLE); geometry alone decided" in series.note


def test_a_source_that_has_nothing_of_it_leaves_it_to_geometry(
    start: Start, files: list[Path], tmp_path: Path
) -> None:
    others = build_ct_series(
        tmp_path / "other", PhantomOptions(slices=3, rows=32, columns=32, study="other", series="other")
    )
    bench = start(_dcmqrscp, others, answer_within_s=0.5)
    bench.push(files)
    assert "has nothing of it; geometry alone decided" in bench.until(SeriesState.READY).note


def test_a_sender_without_a_source_is_asked_about_nowhere(start: Start, files: list[Path]) -> None:
    bench = start(None, [])
    assert storescu(bench.port, files, "-aec", "ORGSEG", "-aet", "NOBODY").returncode == 0
    wait_for(bench.inbox.judge_stable_series, 30, "it is judged")
    assert bench.series().state is SeriesState.READY


def test_a_whole_node_completes_a_series_by_itself_and_delivers_it(
    tmp_path: Path, ct_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(ct_folder.iterdir())
    port = free_port()
    with (
        archive.orthanc(tmp_path / "archive") as pacs,
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
    ):
        for path in files:
            pacs.upload(path.read_bytes())
        introduce(pacs, "ORGSEG", free_port())
        more = f"""
[[peers]]
ae_title = "SCANNER"
source = "pacs"
[sources.pacs]
ae_title = "{archive.AE_TITLE}"
host = "127.0.0.1"
port = {pacs.dicom_port}
method = "get"
"""
        (tmp_path / "node").mkdir()
        with running_node(tmp_path / "node", port, inference=more, completeness='expect = "ask"') as node:
            assert storescu(node.port, files[::2], *TO_NODE).returncode == 0
            job = node.job_in(JobState.DONE, seconds=60)
            uid = str(pydicom.dcmread(files[0]).SeriesInstanceUID)
            shown = orgseg(capsys, "series", "show", uid, "--config", node.folder / "node.toml")
            assert node.stop() == 0
        assert job.slices == len(files)
        assert "source: COMPLETE" in shown.out
        assert len(list(tps.iterdir())) == 2
