"""The commissioning kit: pieces that ask what they say they ask, and volumes that are true."""

from __future__ import annotations

import csv
import filecmp
import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from orgseg_node.cli.ct.commission import app
from orgseg_node.core.contours import rasterise
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Mask
from orgseg_node.dicom.kit.shapes import GRID, KIT_STRUCTURES, SHAPE, kit_label_map
from orgseg_node.dicom.kit.volumes import area
from orgseg_node.dicom.kit.writing import Kit, kit_profiles, write_kit
from orgseg_node.dicom.objects.rtstruct import read_rtstruct
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import CtSeries, read_series
from tests.support.processes.once import once


@pytest.fixture(scope="module")
def kit() -> Kit:
    return once("kit", write_kit)


@pytest.fixture(scope="module")
def folder(kit: Kit) -> Path:
    return kit.ct[0].parents[1]


@pytest.fixture(scope="module")
def series(kit: Kit) -> CtSeries:
    return read_series(kit.ct[0].parent)


def _mask(name: str) -> Mask:
    mask = np.zeros(SHAPE, dtype=np.bool_)
    next(piece for piece in KIT_STRUCTURES if piece.name == name).draw(mask)
    return mask


def test_pieces_do_not_overlap_and_have_names_that_every_system_takes() -> None:
    assert sum(_mask(piece.name).astype(int) for piece in KIT_STRUCTURES).max() == 1
    names = [piece.name for piece in KIT_STRUCTURES]
    assert len({name.lower() for name in names}) == len(names)
    assert max(map(len, names)) == len("Kit_Name_16_Char") == 16
    assert len({piece.color for piece in KIT_STRUCTURES}) == len(KIT_STRUCTURES)


def test_the_border_piece_touches_the_border_and_both_end_slices() -> None:
    mask = _mask("Kit_Border")
    assert mask[:, :, 0].any()
    assert mask[0].any()
    assert mask[-1].any()


def test_the_phantom_is_a_series_that_the_node_accepts(series: CtSeries) -> None:
    assert (series.grid, series.findings) == (GRID, ())
    hu = read_volume(series).hu
    assert set(np.unique(hu).tolist()) == {-1000, 0, 60}
    assert np.array_equal(hu == 60, kit_label_map().labels > 0)


@pytest.mark.parametrize("name", list(kit_profiles()))
def test_each_structure_set_is_the_pieces_to_the_voxel(name: str, kit: Kit, series: CtSeries) -> None:
    found = read_rtstruct(dcmread(kit.structure_sets[name]), series)
    assert set(found) == {piece.name for piece in KIT_STRUCTURES}
    wrong = {piece: int((rasterise(found[piece], GRID) ^ _mask(piece)).sum()) for piece in found}
    assert set(wrong.values()) == {0}, wrong


def test_structure_sets_can_be_distinguished(kit: Kit) -> None:
    datasets = [dcmread(path) for path in kit.structure_sets.values()]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StructureSetLabel", "SeriesDescription"):
        assert len({str(dataset[keyword].value) for dataset in datasets}) == len(datasets)
    assert max(len(dataset.StructureSetLabel) for dataset in datasets) <= 16


def test_one_contour_has_more_than_3000_points_and_stays_below_64_kb(kit: Kit) -> None:
    dataset = dcmread(kit.structure_sets["keyhole"])
    contours = [c for roi in dataset.ROIContourSequence for c in roi.ContourSequence]
    sizes = [len(contour.get_item("ContourData").value) for contour in contours]
    longest = max(contours, key=lambda contour: int(contour.NumberOfContourPoints))
    assert longest.NumberOfContourPoints > 3000
    assert max(sizes) < 65_534


def test_volumes_by_voxels_and_by_polygons_are_those_of_the_pieces(kit: Kit) -> None:
    for row in kit.volumes:
        true_ml = _mask(row.name).sum() * 0.003
        assert row.voxel_ml == pytest.approx(true_ml)
        # coordinates are written to 0.01 mm: nearly a per cent of the outline of a lone voxel
        is_tiny = row.voxels <= 10
        assert row.polygon_ml == pytest.approx(true_ml, rel=1e-2 if is_tiny else 2e-3)


def test_a_keyhole_takes_its_hole_off() -> None:
    outer = np.array([(0, 0), (6, 0), (6, 6), (0, 6), (0, 0)], dtype=np.float64)
    hole = np.array([(2, 2), (2, 4), (4, 4), (4, 2), (2, 2)], dtype=np.float64)
    assert area(np.concatenate([outer, hole])) == 36 - 4


def test_what_other_readings_would_show(kit: Kit) -> None:
    rows = {row.name: row for row in kit.volumes}
    ring, gap, lone = rows["Kit_Ring"], rows["Kit_Gap"], rows["Kit_Lone_Voxel"]
    assert ring.filled_ml == pytest.approx(np.pi * 24**2 * 16 * 0.003, rel=0.01)
    assert gap.bridged_ml == pytest.approx(gap.voxel_ml * 12 / 11)
    assert (lone.voxel_ml, lone.capless_ml) == (pytest.approx(0.003), 0)
    assert rows["Kit_Two_Islands"].filled_ml == rows["Kit_Two_Islands"].voxel_ml


def test_sheet_and_table_tell_of_every_piece_and_file(kit: Kit, folder: Path) -> None:
    sheet = (folder / "README.md").read_text(encoding="utf-8")
    with (folder / "volumes.csv").open(encoding="utf-8") as file:
        table = {row["structure"]: row for row in csv.DictReader(file)}
    for piece in KIT_STRUCTURES:
        assert sheet.count(piece.name) >= 3, "question, true volume, and the row to fill in"
        assert float(table[piece.name]["true, by voxels (ml)"]) == pytest.approx(
            _mask(piece.name).sum() * 0.003
        )
    assert all(path.name in sheet for path in kit.structure_sets.values())


@pytest.mark.endurance
def test_the_kit_is_the_same_each_time(kit: Kit, folder: Path, tmp_path: Path) -> None:
    write_kit(tmp_path)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    _, different, missing = filecmp.cmpfiles(folder, tmp_path, names, shallow=False)
    assert (different, missing) == ([], [])


def test_the_pieces_are_no_organs_of_the_table(organ_table: OrganTable) -> None:
    assert {piece.organ.key for piece in KIT_STRUCTURES} & set(organ_table) == set()


@pytest.mark.endurance
def test_the_command_writes_the_kit(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["tps", "--out", str(tmp_path / "kit")])
    assert answer.exit_code == 0
    assert "RTSTRUCT_keyhole.dcm" in answer.output
    assert (tmp_path / "kit" / "README.md").exists()


@pytest.mark.endurance
def test_the_command_prints_the_volumes_as_json(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["tps", "--out", str(tmp_path / "kit"), "--json"])
    assert [row["name"] for row in json.loads(answer.stdout)] == [piece.name for piece in KIT_STRUCTURES]


def test_the_command_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert CliRunner().invoke(app, ["tps", "--out", str(tmp_path)]).exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
