"""Labels of foreign models are matched by their names, left and right never exchanged, nothing guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import OrganUnknown
from orgseg_node.inference.bundles.matching import match_labels, organ_of_name, read_organ_map, unused_entries


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("RightParotid", "parotid_right"),
        ("parotid_lt", "parotid_left"),
        ("LParotid", "parotid_left"),
        ("Parotid_R", "parotid_right"),
        ("Kidney-Left", "kidney_left"),
        ("kidney", "kidneys"),
        ("SpinalCord", "spinal_cord"),
        ("Brain Stem", "brainstem"),
        ("lung_upper_lobe_left", "lung_left"),
        ("rib_right_12", "rib_right"),
        ("vertebrae_L5", "vertebrae"),
        ("clavicula_right", "clavicle_right"),
        ("Oesophagus", "esophagus"),
        ("Bladder", "urinary_bladder"),
        ("Bone_Mandible", "mandible"),
        ("Glnd_Adrenal_L", "adrenal_gland_left"),
    ],
)
def test_names_in_use_are_known(name: str, key: str, organ_table: OrganTable) -> None:
    assert organ_of_name(name, organ_table) == key


@pytest.mark.parametrize(
    "name",
    [
        "tibia_left",
        "vertebrae_S1",
        "kidney_cyst_left",
        "heart_myocardium",
        "organ",
        "L",
        "",
        "Parotid",
        "left and right lung",
    ],
)
def test_what_is_another_structure_or_unclear_is_not_matched(name: str, organ_table: OrganTable) -> None:
    assert organ_of_name(name, organ_table) is None


def test_every_key_and_tg263_name_is_its_own_organ(organ_table: OrganTable) -> None:
    for key, organ in organ_table.items():
        assert organ_of_name(key, organ_table) == key
        assert organ_of_name(organ.name, organ_table) == key


def test_the_users_organ_map_has_priority_over_names(organ_table: OrganTable) -> None:
    given = {"spleen": "liver", "Dataset1_A/2": "heart", "3": ""}
    matched, unmatched = match_labels(
        "Dataset1_A", {1: "spleen", 2: "x", 3: "y", 4: "colon"}, given, organ_table
    )
    assert matched == {1: "liver", 2: "heart", 4: "colon"}
    assert unmatched == []


def test_every_label_without_an_organ_is_reported_with_a_hint(organ_table: OrganTable) -> None:
    matched, unmatched = match_labels(
        "D", {1: "spleem", 2: "heart", 3: "zzz"}, {"zzz": "not_a_key"}, organ_table
    )
    assert matched == {2: "heart"}
    assert unmatched == ["spleem of D (did you mean spleen?)", "zzz=not_a_key of D"]


def test_a_single_organ_model_may_name_its_organ_in_its_data_set(organ_table: OrganTable) -> None:
    assert match_labels("Dataset801_Spleen", {1: "organ"}, {}, organ_table)[0] == {1: "spleen"}
    assert match_labels("Dataset801_Spleen", {1: "organ", 2: "other"}, {}, organ_table)[0] == {}


def test_entries_for_labels_that_do_not_exist_are_found() -> None:
    models = [("D1", {1: "a"}), ("D2", {1: "b"})]
    assert unused_entries({"a": "x", "D2/b": "x", "D2/a": "x", "c": "x", "1": "x"}, models) == ["D2/a", "c"]


def test_organ_maps_come_as_pairs_or_files(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('"Heart muscle" = "heart"\n')
    (tmp_path / "m.json").write_text(json.dumps({"b": ""}))
    given = read_organ_map(["a = liver", str(tmp_path / "m.toml"), str(tmp_path / "m.json")])
    assert given == {"a": "liver", "Heart muscle": "heart", "b": ""}


@pytest.mark.parametrize("content", ["[a]\nb = 1\n", "= broken"])
def test_an_unusable_organ_map_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(content)
    with pytest.raises(OrganUnknown, match=r"m\.toml"):
        read_organ_map([str(tmp_path / "m.toml")])
    with pytest.raises(OrganUnknown, match="missing"):
        read_organ_map([str(tmp_path / "missing")])
