"""The same CT under the same settings is the same job, by ``orgseg segment`` as through the node."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from orgseg_node.node.store.model import JobState
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import running_node
from tests.support.peers.dcmtk import free_port, storescu

pytestmark = [pytest.mark.peer, *LEAKS]

LABELS = {"brainstem": 1, "spinal_cord": 2, "mandible": 3}
NODE = """
bundles = ["tiny"]
{inference}

[contours]
{contours}
"""
OTHER_CONTOURS = 'protocol = "head_and_neck"\nseg = "labelmap"'
OTHER_OPTIONS = (
    "--method",
    "chunked",
    "--chunk-mm",
    "60",
    "--overlap-mm",
    "20",
    "--protocol",
    "head_and_neck",
)


def uids(folder: Path) -> dict[str, tuple[str, str]]:
    """SOP and Series Instance UID of each object in a folder, by modality."""
    objects = [pydicom.dcmread(path) for path in folder.iterdir() if pydicom.misc.is_dicom(path)]
    found = {str(each.Modality): (str(each.SOPInstanceUID), str(each.SeriesInstanceUID)) for each in objects}
    assert len(found) == len(objects)
    return found


@pytest.mark.parametrize(
    ("inference", "contours", "options"),
    [
        ("", "", ()),
        (
            'method = "chunked"\nchunk_mm = 60\noverlap_mm = 20',
            OTHER_CONTOURS,
            (*OTHER_OPTIONS, "--seg", "labelmap", "--sr"),
        ),
    ],
    ids=["as shipped", "other settings"],
)
def test_segment_and_node_give_the_same_uids(
    capsys: pytest.CaptureFixture[str],
    ct_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inference: str,
    contours: str,
    options: tuple[str, ...],
) -> None:
    model = TinyModel(labels=LABELS, spacing_mm=(6.0, 12.0, 12.0), gain=3.0)
    trained = write_tiny(tmp_path / "trained", model)
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path / "bundles"))
    assert orgseg(capsys, "models", "add", trained, "--name", "tiny").status == 0
    files = sorted(ct_folder.iterdir())
    settings = NODE.format(inference=inference, contours=contours)
    with running_node(tmp_path, free_port(), inference=settings) as node:
        assert storescu(node.port, files, "-aec", "ORGSEG", "-xi").returncode == 0
        job = node.job_in(JobState.SENDING, seconds=60)
        with contextlib.closing(node.store()) as store:
            (syntax,) = {each.transfer_syntax for each in store.instances_of(job.series_uid)}
        from_node = uids(node.data / "jobs" / job.job_id / "out")
        assert node.stop() == 0

    assert {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in files} == {ExplicitVRLittleEndian}
    assert syntax == ImplicitVRLittleEndian, "storescu encodes the files in another way"
    answer = orgseg(capsys, "segment", ct_folder, tmp_path / "out", "--bundle", "tiny", *options)
    assert answer.status == 0, answer.err
    from_command_line = uids(tmp_path / "out")
    assert set(from_node) == {"RTSTRUCT", "SEG"}
    assert {name: from_command_line[name] for name in from_node} == from_node
