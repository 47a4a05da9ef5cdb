"""Settings of a protocol are changed in its text: nothing else of the file changes."""

from __future__ import annotations

import difflib
import tomllib

import pytest

from orgseg_node.contouring.protocol import parse_protocol, protocol_names, protocol_of_text
from orgseg_node.contouring.protocol_text import (
    add_organ,
    change_settings,
    differences,
    remove_structure,
    settings_of_text,
    typed_value,
)
from orgseg_node.errors import OptionInvalid, ProtocolInvalid
from orgseg_node.shipped import shipped_config

TEXT = """# ours
others = "keep"  # all of them

# the cord
[[structures]]
organ = "spinal_cord"
min_ml = 2  # small

[[structures]]
name = "PRV"
derive = "margin"
from = ["spinal_cord"]
margin_mm = 5
"""


def lines_of_change(before: str, after: str) -> list[str]:
    return [one for one in difflib.ndiff(before.splitlines(), after.splitlines()) if one[0] in "+-"]


def test_only_the_line_of_a_setting_changes() -> None:
    assert lines_of_change(TEXT, change_settings(TEXT, {"others": "drop"})) == [
        '- others = "keep"  # all of them',
        '+ others = "drop"  # all of them',
    ]
    assert lines_of_change(TEXT, change_settings(TEXT, {"min_ml": "0.5"}, 0)) == [
        "- min_ml = 2  # small",
        "+ min_ml = 0.5  # small",
    ]
    assert lines_of_change(TEXT, change_settings(TEXT, {"color": "#ff0010"}, 1)) == ["+ color = [255, 0, 16]"]
    assert lines_of_change(TEXT, change_settings(TEXT, {"margin_mm": ""}, 1)) == ["- margin_mm = 5"]
    assert lines_of_change(TEXT, change_settings(TEXT, {"implausible": "hold"})) == ['+ implausible = "hold"']
    assert change_settings(TEXT, {}) == TEXT


@pytest.mark.parametrize("name", protocol_names())
def test_shipped_protocols_stay_valid_with_every_kind_of_change(name: str) -> None:
    text = (shipped_config("protocols") / f"{name}.toml").read_text(encoding="utf-8")
    assert change_settings(text, {}, 0) == text
    changed = change_settings(text, {"implausible": "flag", "description": 'A "new" one'})
    changed = change_settings(changed, {"name": "Ours", "min_ml": "1"}, 0)
    changed = (
        remove_structure(add_organ(changed, "heart"), 0)
        if name == "default"
        else add_organ(changed, "lens_left")
    )
    protocol = protocol_of_text(changed, name)
    assert protocol.implausible == "flag"
    assert protocol.description == 'A "new" one'
    before = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in changed.splitlines() if line.startswith("#")] == before, "comments stay"


def test_what_is_no_number_stays_text_and_is_refused_by_the_reader() -> None:
    text = change_settings(TEXT, {"min_ml": "much"}, 0)
    with pytest.raises(ProtocolInvalid, match=r"structures\.1\.min_ml: .*number"):
        protocol_of_text(text, "x")
    for typed in ('"]\nname = "x', "'''", "\\", "é\u202e", "[1, 2", "1e999", "nan"):
        settings = tomllib.loads(change_settings(TEXT, {"name": typed}, 0))["structures"][0]
        assert settings["name"] == typed.strip()
        tomllib.loads(change_settings(TEXT, {"min_ml": typed}, 0))
        assert tomllib.loads(change_settings(TEXT, {"implausible": typed}))["implausible"] == typed.strip()
        assert tomllib.loads(add_organ(TEXT, typed))["structures"][-1]["organ"] == typed


@pytest.mark.parametrize(
    "head", ["", "# only a comment", "# c\n\n[external]\nname = 'B'\n", "[[structures]]\norgan = 'heart'"]
)
def test_a_new_setting_never_falls_into_a_table(head: str) -> None:
    assert tomllib.loads(change_settings(head, {"others": "drop"}))["others"] == "drop"


def test_a_text_that_is_no_toml_or_has_other_structures_is_refused() -> None:
    for text in ("a = ", "[[", "x = [" * 500, "a = 1\na = 2"):
        with pytest.raises(ProtocolInvalid):
            change_settings(text, {"others": "drop"})
        assert settings_of_text(text) == {}
    for index in (2, 99):
        with pytest.raises(OptionInvalid):
            change_settings(TEXT, {"name": "x"}, index)
    with pytest.raises(OptionInvalid):
        remove_structure("structures = 3", 0)


def test_differences_are_named_for_the_history() -> None:
    old = protocol_of_text(TEXT, "x")
    new = parse_protocol(
        {
            "others": "drop",
            "structures": [
                {"organ": "heart"},
                {"organ": "spinal_cord", "min_ml": 2, "name": "Myelon"},
            ],
        },
        "x",
    )
    assert differences(old, new) == (
        "others 'keep' -> 'drop'",
        "PRV removed",
        "heart added",
        "spinal_cord.name None -> 'Myelon'",
    )
    assert differences(old, old) == ()
    many = parse_protocol({"structures": [{"organ": f"o{n}"} for n in range(60)]}, "x")
    assert differences(old, many)[-1] == "and 22 more"


def test_values_are_shown_as_they_are_typed() -> None:
    shown = [typed_value(one) for one in (None, True, 2, 0.5, [255, 0, 16], [300, -1, 0], "x", [1])]
    assert shown == ["", "true", "2", "0.5", "#ff0010", "#ff0000", "x", "[1]"]
