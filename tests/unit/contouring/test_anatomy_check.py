"""What follows from an implausible organ: it is left out, held or flagged, and every object says so."""

from __future__ import annotations

import numpy as np
import pytest

from orgseg_node.contouring.objects import RequestedObjects, trace_contours
from orgseg_node.contouring.protocol import parse_protocol
from orgseg_node.contouring.structures import AppliedProtocol, apply_protocol
from orgseg_node.core.anatomy.plausibility import Judgement
from orgseg_node.core.checks import Finding, Grade, Level
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.errors import ConfigError, NothingPlausible

GRID = Grid(shape=(8, 20, 20), spacing_mm=(3.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))


def result(table: OrganTable, **content: object) -> AppliedProtocol:
    """A protocol applied to two organs, the first of which is implausible, the second unusual."""
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[2:6, 4:8, 4:8], labels[2:6, 12:16, 12:16] = 1, 2
    organs = {1: table["brainstem"], 2: table["larynx"]}

    def judge(label_map: LabelMap) -> Judgement:
        grades = {"brainstem": Grade.IMPLAUSIBLE, "larynx": Grade.UNUSUAL}
        return Judgement(
            findings=tuple(
                Finding(level=Level.WARNING, code=f"ORGAN_{grades[o.key]}", message="x.", organ=o.key)
                if o.key not in grades
                else Finding(
                    level=Level.WARNING, code="ORGAN", message="It is so.", organ=o.key, grade=grades[o.key]
                )
                for o in label_map.organs.values()
            )
        )

    body = np.ones(GRID.shape, dtype=np.bool_)
    protocol = parse_protocol(content, "test")
    return apply_protocol(protocol, LabelMap(grid=GRID, labels=labels, organs=organs), body, table, judge)


def test_by_default_it_is_left_out_and_the_other_stays(organ_table: OrganTable) -> None:
    applied = result(organ_table)
    assert [organ.key for organ in applied.left_out] == ["brainstem"]
    assert applied.label_map.voxel_counts() == {1: 0, 2: 64}
    assert applied.warnings == {
        "brainstem": "LEFT OUT: implausible",
        "larynx": "LOOK AT IT: unusual",
    }
    assert {f.level for f in applied.judgement.findings} == {Level.WARNING}
    assert "It is left out." in applied.judgement.findings[0].message
    assert {"structure": "brainstem", "done": "left out: implausible"} in applied.recorded


def test_the_contours_carry_the_warnings(organ_table: OrganTable) -> None:
    (structures,) = trace_contours(result(organ_table), RequestedObjects()).values()
    assert [structure.organ.key for structure in structures.structures] == ["larynx"]
    assert structures.warnings["brainstem"] == "LEFT OUT: implausible"


def test_nothing_is_derived_from_what_is_left_out(organ_table: OrganTable) -> None:
    entry = {"name": "PRV", "derive": "margin", "from": ["brainstem"], "margin_mm": 3.0}
    applied = result(organ_table, structures=[entry], others="drop")
    assert applied.regions == ()
    assert [organ.key for organ in applied.left_out] == ["brainstem"]


@pytest.mark.parametrize(("setting", "level"), [("hold", Level.ERROR), ("flag", Level.WARNING)])
def test_a_protocol_may_hold_or_send_it(organ_table: OrganTable, setting: str, level: Level) -> None:
    applied = result(organ_table, implausible=setting)
    assert applied.left_out == ()
    assert applied.label_map.voxel_counts() == {1: 64, 2: 64}
    assert applied.judgement.findings[0].level is level
    assert applied.warnings["brainstem"] == "LOOK AT IT: implausible"


def test_an_entry_goes_before_the_protocol(organ_table: OrganTable) -> None:
    applied = result(organ_table, structures=[{"organ": "brainstem", "implausible": "flag"}])
    assert applied.left_out == ()


def test_an_unknown_consequence_is_refused(organ_table: OrganTable) -> None:
    with pytest.raises(ConfigError, match="implausible"):
        result(organ_table, implausible="ignore")


def test_the_consequence_changes_the_protocol_and_so_the_job() -> None:
    hashes = {parse_protocol({"implausible": word}, "x").sha256 for word in ("drop", "hold", "flag")}
    assert len(hashes) == 3


def test_when_all_are_left_out_the_reason_is_given(organ_table: OrganTable) -> None:
    applied = result(organ_table, structures=[{"organ": "brainstem"}], others="drop")
    with pytest.raises(NothingPlausible, match="Brainstem"):
        trace_contours(applied, RequestedObjects())
