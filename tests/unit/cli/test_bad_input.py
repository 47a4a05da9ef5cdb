"""Bad input at the command line: each kind gives its code, a next step and exit code 1."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit, MRImageStorage

from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.command_line import orgseg

SMALL = PhantomOptions(slices=6, rows=32, columns=32, pixel_spacing_mm=(8.0, 8.0))


def spoilt(change: Callable[[int, Dataset], object]) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        build_ct_series(folder, SMALL, change)

    return build


def setting(**attributes: object) -> Callable[[Path], None]:
    def change(k: int, dataset: Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    return spoilt(change)


def not_dicom(folder: Path) -> None:
    folder.mkdir()
    (folder / "letter.txt").write_text("Dear colleague, " * 40)


def empty(folder: Path) -> None:
    folder.mkdir()


def truncated(folder: Path) -> None:
    path = build_ct_series(folder, SMALL)[2]
    path.write_bytes(path.read_bytes()[:-500])


def without_pixels(k: int, dataset: Dataset) -> None:
    del dataset.PixelData


def two_patients(folder: Path) -> None:
    build_ct_series(folder / "one", SMALL)
    other = PhantomOptions(
        slices=6, rows=32, columns=32, pixel_spacing_mm=(8.0, 8.0), study="other", patient_id="PHANTOM-2"
    )
    build_ct_series(folder / "two", other)


def two_series(folder: Path) -> None:
    build_ct_series(folder / "one", SMALL)
    other = PhantomOptions(slices=6, rows=32, columns=32, pixel_spacing_mm=(8.0, 8.0), series="other")
    build_ct_series(folder / "two", other)


def two_slices(folder: Path) -> None:
    build_ct_series(folder, PhantomOptions(slices=2))


def far_apart(k: int, dataset: Dataset) -> None:
    if k >= 3:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 60]


def duplicated(k: int, dataset: Dataset) -> None:
    if k == 3:
        dataset.ImagePositionPatient = [
            *dataset.ImagePositionPatient[:2],
            dataset.ImagePositionPatient[2] - 3,
        ]


def lossy_syntax(folder: Path) -> None:
    """A file whose meta information names a lossy syntax, as a JPEG archive would send it."""
    from pydicom import dcmread  # noqa: PLC0415  # only this case rewrites a file

    for path in build_ct_series(folder, SMALL):
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)


CASES = {
    "not DICOM": (not_dicom, "INPUT_NOT_DICOM"),
    "empty folder": (empty, "INPUT_EMPTY"),
    "truncated file": (truncated, "INPUT_TRUNCATED"),
    "wrong modality": (setting(Modality="MR", SOPClassUID=MRImageStorage), "INPUT_WRONG_MODALITY"),
    "no pixel data": (spoilt(without_pixels), "INPUT_NO_PIXELS"),
    "two patients": (two_patients, "INPUT_SEVERAL_PATIENTS"),
    "two slices": (two_slices, "INPUT_TOO_FEW_SLICES"),
    "wide gap": (spoilt(far_apart), "INPUT_IRREGULAR_SPACING"),
    "duplicated slice": (spoilt(duplicated), "INPUT_DUPLICATE_SLICES"),
    "lossy syntax": (lossy_syntax, "INPUT_LOSSY"),
    "lossy history": (setting(LossyImageCompression="01"), "INPUT_LOSSY"),
}


@pytest.mark.parametrize("case", CASES)
def test_segment_refuses_it_with_its_code_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    build, code = CASES[case]
    build(tmp_path / "ct")
    answer = orgseg(capsys, "segment", tmp_path / "ct", tmp_path / "out")
    assert (answer.status, answer.code, answer.out) == (1, code, "")
    assert "\nNext step: " in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", CASES)
def test_info_prints_the_reason_and_the_next_step(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    build, code = CASES[case]
    build(tmp_path / "ct")
    answer = orgseg(capsys, "info", tmp_path / "ct")
    assert answer.status == 1
    output = answer.out + answer.err
    assert code in output
    assert "Next step: " in output
    assert "PHANTOM-" not in output


def test_several_series_are_all_right_for_info_and_too_many_for_segment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    two_series(tmp_path / "ct")
    assert len(json.loads(orgseg(capsys, "info", tmp_path / "ct", "--json").out)["accepted"]) == 2
    answer = orgseg(capsys, "segment", tmp_path / "ct", tmp_path / "out")
    assert (answer.status, answer.code) == (1, "INPUT_SEVERAL_SERIES")


def test_an_unknown_bundle_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str], ct_folder: Path, tmp_path: Path
) -> None:
    answer = orgseg(capsys, "segment", ct_folder, tmp_path / "out", "--bundle", "no-such-bundle")
    assert (answer.status, answer.code) == (1, "BUNDLE_UNKNOWN")
    assert "no-such-bundle" in answer.err


def test_an_overlap_longer_than_the_chunk_is_a_wrong_setting(
    capsys: pytest.CaptureFixture[str], ct_folder: Path, tmp_path: Path
) -> None:
    arguments = ("--method", "chunked", "--chunk-mm", "40", "--overlap-mm", "60")
    answer = orgseg(capsys, "segment", ct_folder, tmp_path / "out", *arguments)
    assert (answer.status, answer.code) == (3, "CONFIG_INFERENCE")


def test_the_fast_mode_with_another_method_is_a_wrong_setting(
    capsys: pytest.CaptureFixture[str], ct_folder: Path, tmp_path: Path
) -> None:
    arguments = ("--method", "whole", "--backend", "fast")
    answer = orgseg(capsys, "segment", ct_folder, tmp_path / "out", *arguments)
    assert (answer.status, answer.code) == (3, "CONFIG_INFERENCE")
    assert "backend fast needs method streaming" in answer.err
    assert not (tmp_path / "out").exists()


def test_a_text_file_in_the_folder_is_set_aside_and_reported(
    capsys: pytest.CaptureFixture[str], ct_folder: Path
) -> None:
    (ct_folder / "readme.txt").write_text("hello")
    answer = orgseg(capsys, "info", ct_folder, "--json")
    assert answer.status == 0
    assert sum(json.loads(answer.out)["set_aside"].values()) == 1


def test_info_leaves_the_folder_as_it_was(capsys: pytest.CaptureFixture[str], ct_folder: Path) -> None:
    before = {path: path.read_bytes() for path in ct_folder.iterdir()}
    orgseg(capsys, "info", ct_folder)
    assert {path: path.read_bytes() for path in ct_folder.iterdir()} == before
    shutil.rmtree(ct_folder)
