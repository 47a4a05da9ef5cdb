"""Structure sets of every profile are sound to others: dciodvfy, plastimatch, dcmrtstruct2nii."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from orgseg_node.contouring.protocol import load_protocol, protocol_names
from orgseg_node.contouring.structures import apply_protocol
from orgseg_node.core.contours import Holes, trace
from orgseg_node.core.geometry import Box
from orgseg_node.core.metrics import dice
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.regions import Region
from orgseg_node.core.volume import LabelMap, Mask
from orgseg_node.dicom.objects.rtstruct import prove, write_rtstruct
from orgseg_node.dicom.objects.seg import write_seg
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.dicom.tps.tps import GENERIC, PROFILES, TpsProfile, require_valid
from tests.support.ct.objects import PROVENANCE, awkward_label_map, series_of
from tests.support.ct.phantom import PhantomOptions, body_at, grid_points, label_map_of
from tests.support.peers.peers import dciodvfy_errors, plastimatch_masks, unpacked

pytestmark = pytest.mark.endurance

SMALL = PhantomOptions(slices=10, rows=64, columns=56, pixel_spacing_mm=(2.0, 2.0))
NEWER = "Attribute with an even group number is not a recognized standard attribute"


def _margin(label_map: LabelMap, table: OrganTable) -> Region:
    mask = np.zeros(label_map.grid.shape, dtype=bool)
    mask[1:8, 3:40, 2:50] = True
    box = Box.around(mask)
    organ = replace(table["brain"], key="margin", name="Brain Rand ~ 5 mm", interpreted_type="AVOIDANCE")
    return Region(organ=organ, box=box, mask=mask[box.slices], derivation="Brain + 5 mm")


def _save(
    path: Path, label_map: LabelMap, series: CtSeries, profile: TpsProfile, regions: list[Region]
) -> Path:
    """A structure set with a reference to its segmentation, proven and found valid."""
    structures = trace(label_map, profile.tracing, regions=regions)
    seg = write_seg(label_map, series, PROVENANCE)
    dataset = write_rtstruct(structures, series, PROVENANCE, profile, seg)
    dataset.save_as(path, enforce_file_format=True)
    reread = dcmread(path)
    prove(reread, label_map, series, regions, profile)
    require_valid(reread, profile)
    return path


@pytest.mark.peer
@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize(
    "options",
    [SMALL, replace(SMALL, shear=0.3), replace(SMALL, patient_name="", patient_id="", character_set=None)],
    ids=["regular", "tilted", "nameless"],
)
def test_dciodvfy_finds_no_error_for_any_profile(
    profile: TpsProfile, options: PhantomOptions, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = series_of(tmp_path / "ct", options)
    label_map = awkward_label_map(series.geometry, organ_table)
    regions = [_margin(label_map, organ_table)]
    assert dciodvfy_errors(_save(tmp_path / "rtstruct.dcm", label_map, series, profile, regions)) == []


@pytest.mark.peer
def test_what_dciodvfy_minds_in_newer_objects_is_that_it_is_older(
    tmp_path: Path, organ_table: OrganTable
) -> None:
    """Off by default: two sequences and a way to write holes that checkers of 2022 do not know."""
    series = series_of(tmp_path / "ct", SMALL)
    label_map = awkward_label_map(series.geometry, organ_table)
    newer = replace(GENERIC, name="newer", source_series=True, roi_creator=True)
    errors = dciodvfy_errors(_save(tmp_path / "newer.dcm", label_map, series, newer, []))
    assert {error.rpartition(" - ")[2] for error in errors} == {NEWER}
    exclusive = replace(GENERIC, name="exclusive", holes=Holes.XOR)
    errors = dciodvfy_errors(_save(tmp_path / "exclusive.dcm", label_map, series, exclusive, []))
    assert errors
    assert all("Unrecognized enumerated value = <CLOSEDPLANAR_XOR>" in error for error in errors)


def _dcmrtstruct2nii_masks(rtstruct: Path, ct: Path, scratch: Path) -> dict[str, Mask]:
    if importlib.util.find_spec("dcmrtstruct2nii") is None:
        pytest.skip("dcmrtstruct2nii is not installed")
    program = "import sys, pydicom; pydicom.read_file = pydicom.dcmread; "  # the name it had until pydicom 3
    program += "from dcmrtstruct2nii import dcmrtstruct2nii as convert; "
    program += "convert(*sys.argv[1:4], gzip=False, convert_original_dicom=False)"
    command = [sys.executable, "-c", program, str(rtstruct), str(ct), str(scratch)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return {
        path.stem.removeprefix("mask_"): SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) > 0
        for path in sorted(scratch.glob("*.nii"))
    }


@pytest.mark.peer
@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_two_other_readers_see_every_voxel(
    profile: TpsProfile, tmp_path: Path, organ_table: OrganTable
) -> None:
    series = series_of(tmp_path / "ct", SMALL)
    label_map = awkward_label_map(series.geometry, organ_table)
    path = _save(tmp_path / "rtstruct.dcm", label_map, series, profile, [])
    for reader in (plastimatch_masks, _dcmrtstruct2nii_masks):
        masks = reader(path, tmp_path / "ct", tmp_path / reader.__name__)
        for label in range(1, 6):
            name = label_map.organs[label].name
            assert dice(masks[name], label_map.mask(label)) == 1.0, (reader.__name__, name)


@pytest.mark.peer
@pytest.mark.shared_data
def test_a_real_tilted_gantry_gives_valid_objects(
    shared_data: Path, tmp_path: Path, organ_table: OrganTable
) -> None:
    """GE, 18.5 degrees, slice distances of 4.22, 1.14 and 7.38 mm."""
    folder = shared_data / "dicom" / "dcm_qa_ct_ge_tilt"
    if not folder.is_dir():
        pytest.skip("the tilted series is not among the collected test data")
    series = read_series(unpacked(folder, tmp_path / "ct"))
    labels = np.zeros(series.geometry.shape, dtype=np.uint8)
    labels[:, 200:300, 200:310] = 1
    labels[2:-2, 230:260, 240:290] = 0
    label_map = LabelMap(grid=series.geometry, labels=labels, organs={1: organ_table["brain"]})
    for profile in PROFILES.values():
        path = _save(tmp_path / f"{profile.name}.dcm", label_map, series, profile, [])
        assert dciodvfy_errors(path) == []


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("name", protocol_names())
def test_every_template_gives_a_sound_object_for_every_planning_system(
    tmp_path: Path, organ_table: OrganTable, name: str, profile: TpsProfile
) -> None:
    series = series_of(tmp_path / "ct")
    found = label_map_of(series.grid, organ_table)
    body = body_at(grid_points(series.grid))
    applied = apply_protocol(load_protocol(name), found, body, organ_table)
    traced = trace(applied.label_map, profile.tracing, regions=applied.regions, order=applied.order)
    dataset = write_rtstruct(traced, series, PROVENANCE, profile)
    dataset.save_as(tmp_path / "RTSTRUCT.dcm", enforce_file_format=True)
    require_valid(dcmread(tmp_path / "RTSTRUCT.dcm"), profile)
    prove(dataset, applied.label_map, series, applied.regions, profile)
    assert dciodvfy_errors(tmp_path / "RTSTRUCT.dcm") == []
