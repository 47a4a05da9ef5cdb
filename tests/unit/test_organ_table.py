"""A machine has organs of its own beside those that come with the node."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import ConfigError
from orgseg_node.organ_table import organ_table as table_of_this_machine

_ROW = """
[hydrogel]
name = "{name}"
code = "123037004"
meaning = "Spacer"
color = [1, 2, 3]
display = [1, 2, 3]
"""


def test_own_organs_are_added_to_the_shipped_ones(
    organ_table: OrganTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORGSEG_ORGANS", raising=False)
    assert dict(table_of_this_machine()) == dict(organ_table)
    own = tmp_path / "own.toml"
    own.write_text(_ROW.format(name="Hydrogel"))
    monkeypatch.setenv("ORGSEG_ORGANS", str(own))
    assert set(table_of_this_machine()) - set(organ_table) == {"hydrogel"}
    own.write_text(_ROW.format(name="LIVER"))
    with pytest.raises(ConfigError, match="hydrogel has the same name as liver"):
        table_of_this_machine()
    own.unlink()
    with pytest.raises(ConfigError, match=r"own\.toml"):
        table_of_this_machine()
