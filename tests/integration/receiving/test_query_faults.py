"""Sources that misbehave: every status reported, lost associations, and answers nobody asked for."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.events import Event

from orgseg_node.errors import DiskFull
from orgseg_node.node.config.node_config import Source
from orgseg_node.node.dimse.archive_scp import FolderArchive
from orgseg_node.node.dimse.association import FIND, GET, MOVE
from orgseg_node.node.dimse.find_scu import Series
from orgseg_node.node.dimse.retrieve_scu import retrieve_by_get, storage_contexts
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS
from tests.support.peers.dcmtk import free_port

pytestmark = [pytest.mark.endurance, *LEAKS]

STUDY, SERIES = "2.25.100", "2.25.101"
Answers = Callable[[Event], Iterator[Any]]


def _found(event: Event) -> Iterator[tuple[int, Dataset | None]]:
    """One study with one series of 4 images, whatever is asked for."""
    yield 0xFF00, _match(event, "PAT-1")


def _match(event: Event, patient: str, series: str = SERIES, count: int = 4) -> Dataset:
    match = Dataset()
    match.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
    match.StudyInstanceUID = STUDY
    if match.QueryRetrieveLevel == "STUDY":
        match.PatientID, match.PatientName = patient, "Secret^Name"
    else:
        match.SeriesInstanceUID, match.Modality = series, "CT"
        match.NumberOfSeriesRelatedInstances = count
    return match


@contextlib.contextmanager
def _source(find: Answers = _found, get: Answers | None = None, move: Answers | None = None) -> Iterator[int]:
    """A source that answers as the test says; its port."""
    ae = AE(ae_title="PACS")
    handlers: list[Any] = [(evt.EVT_C_FIND, find)]
    ae.add_supported_context(FIND)
    for model, event, answers in ((GET, evt.EVT_C_GET, get), (MOVE, evt.EVT_C_MOVE, move)):
        if answers is not None:
            ae.add_supported_context(model)
            handlers.append((event, answers))
    for kind, syntaxes in storage_contexts():
        ae.add_supported_context(kind, syntaxes, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


def _config(folder: Path, port: int, timeout_s: float = 5) -> Path:
    path = folder / "node.toml"
    path.write_text(
        '[[peers]]\nae_title = "PACS"\n[node]\nport = 0\n[sources.pacs]\nae_title = "PACS"\n'
        f'host = "127.0.0.1"\nport = {port}\ntimeout_s = {timeout_s}\n'
    )
    return path


@pytest.fixture
def images(ct_folder: Path) -> list[Dataset]:
    """Four images of the series that is found."""
    found = []
    for path in sorted(ct_folder.iterdir())[:4]:
        image = dcmread(path)
        image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, SERIES
        found.append(image)
    return found


def _sending(images: Sequence[Dataset], *, end: int | None = None) -> Answers:
    """A C-GET that sends images, and then breaks off or ends with a status."""

    def answers(event: Event) -> Iterator[Any]:
        yield len(images) + (end is not None)
        for image in images:
            yield 0xFF00, image
        if end is None:
            return
        failed = Dataset()
        failed.FailedSOPInstanceUIDList = []
        yield end, failed

    return answers


# ---------------------------------------------------------------------- statuses


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (0xA700, "0xA700, it has too few resources"),
        (0xA900, "0xA900, it does not understand the keys"),
        (0xC001, "0xC001, it cannot process the request"),
        (0xFE00, "0xFE00, it was cancelled"),
        (0x0122, "0x0122, it does not support"),
        (0x0124, "0x0124, this node is not authorized"),
    ],
)
def test_a_refused_query_is_told_with_its_status_also_after_answers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, status: int, sentence: str
) -> None:
    def find(event: Event) -> Iterator[Any]:
        yield 0xFF01, _match(event, "PAT-1")
        yield status, None

    with _source(find) as port:
        answer = orgseg(capsys, "query", "pacs", "--config", _config(tmp_path, port))
    assert (answer.status, answer.code) == (1, "NETWORK_QUERY_REFUSED")
    assert sentence in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("status", [0xA701, 0xA702, 0xA900, 0xC002, 0xFE00])
def test_a_refused_retrieval_is_told_with_its_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, status: int
) -> None:
    with _source(get=_sending([], end=status)) as port:
        answer = orgseg(
            capsys,
            *("pull", "pacs", "--study", STUDY, "--out", tmp_path / "out"),
            *("--config", _config(tmp_path, port)),
        )
    # pynetdicom counts a failure as one image that was not sent, but not a cancellation
    code, text = "NETWORK_PULL_INCOMPLETE", f"Received 0 images, missing 4: 0x{status:04X}, it "
    if status == 0xFE00:
        code, text = "NETWORK_QUERY_REFUSED", "answered 0xFE00, it was cancelled"
    assert (answer.status, answer.code) == (1, code)
    assert text in answer.err


@pytest.mark.parametrize("status", [0xA702, 0xC002, 0xFE00])
def test_a_retrieval_that_ends_early_keeps_what_came_and_tells_the_rest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, images: list[Dataset], status: int
) -> None:
    out = tmp_path / "out"
    with _source(get=_sending(images[:3], end=status)) as port:
        answer = orgseg(
            capsys, "pull", "pacs", "--study", STUDY, "--out", out, "--config", _config(tmp_path, port)
        )
    assert (answer.status, answer.code) == (1, "NETWORK_PULL_INCOMPLETE")
    assert "Received 3 images, missing 1" in answer.err or "Received 3 images, missing 2" in answer.err
    assert f"0x{status:04X}" in answer.err
    assert {path.stem for path in out.iterdir()} == {str(image.SOPInstanceUID) for image in images[:3]}


def test_fewer_images_than_the_source_has_are_told_though_it_calls_it_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, images: list[Dataset]
) -> None:
    with _source(get=_sending(images[:3], end=0x0000)) as port:
        answer = orgseg(
            capsys,
            *("pull", "pacs", "--study", STUDY, "--out", tmp_path / "out"),
            *("--config", _config(tmp_path, port)),
        )
    assert (answer.status, answer.code) == (1, "NETWORK_PULL_INCOMPLETE")
    assert "Received 3 images, missing 1: the source reported success" in answer.err


def test_a_source_without_retrieval_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with _source() as port:
        config = _config(tmp_path, port)
        asked = ("pull", "pacs", "--study", STUDY, "--config", config)
        for more in ((), ("--out", tmp_path / "out")):
            answer = orgseg(capsys, *asked, *more)
            assert (answer.status, answer.code) == (1, "NETWORK_QUERY_REFUSED")
            assert "does not offer" in answer.err


# ---------------------------------------------------------------------- what was not asked for


def test_a_source_that_ignores_the_patient_is_not_pulled_from(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, images: list[Dataset]
) -> None:
    with _source(get=_sending(images, end=0x0000)) as port:
        wanted = ("pull", "pacs", "--out", tmp_path / "out", "--config", _config(tmp_path, port))
        answer = orgseg(capsys, *wanted, "--patient", "PAT-2")
        assert (answer.status, answer.code) == (1, "NETWORK_PULL_TOO_WIDE")
        assert not (tmp_path / "out").exists()
        assert orgseg(capsys, *wanted, "--patient", "PAT-1").status == 0


def test_an_image_of_another_series_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, images: list[Dataset]
) -> None:
    images[1].SeriesInstanceUID = "2.25.999"
    out = tmp_path / "out"
    with _source(get=_sending(images, end=0x0000)) as port:
        answer = orgseg(
            capsys, "pull", "pacs", "--study", STUDY, "--out", out, "--config", _config(tmp_path, port)
        )
    assert (answer.status, answer.code) == (1, "NETWORK_PULL_INCOMPLETE")
    assert "Received 3 images, missing 1" in answer.err
    assert str(images[1].SOPInstanceUID) not in {path.stem for path in out.iterdir()}


def test_more_answers_than_wanted_are_cancelled_at_the_source(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cancelled = []

    def find(event: Event) -> Iterator[Any]:
        for number in range(20_000):
            if event.is_cancelled:
                cancelled.append(number)
                yield 0xFE00, None
                return
            yield 0xFF00, _match(event, "PAT-1")
            time.sleep(0.01)  # an archive that looks for it needs time to hear that it shall stop

    with _source(find) as port:
        answer = orgseg(capsys, "query", "pacs", "--limit", "3", "--config", _config(tmp_path, port))
    assert (answer.status, answer.code) == (0, "")
    assert answer.out.count("study ") == 3
    assert len(cancelled) == 1
    assert "more than 3" in answer.err


def test_a_source_that_does_not_stop_is_hung_up_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sent = 0

    def find(event: Event) -> Iterator[Any]:
        nonlocal sent
        for _ in range(20_000):
            sent += 1
            yield 0xFF00, _match(event, "PAT-1")

    with _source(find) as port:
        answer = orgseg(capsys, "query", "pacs", "--limit", "3", "--config", _config(tmp_path, port))
    assert answer.status == 0
    assert answer.out.count("study ") == 3
    assert sent < 20_000


def test_what_a_source_writes_cannot_move_the_cursor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def find(event: Event) -> Iterator[Any]:
        match = _match(event, "PAT\x1b[2J[red]")
        match.NumberOfStudyRelatedInstances = None
        match.StudyDescription = "two\x07lines [bold]"
        yield 0xFF00, match

    with _source(find) as port:
        answer = orgseg(capsys, "query", "pacs", "--config", _config(tmp_path, port))
    assert "PAT?[2J[red]" in answer.out
    assert "two?lines [bold]" in answer.out


# ---------------------------------------------------------------------- lost connections and disks


def test_an_association_lost_in_the_middle_keeps_what_came_and_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, images: list[Dataset]
) -> None:
    out = tmp_path / "out"

    def get(event: Event) -> Iterator[Any]:
        yield 4
        yield 0xFF00, images[0]
        yield 0xFF00, images[1]
        event.assoc.abort()

    with _source(get=get) as port:
        answer = orgseg(
            capsys, "pull", "pacs", "--study", STUDY, "--out", out, "--config", _config(tmp_path, port)
        )
    assert (answer.status, answer.code) == (1, "NETWORK_UNREACHABLE")
    assert "after 2 images" in answer.err
    assert f"The images received so far are in {out}" in answer.err
    kept = {path.stem: dcmread(path).PixelData for path in out.iterdir()}
    assert kept == {str(image.SOPInstanceUID): image.PixelData for image in images[:2]}


def test_a_query_lost_in_the_middle_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def find(event: Event) -> Iterator[Any]:
        yield 0xFF00, _match(event, "PAT-1")
        event.assoc.abort()

    with _source(find) as port:
        answer = orgseg(capsys, "query", "pacs", "--config", _config(tmp_path, port))
    assert (answer.status, answer.code, answer.out) == (1, "NETWORK_UNREACHABLE", "")


def test_nobody_there_and_somebody_silent_are_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ("query", "pacs", "--patient", "PAT-1", "--config")
    nobody = orgseg(capsys, *asked, _config(tmp_path, free_port()))
    assert (nobody.status, nobody.code) == (1, "NETWORK_UNREACHABLE")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = orgseg(capsys, *asked, _config(tmp_path, silent.getsockname()[1], timeout_s=0.5))
    assert (answer.status, answer.code) == (1, "NETWORK_UNREACHABLE")


class _Full:
    """An intake with room for two images."""

    def __init__(self, archive: FolderArchive) -> None:
        self._archive = archive
        self.receiving_folder = archive.receiving_folder
        self._room = 2

    def accept(self, incoming: Any) -> object:
        if not self._room:
            raise DiskFull("0 MB are free.")
        self._room -= 1
        return self._archive.accept(incoming)

    def association_ended(self, association: int, *, released: bool = False, cause: str = "") -> None:
        pass


def test_a_full_disk_is_told_as_such_and_the_source_is_told_too(
    tmp_path: Path, images: list[Dataset]
) -> None:
    progress: list[int] = []
    series = Series(study_uid=STUDY, series_uid=SERIES, modality="CT", number="", description="", instances=4)
    with _source(get=_sending(images, end=0x0000)) as port:
        source = Source(ae_title="PACS", host="127.0.0.1", port=port)
        with pytest.raises(DiskFull):
            retrieve_by_get(
                source,
                "ORGSEG",
                [series],
                _Full(FolderArchive(tmp_path / "out")),
                lambda done, _: progress.append(done),
            )
    assert progress == [1, 2]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_what_is_fetched_cannot_be_handed_on_to_a_node_without_a_port(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with _source(get=_sending([], end=0x0000)) as port:
        config = _config(tmp_path, port)
        config.write_text(config.read_text() + 'method = "get"\n')
        answer = orgseg(capsys, "pull", "pacs", "--study", STUDY, "--config", config)
    assert (answer.status, answer.code) == (3, "CONFIG")
    assert "node.port is 0" in answer.err


def test_an_unknown_source_is_told_with_the_near_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answer = orgseg(capsys, "query", "pcas", "--config", _config(tmp_path, 104))
    assert (answer.status, answer.code) == (1, "NETWORK_UNKNOWN_SOURCE")
    assert "did you mean 'pacs'" in answer.err
