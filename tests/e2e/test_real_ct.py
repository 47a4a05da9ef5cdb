"""Real CT series through ``orgseg segment`` with the shipped bundle, checked by independent programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from orgseg_node.dicom.reading.series import read_series
from tests.support.node.command_line import orgseg
from tests.support.peers.peers import agreement_with_plastimatch, dciodvfy_errors, unpacked

pytestmark = [pytest.mark.slow, pytest.mark.peer, pytest.mark.shared_data, pytest.mark.timeout(1500)]


@pytest.mark.parametrize(
    "name", ["dicom/pycerr_hn_pt1", "dicom/LUNG1-001", "dicom_small/totalsegmentator_ct_j2k"]
)
def test_a_real_series_gives_valid_objects_that_other_programs_read_the_same(
    name: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct, result = unpacked(shared_data / name, tmp_path / "ct"), tmp_path / "out"
    options = ("--bundle", "starter-hn", "--device", "cpu", "--untrained-region")
    answer = orgseg(capsys, "segment", ct, result, *options)
    assert answer.status in {0, 1}, answer.err
    series = read_series(ct)
    for file in ("RTSTRUCT.dcm", "SEG.dcm"):
        assert dciodvfy_errors(result / file) == []
    rtstruct = dcmread(result / "RTSTRUCT.dcm")
    assert rtstruct.FrameOfReferenceUID == series.frame_of_reference_uid
    agreement = agreement_with_plastimatch(result, ct, tmp_path / "masks")
    with capsys.disabled():
        print(f"\n{name}: " + ", ".join(f"{k} {v:.4f}" for k, v in agreement.items()))  # noqa: T201
    assert agreement
    assert min(agreement.values()) >= 0.999
