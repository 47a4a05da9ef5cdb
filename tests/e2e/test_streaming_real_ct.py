"""The shipped bundle on real CT series: the streaming engine gives nnU-Net's own labels to the voxel."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from orgseg_node.core.body import find_body
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Volume
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.inference.bundles.bundle import open_bundle
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.shipped import shipped_bundles
from tests.support.peers.peers import unpacked

pytestmark = [pytest.mark.slow, pytest.mark.shared_data, pytest.mark.timeout(3000)]


def _from_nifti(path: Path) -> Volume:
    """A NIfTI file whose axes are RAS but for their sign, as a CT in LPS."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    hu = np.asanyarray(image.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    i, j, k = (float(s) for s in image.header.get_zooms())
    return Volume(
        grid=Grid(shape=hu.shape, spacing_mm=(k, j, i), origin_mm=(0.0, 0.0, 0.0)),
        hu=np.ascontiguousarray(np.rint(hu)).astype(np.int16),
    )


@pytest.mark.parametrize(
    "name", ["dicom/pycerr_hn_pt1", "dicom/LUNG1-001", "totalsegmentator_example/example_ct.nii.gz"]
)
def test_the_starter_bundle_streamed_is_nnunet_whole(
    name: str,
    shared_data: Path,
    organ_table: OrganTable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = shared_data / name
    if source.is_dir():
        volume = read_volume(read_series(unpacked(source, tmp_path / "ct")))
    else:
        volume = _from_nifti(source)
    body, bundle = find_body(volume), open_bundle(shipped_bundles() / "starter-hn")
    whole, streamed = (
        load_predictor(bundle, organ_table, settings).predict(volume, body, lambda *_: None)
        for settings in (
            InferenceSettings(method="whole", device="cpu"),
            InferenceSettings(device="cpu", skip_outside_body=False),
        )
    )
    differ = int(np.count_nonzero(whole.label_map.labels != streamed.label_map.labels))
    with capsys.disabled():
        found = int(np.count_nonzero(whole.label_map.labels))
        print(f"\n{name}: {differ} of {volume.hu.size} voxels differ, {found} are of an organ")  # noqa: T201
    assert differ == 0
    assert streamed.findings == whole.findings
