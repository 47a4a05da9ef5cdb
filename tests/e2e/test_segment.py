"""``orgseg segment``: a CT in, proven objects out, with a real nnU-Net behind it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from tests.support.command_line import orgseg
from tests.support.peers import agreement_with_plastimatch, dciodvfy_errors

FILES = {"RTSTRUCT.dcm", "SEG.dcm", "labels.nii.gz", "montage.png", "report.json"}


def test_it_writes_the_five_files_and_a_report_of_the_model_that_ran(
    result: Path, with_bundles: Path
) -> None:
    assert {path.name for path in result.iterdir()} == FILES
    report = json.loads((result / "report.json").read_text())
    (model,) = report["models"]
    assert model["name"] == "tiny"
    assert [row["key"] for row in report["organs"]] == ["brainstem", "spinal_cord", "mandible"]
    assert report["method"] == "whole"
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


def test_again_into_the_same_folder_gives_the_same_objects_byte_for_byte(
    capsys: pytest.CaptureFixture[str], with_bundles: Path, result: Path, ct: Path, tmp_path: Path
) -> None:
    shutil.copytree(result, tmp_path / "out")
    assert orgseg(capsys, "segment", ct, tmp_path / "out", "--bundle", "tiny", "--device", "cpu").status == 0
    for name in ("RTSTRUCT.dcm", "SEG.dcm"):
        assert (tmp_path / "out" / name).read_bytes() == (result / name).read_bytes()


def test_elsewhere_the_same_input_gives_the_same_uids_and_another_method_gives_others(
    capsys: pytest.CaptureFixture[str], with_bundles: Path, result: Path, ct: Path, tmp_path: Path
) -> None:
    def uid(folder: Path) -> str:
        return str(pydicom.dcmread(folder / "RTSTRUCT.dcm").SOPInstanceUID)

    again, chunked = tmp_path / "again", tmp_path / "chunked"
    orgseg(capsys, "segment", ct, again, "--device", "cpu")
    orgseg(capsys, "segment", ct, chunked, "--method", "chunked", "--chunk-mm", "60", "--overlap-mm", "20")
    assert uid(again) == uid(result) != uid(chunked)


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
from orgseg_node.dicom.series import read_series
from orgseg_node.errors import DiskFull
from orgseg_node.node.pipeline import Request, run
from orgseg_node.shipped import shipped_config
from tests.support.threshold_predictor import ThresholdPredictor
out = Path(sys.argv[2]) / "out"
predictor = ThresholdPredictor(organs=load_organs(shipped_config("organs.toml")))
request = Request(series=read_series(Path(sys.argv[1])), out=out, job_id="full", created=datetime.now(UTC))
try:
    run(request, predictor, lambda part, text: None)
except DiskFull as error:
    print(error.code, *sorted(path.name for path in out.iterdir()))
"""


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
