"""Programs of others read the commissioning kit as its table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.dicom.kit.shapes import KIT_STRUCTURES, kit_label_map
from orgseg_node.dicom.kit.writing import Kit, kit_profiles, write_kit
from tests.support.peers.peers import dciodvfy_errors, plastimatch_masks
from tests.support.processes.once import once

VOXEL_ML = 0.003


@pytest.fixture(scope="module")
def kit() -> Kit:
    return once("kit", write_kit)


@pytest.mark.peer
@pytest.mark.parametrize("name", list(kit_profiles()))
def test_dciodvfy_finds_no_error_in_a_structure_set(name: str, kit: Kit) -> None:
    errors = dciodvfy_errors(kit.structure_sets[name])
    if name == "xor":  # a term younger than the tool
        errors = [line for line in errors if "CLOSEDPLANAR_XOR" not in line]
    assert errors == []


@pytest.mark.peer
def test_dciodvfy_finds_no_error_in_the_ct(kit: Kit) -> None:
    assert dciodvfy_errors(kit.ct[0]) == []
    assert dciodvfy_errors(kit.ct[-1]) == []


@pytest.mark.peer
@pytest.mark.parametrize("name", [name for name in kit_profiles() if name not in {"xor", "nested"}])
def test_plastimatch_sees_the_volumes_of_the_table(name: str, kit: Kit, tmp_path: Path) -> None:
    masks = plastimatch_masks(kit.structure_sets[name], kit.ct[0].parent, tmp_path / "masks")
    label_map = kit_label_map()
    voxel_ml = {row.name: row.voxel_ml for row in kit.volumes}
    for label, piece in enumerate(KIT_STRUCTURES, start=1):
        assert masks[piece.name].sum() * VOXEL_ML == pytest.approx(voxel_ml[piece.name], abs=VOXEL_ML / 2)
        assert (masks[piece.name] ^ label_map.mask(label)).sum() == 0


@pytest.mark.peer
def test_plastimatch_fills_nested_holes_as_the_table_foretells(kit: Kit, tmp_path: Path) -> None:
    masks = plastimatch_masks(kit.structure_sets["nested"], kit.ct[0].parent, tmp_path / "masks")
    ring = next(row for row in kit.volumes if row.name == "Kit_Ring")
    assert masks["Kit_Ring"].sum() * VOXEL_ML == pytest.approx(ring.filled_ml)
