"""What an organ is called, coded and coloured."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.core.organs import OrganTable, Side, load_organs
from orgseg_node.errors import ConfigError, OrganUnknown

GOOD = """
[mandible]
name = "Bone_Mandible"
code = "91609006"
meaning = "Mandible"
color = [1, 2, 3]
display = [4, 5, 6]
"""


def problems(folder: Path, document: str) -> str:
    """The problems of an invalid table."""
    path = folder / "organs.toml"
    path.write_text(document)
    with pytest.raises(ConfigError) as caught:
        load_organs(path)
    return caught.value.detail


def test_the_shipped_table_keeps_the_rules_of_tg263(organ_table: OrganTable) -> None:
    names = [organ.name for organ in organ_table.values()]
    assert len(organ_table) > 40
    assert max(map(len, names)) <= 16
    assert len({name.casefold() for name in names}) == len(names)
    for organ in organ_table.values():
        assert organ.code.isdigit(), organ.key
        assert organ.interpreted_type in {"ORGAN", "EXTERNAL"}, organ.key
        assert set(organ.name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_~^-")


def test_left_and_right_are_named_and_sided_alike(organ_table: OrganTable) -> None:
    for organ in organ_table.values():
        assert (organ.side is Side.LEFT) == organ.key.endswith("_left") == organ.name.endswith("_L"), (
            organ.key
        )
        assert (organ.side is Side.RIGHT) == organ.key.endswith("_right") == organ.name.endswith("_R"), (
            organ.key
        )


def test_the_organs_of_the_starter_model_are_in_the_table(organ_table: OrganTable) -> None:
    for key in (
        "brainstem",
        "spinal_cord",
        "parotid_left",
        "parotid_right",
        "mandible",
        "larynx",
        "esophagus",
    ):
        assert key in organ_table
        assert organ_table[key].key == key


def test_an_unknown_key_is_named(organ_table: OrganTable) -> None:
    assert "liver" in organ_table
    assert "livre" not in organ_table
    with pytest.raises(OrganUnknown, match="livre"):
        organ_table["livre"]


def test_a_row_becomes_an_organ(tmp_path: Path) -> None:
    path = tmp_path / "organs.toml"
    path.write_text(GOOD + 'side = "left"\n')
    table = load_organs(path)
    assert list(table) == ["mandible"]
    organ = table["mandible"]
    assert (organ.name, organ.color, organ.display, organ.side) == (
        "Bone_Mandible",
        (1, 2, 3),
        (4, 5, 6),
        Side.LEFT,
    )
    assert (organ.category, organ.interpreted_type) == ("91723000", "ORGAN")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("name", "nom"), "lacks name"),
        (("name", "nom"), "unknown setting nom"),
        (('"Bone_Mandible"', '"A_name_of_seventeen"'), "1 to 16 characters"),
        (('"Bone_Mandible"', '""'), "1 to 16 characters"),
        (('"91609006"', "91609006"), "code must be text"),
        (("[1, 2, 3]", "[1, 2]"), "color must be three"),
        (("[1, 2, 3]", '"red"'), "color must be three"),
        (("[4, 5, 6]", "[4, 5, 256]"), "display must be three"),
        (("[4, 5, 6]", "[4, 5, true]"), "display must be three"),
        (("display", 'side = "middle"\ndisplay'), 'side must be "left" or "right"'),
    ],
)
def test_every_mistake_in_a_row_is_reported(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert expected in problems(tmp_path, GOOD.replace(*change))


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    second = GOOD.replace("[mandible]", "[jaw]").replace("Bone_Mandible", "BONE_MANDIBLE")
    third = GOOD.replace("[mandible]", "[chin]").replace("color", "colour")
    detail = problems(tmp_path, "liver = 5\n" + GOOD + second + third)
    assert "liver is not a table" in detail
    assert "jaw has the same name as mandible" in detail
    assert "chin lacks color" in detail
    assert "4 problems" in detail


def test_a_file_is_parsed_again_only_once_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "organs.toml"
    path.write_text(GOOD)
    first = load_organs(path)
    assert load_organs(path) is first
    path.write_text(GOOD.replace("Bone_Mandible", "Jaw"))
    assert load_organs(path)["mandible"].name == "Jaw"


def test_a_table_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    assert "organs.toml" in problems(tmp_path, "[mandible")
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_organs(tmp_path / "nowhere.toml")
