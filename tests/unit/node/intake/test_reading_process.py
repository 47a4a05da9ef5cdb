"""Received files are read in a child process: whatever is in them, the node goes on."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from orgseg_node.dicom.reading import part10
from orgseg_node.dicom.reading.files import open_header
from orgseg_node.dicom.reading.same_image import Difference
from orgseg_node.dicom.reading.series import survey
from orgseg_node.errors import SeriesUnexpected, SurveyDied
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.intake.file_reader import DirectReader, SurveyedSeries
from orgseg_node.node.intake.inbox import Inbox
from orgseg_node.node.intake.reading_process import ReadingProcess
from orgseg_node.node.store.model import Incoming, SeriesState
from orgseg_node.node.store.store import Store
from tests.support.ct.phantom import PhantomOptions, build_ct_series

CHILD = """
import sys, time
from orgseg_node.node.intake import file_reader, reading_process
def survey(self, paths):
    {act}
file_reader.DirectReader.survey = survey
file_reader.DirectReader.differences = survey
sys.exit(reading_process.main(sys.argv[1:]))
"""


def reader_that(act: str, *, memory_mb: int = 1000, limit_s: float = 60.0) -> ReadingProcess:
    command = (sys.executable, "-c", CHILD.format(act=act))
    return ReadingProcess(memory_mb=memory_mb, limit_s=limit_s, command=command)


@pytest.fixture(scope="module")
def reader() -> Iterator[ReadingProcess]:
    reading = ReadingProcess(memory_mb=1000, limit_s=60.0)
    reading.prepare()
    yield reading
    reading.stop()


def test_the_child_reads_what_this_process_would(reader: ReadingProcess, ct_folder: Path) -> None:
    paths = sorted(ct_folder.iterdir())
    found, direct = reader.survey(paths), DirectReader().survey(paths)
    (one,) = found.inventory.accepted
    (plain,) = survey(paths).accepted
    assert one.known_sha256 == plain.content_sha256
    assert one.slices == plain.slices
    assert found.header == direct.header
    assert found.header.PatientName == plain.header.PatientName
    assert reader.differences(paths[0], paths[0]) == ()
    assert Difference.UIDS in reader.differences(paths[0], paths[1])


def test_files_that_cannot_be_used_come_back_with_their_code(reader: ReadingProcess, tmp_path: Path) -> None:
    odd = tmp_path / "odd.dcm"
    odd.write_bytes(bytes(200))
    (refused,) = reader.survey([odd, tmp_path / "absent.dcm"]).inventory.refused[:1]
    assert refused.error.code.startswith("INPUT")


ITEMS = (b"\xfe\xff\x00\xe0" + bytes(4)) * 60_000


@pytest.mark.parametrize("kind", ["undefined length", "defined length", "deflated"])
def test_a_header_with_very_many_items_is_refused_before_they_are_built(
    tmp_path: Path, ct_folder: Path, kind: str
) -> None:
    path = tmp_path / "bomb.dcm"
    dataset = pydicom.dcmread(min(ct_folder.iterdir()))
    del dataset.PixelData
    if kind == "deflated":
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    start = part10.open_part10(path)[0].start
    content = path.read_bytes()
    plain = zlib.decompress(content[start:], -zlib.MAX_WBITS) if kind == "deflated" else content[start:]
    length = b"\xff" * 4 if kind != "defined length" else len(ITEMS).to_bytes(4, "little")
    plain += b"\x40\0\x75\x02SQ\0\0" + length + ITEMS
    plain += b"\xfe\xff\xdd\xe0" + bytes(4) if kind != "defined length" else b""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = packer.compress(plain) + packer.flush() if kind == "deflated" else plain
    path.write_bytes(content[:start] + body)
    (refused,) = survey([path]).refused
    assert refused.error.code == "INPUT_TOO_MANY_ITEMS"


def test_a_value_of_very_many_numbers_is_left_out(tmp_path: Path, ct_folder: Path) -> None:
    path = tmp_path / "numbers.dcm"
    dataset = pydicom.dcmread(min(ct_folder.iterdir()))
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.add(DataElement(0x00189306, "DS", "1\\" * 50_000 + "1"))
    dataset.save_as(path, enforce_file_format=True, implicit_vr=True)
    assert 0x00189306 not in open_header(path)[0]
    assert open_header(path)[0].SeriesInstanceUID == dataset.SeriesInstanceUID


@pytest.mark.parametrize(
    ("act", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("held = bytearray(400_000_000); time.sleep(60)", "memory"),
        ("time.sleep(60)", "took more"),
    ],
)
def test_a_child_that_ends_is_an_error_of_the_series_and_the_next_one_is_read(
    act: str, why: str, ct_folder: Path
) -> None:
    once = f"if len(paths) == 1: {act}\n    return file_reader._survey(paths)"
    reading = reader_that(once, memory_mb=300, limit_s=0.4 if why == "took more" else 60.0)
    try:
        paths = sorted(ct_folder.iterdir())[:2]
        with pytest.raises(SurveyDied, match=why):
            reading.survey(paths[:1])
        if why == "signal 11":
            assert reading.survey(paths).inventory is not None
    finally:
        reading.stop()


def test_an_unknown_failure_has_its_place_and_no_text(reader: ReadingProcess) -> None:
    with pytest.raises(SeriesUnexpected) as found:
        reader.survey([0])  # type: ignore[list-item]
    assert found.value.detail.startswith("AttributeError at orgseg_node.")


def test_a_child_killed_while_it_waits_is_replaced_without_blame(
    reader: ReadingProcess, ct_folder: Path
) -> None:
    paths = sorted(ct_folder.iterdir())[:1]
    reader.survey(paths)
    before = [one for one in psutil.Process().children() if "reading_process" in " ".join(one.cmdline())]
    for child in before:
        child.kill()
        child.wait(10)
    assert before
    assert reader.survey(paths).inventory is not None


def test_images_over_which_the_child_ends_count_as_different(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import os; os._exit(1)")
    reading = ReadingProcess(memory_mb=1000, limit_s=60, command=command)
    assert reading.differences(tmp_path / "a", tmp_path / "b") == (Difference.UNREADABLE,)


class _EndsOver(DirectReader):
    """A reader that ends over the first series."""

    def __init__(self, uids: list[str]) -> None:
        self._uids = uids

    def survey(self, paths: Sequence[Path]) -> SurveyedSeries:
        if self._uids[0] in str(paths[0]):
            raise SurveyDied("It used more than 1000 MB of memory.")
        return super().survey(paths)


def test_a_series_that_ends_the_child_is_held_and_the_one_behind_it_judged(
    tmp_path: Path, ct_folder: Path
) -> None:
    now = [datetime.now(UTC)]
    config = NodeConfig.model_validate(
        {
            "node": {"data_dir": tmp_path / "node"},
            "receiver": {"accept_any_calling_ae": True, "min_free_mb": 0, "quiet_seconds": 5},
        }
    )
    store = Store(tmp_path / "node")

    uids: list[str] = []
    inbox = Inbox(config, store, clock=lambda: now[0], reader=_EndsOver(uids))
    other = build_ct_series(tmp_path / "other", PhantomOptions(slices=3, rows=16, columns=16, series="bad"))[
        0
    ].parent
    for folder in (other, ct_folder):
        for path in sorted(folder.iterdir())[:3]:
            encoded, syntax = part10.split_part10(path.read_bytes())
            header = part10.read_header(encoded, syntax)
            inbox.accept(
                Incoming(
                    sop_class_uid=header.sop_class_uid, sop_uid=header.sop_uid, transfer_syntax=syntax,
                    calling_ae="CT", association=1, encoded=encoded,
                )
            )  # fmt: skip
        uids.append(header.series_uid)
    bad, good = uids
    assert bad != good
    inbox.association_ended(1, released=True)
    for _ in range(10):
        now[0] += timedelta(seconds=30)
        inbox.judge_stable_series()
    assert store.one_series(good).state is not SeriesState.RECEIVING
    held = store.one_series(bad)
    assert (held.state, held.reason) == (SeriesState.HOLD, "SERIES_SURVEY_DIED")
    assert "1000 MB" in held.note
