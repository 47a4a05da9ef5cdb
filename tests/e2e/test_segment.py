"""``orgseg segment`` with a real nnU-Net."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.node.command_line import orgseg
from tests.support.peers.peers import agreement_with_plastimatch, dciodvfy_errors

FILES = {"RTSTRUCT.dcm", "SEG.dcm", "labels.nii.gz", "montage.png", "report.json"}


def test_it_writes_the_five_files_and_a_report_of_the_model_that_ran(
    result: Path, with_bundles: Path
) -> None:
    assert {path.name for path in result.iterdir()} == FILES
    report = json.loads((result / "report.json").read_text())
    (model,) = report["models"]
    assert model["name"] == "tiny"
    assert [row["key"] for row in report["organs"]] == ["brainstem", "spinal_cord", "mandible"]
    assert report["method"].startswith("streaming, exact")
    assert {row["disagreement"] for row in report["organs"]} == {None}, "a single network agrees with itself"
    assert report["device"].startswith("cpu")


def test_the_objects_reference_the_ct_they_were_made_from(result: Path, ct: Path) -> None:
    images = [pydicom.dcmread(path) for path in ct.iterdir()]
    uids = {str(image.SOPInstanceUID) for image in images}
    rtstruct = pydicom.dcmread(result / "RTSTRUCT.dcm")
    study = rtstruct.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    series = study.RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == images[0].SeriesInstanceUID
    assert {str(item.ReferencedSOPInstanceUID) for item in series.ContourImageSequence} == uids
    assert rtstruct.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID == images[0].FrameOfReferenceUID
    seg = pydicom.dcmread(result / "SEG.dcm")
    assert seg.FrameOfReferenceUID == images[0].FrameOfReferenceUID
    assert seg.StudyInstanceUID == rtstruct.StudyInstanceUID == images[0].StudyInstanceUID


@pytest.mark.endurance
def test_again_into_the_same_folder_gives_the_same_objects_byte_for_byte(
    capsys: pytest.CaptureFixture[str], with_bundles: Path, result: Path, ct: Path, tmp_path: Path
) -> None:
    shutil.copytree(result, tmp_path / "out")
    assert orgseg(capsys, "segment", ct, tmp_path / "out", "--bundle", "tiny", "--device", "cpu").status == 0
    for name in ("RTSTRUCT.dcm", "SEG.dcm"):
        assert (tmp_path / "out" / name).read_bytes() == (result / name).read_bytes()


@pytest.mark.endurance
def test_elsewhere_the_same_input_gives_the_same_uids_and_another_method_gives_others(
    capsys: pytest.CaptureFixture[str], with_bundles: Path, result: Path, ct: Path, tmp_path: Path
) -> None:
    def uid(folder: Path) -> str:
        return str(pydicom.dcmread(folder / "RTSTRUCT.dcm").SOPInstanceUID)

    again, whole, chunked = (tmp_path / name for name in ("again", "whole", "chunked"))
    orgseg(capsys, "segment", ct, again, "--device", "cpu", "--threads", "1", "--memory-budget-mb", "100000")
    orgseg(capsys, "segment", ct, whole, "--method", "whole")
    orgseg(capsys, "segment", ct, chunked, "--method", "chunked", "--chunk-mm", "60", "--overlap-mm", "20")
    assert uid(again) == uid(result)
    assert len({uid(folder) for folder in (result, whole, chunked)}) == 3
    labels = [np.asarray(nibabel.load(folder / "labels.nii.gz").dataobj) for folder in (result, whole)]
    assert np.array_equal(*labels), "streaming gives the labels of nnU-Net's own predictor"


@pytest.mark.endurance
@pytest.mark.parametrize(
    ("option", "method"),
    [
        ("--skip-outside-body", "streaming, exact, outside of the body skipped"),
        ("--no-skip-outside-body", "streaming, exact, nothing skipped"),
    ],
)
def test_the_region_outside_of_the_patient_is_skipped_on_request_and_reported(
    capsys: pytest.CaptureFixture[str], with_bundles: Path, ct: Path, tmp_path: Path, option: str, method: str
) -> None:
    answer = orgseg(capsys, "segment", ct, tmp_path / "out", option)
    assert answer.status == 0, answer.err
    assert json.loads((tmp_path / "out" / "report.json").read_text())["method"] == method
    assert method in answer.err


@pytest.mark.endurance
def test_the_disagreement_of_an_ensemble_is_reported(
    capsys: pytest.CaptureFixture[str], ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TinyModel(labels={"brainstem": 1, "mandible": 2}, spacing_mm=(6.0, 12.0, 12.0), folds=(0, 1, 2))
    trained = write_tiny(tmp_path / "trained", model)
    added = orgseg(capsys, "models", "add", trained, "--name", "folds", "--to", tmp_path / "bundles")
    assert added.status == 0, added.err
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path / "bundles"))
    answer = orgseg(capsys, "segment", ct, tmp_path / "out")
    assert "Dice of folds" in answer.out
    for row in json.loads((tmp_path / "out" / "report.json").read_text())["organs"]:
        disagreement = row["disagreement"]
        assert disagreement["folds"] == 3
        assert 0 < disagreement["mean_dice"] < 1
        assert 0 <= disagreement["volume_min_ml"] < disagreement["volume_max_ml"]
        assert f"{disagreement['mean_dice']:.3f}" in answer.out


@pytest.mark.endurance
def test_too_small_a_memory_budget_is_a_coded_error_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], with_bundles: Path, ct: Path, tmp_path: Path
) -> None:
    answer = orgseg(capsys, "segment", ct, tmp_path / "out", "--memory-budget-mb", "5")
    assert (answer.status, answer.code) == (1, "INFERENCE_BUDGET")
    assert "5 MB are allowed" in answer.err
    assert "Next step: " in answer.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def ctrl_c_enabled() -> Iterator[None]:
    """Processes that a shell starts in the background ignore Ctrl-C, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.endurance
@pytest.mark.usefixtures("ctrl_c_enabled")
def test_ctrl_c_during_inference_is_exit_code_130_and_leaves_old_files(
    ct: Path, result: Path, tmp_path: Path
) -> None:
    """On a terminal, whose progress bar shows the computation of tiles and the remaining time."""
    labels = {"brainstem": 1, "spinal_cord": 2, "mandible": 3}
    slow = write_tiny(tmp_path / "trained", TinyModel(labels=labels, spacing_mm=(1.0, 1.0, 1.0)))
    environment = {**os.environ, "ORGSEG_BUNDLES": str(tmp_path / "bundles"), "COLUMNS": "160"}
    command = [sys.executable, "-m", "orgseg_node.cli"]
    added = [*command, "models", "add", str(slow), "--name", "slow", "--to", str(tmp_path / "bundles")]
    subprocess.run(added, check=True, capture_output=True)
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    shutil.copytree(result, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for folder in (out, fresh):
        terminal, end = pty.openpty()
        with subprocess.Popen(
            [*command, "segment", str(ct), str(folder)],
            env=environment,
            stdout=end,
            stderr=end,
            start_new_session=True,  # whatever is interrupted here, it is never the process that tests
        ) as process:
            os.close(end)
            shown = _read_until(terminal, rb"segmenting: slow \S+, about \d+ (s|min) left")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130, shown
        assert b"Stopped." in _read_until(terminal, rb"Stopped\.")
        os.close(terminal)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert not fresh.exists()


def _read_until(terminal: int, pattern: bytes) -> bytes:
    """What a terminal has shown when a pattern is there."""
    shown, end = b"", time.monotonic() + 60
    while not re.search(pattern, shown):
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 1.0)[0]:
            shown += os.read(terminal, 65536)
    return shown


def test_json_on_stdout_is_the_report_and_nothing_else(
    capsys: pytest.CaptureFixture[str], with_bundles: Path, ct: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.json"
    answer = orgseg(capsys, "segment", ct, tmp_path / "out", "--json", "--report", copy)
    assert json.loads(answer.out) == json.loads(copy.read_text())
    assert copy.read_bytes() == (tmp_path / "out" / "report.json").read_bytes()


def test_a_bundle_that_was_changed_is_refused_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str],
    with_bundles: Path,
    ct: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(with_bundles, tmp_path / "spoilt")
    (weights,) = (tmp_path / "spoilt").rglob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path / "spoilt"))
    answer = orgseg(capsys, "segment", ct, tmp_path / "out")
    assert (answer.status, answer.code) == (1, "BUNDLE_HASH")
    assert not (tmp_path / "out").exists()
    verified = orgseg(capsys, "models", "verify", "tiny")
    assert (verified.status, verified.code) == (1, "BUNDLE_HASH")


def test_a_gpu_that_is_not_there_is_exit_code_4(
    capsys: pytest.CaptureFixture[str],
    with_bundles: Path,
    ct: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch  # noqa: PLC0415  # asked only whether there is a GPU

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    answer = orgseg(capsys, "segment", ct, tmp_path / "out", "--device", "cuda")
    assert (answer.status, answer.code) == (4, "ENVIRONMENT")


FULL = """
import sys
from pathlib import Path
from datetime import datetime, UTC
from orgseg_node.core.organs import load_organs
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.errors import DiskFull
from orgseg_node.contouring.pipeline import Request, run
from orgseg_node.shipped import shipped_config
from tests.support.models.threshold_predictor import ThresholdPredictor
out = Path(sys.argv[2]) / "out"
organs = load_organs(shipped_config("organs.toml"))
predictor = ThresholdPredictor(organs=organs)
series = read_series(Path(sys.argv[1]))
request = Request(series=series, out=out, job_id="full", created=datetime.now(UTC), organs=organs)
try:
    run(request, predictor, lambda *_: None)
except DiskFull as error:
    print(error.code, *sorted(path.name for path in out.iterdir()))
"""


@pytest.mark.endurance
def test_on_a_full_disk_there_is_a_coded_error_and_no_rtstruct(ct: Path, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    script = f'mount -t tmpfs -o size=128k none "{mount}" && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a small disk")
    program = [sys.executable, "-c", FULL, str(ct), str(mount)]
    checkout = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [*command, *program], capture_output=True, text=True, check=True, cwd=checkout, env=environment
    )
    code, *left = done.stdout.split()
    assert code == "STORAGE_DISK_FULL"
    assert "RTSTRUCT.dcm" not in left
    assert set(left) < FILES


@pytest.mark.peer
def test_dciodvfy_finds_no_error_in_the_objects(result: Path) -> None:
    for name in ("RTSTRUCT.dcm", "SEG.dcm"):
        assert dciodvfy_errors(result / name) == []


@pytest.mark.peer
def test_plastimatch_reads_the_rtstruct_as_the_label_map(result: Path, ct: Path, tmp_path: Path) -> None:
    assert min(agreement_with_plastimatch(result, ct, tmp_path).values()) >= 0.999
