"""A structure left out by a person: the objects are made anew from the kept result, and say so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from orgseg_node.contouring.objects import RequestedObjects
from orgseg_node.contouring.pipeline import Request, run
from orgseg_node.contouring.protocol import Protocol, parse_protocol
from orgseg_node.contouring.revision.kept_result import KEPT, keep, load_kept
from orgseg_node.contouring.revision.leaving_out import Before, make_without
from orgseg_node.core.contours import Contour
from orgseg_node.core.organs import OrganTable, load_organs
from orgseg_node.dicom.objects.rtstruct import read_rtstruct
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.errors import OptionInvalid, ProofFailed, ResultUnreadable
from orgseg_node.shipped import shipped_config
from tests.support.ct.objects import series_of
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.models.threshold_predictor import ThresholdPredictor

CREATED = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 15, 0, tzinfo=UTC)
ORGANS = load_organs(shipped_config("organs.toml"))
ROLES = ("RTSTRUCT", "SEG", "SR", "PDF", "RTSTRUCT:eclipse")
PROTOCOL: dict[str, Any] = {
    "structures": [
        {"organ": "spinal_cord"},
        {"organ": "parotid_left"},
        {"organ": "brainstem"},
        {"name": "Cord_PRV", "derive": "margin", "from": ["spinal_cord"], "margin_mm": 5},
        {"name": "Both", "derive": "union", "from": ["Cord_PRV", "brainstem"]},
    ],
    "external": {"name": "BODY"},
}


@pytest.fixture
def series(tmp_path: Path) -> CtSeries:
    """The phantom on half as many slices."""
    return series_of(tmp_path / "ct", PhantomOptions(slices=12, slice_spacing_mm=6.0))


def before_of(
    series: CtSeries,
    table: OrganTable,
    out: Path,
    protocol: Mapping[str, Any] | None = None,
    remark: str = "",
) -> Before:
    """A contoured series, as a node keeps it."""
    parsed = Protocol() if protocol is None else parse_protocol(protocol, "test")
    requested = RequestedObjects(roles=ROLES)
    request = Request(
        series=series, out=out, job_id="job-1", created=CREATED, organs=ORGANS,
        protocol=parsed, requested=requested, remark=remark, keep=True,
    )  # fmt: skip
    outcome = run(request, ThresholdPredictor(organs=table), lambda *_: None)
    return Before(
        series=series,
        kept=(out / KEPT).read_bytes(),
        report=json.loads(outcome.report_path.read_text()),
        objects={role: path.read_bytes() for role, path in outcome.objects.items()},
        requested=requested,
        protocol=parsed,
    )


def is_same(one: Sequence[Contour], other: Sequence[Contour]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(a.k == b.k and np.array_equal(a.points, b.points) for a, b in pairs)


def without(before: Before, structure: str, out: Path, number: int = 2) -> dict[str, pydicom.Dataset]:
    made = make_without(before, structure, out, number=number, created=LATER)
    return {role: pydicom.dcmread(path) for role, path in made.objects.items()}


def test_every_object_is_new_and_says_that_an_organ_was_left_out(
    series: CtSeries, organ_table: OrganTable, tmp_path: Path
) -> None:
    before = before_of(series, organ_table, tmp_path / "out")
    old = {role: pydicom.dcmread(tmp_path / "out" / f"{role.replace(':', '-')}.dcm") for role in ROLES}
    new = without(before, "SpinalCord", tmp_path / "new")
    assert set(new) == set(ROLES)
    for role in ROLES:
        assert new[role].SOPInstanceUID != old[role].SOPInstanceUID, role
        assert new[role].SeriesInstanceUID != old[role].SeriesInstanceUID, role
        assert "ORGAN LEFT OUT" in new[role].SeriesDescription, role
    rtstruct, seg = new["RTSTRUCT"], new["SEG"]
    assert rtstruct.StructureSetDescription.startswith("SpinalCord: LEFT OUT: by a person, before sending. ")
    assert rtstruct.StructureSetTime == "150000"
    assert "SpinalCord" not in {roi.ROIName for roi in rtstruct.StructureSetROISequence}
    assert "SpinalCord" not in {segment.SegmentLabel for segment in seg.SegmentSequence}
    # what stays is exactly what it was, and both refer to each other and not to the old ones
    was, now = read_rtstruct(old["RTSTRUCT"], series), read_rtstruct(rtstruct, series)
    assert set(was) - set(now) == {"SpinalCord"}
    assert all(is_same(was[name], now[name]) for name in now)
    assert rtstruct.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
    assert seg.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == rtstruct.SOPInstanceUID
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    row = next(one for one in report["organs"] if one["key"] == "spinal_cord")
    assert (row["voxels"], row["contours"], row["left_out"]) == (0, 0, True)
    assert "STRUCTURE_LEFT_OUT" in {one["code"] for one in report["findings"]}


def test_what_is_derived_from_it_is_left_out_too_and_the_rest_stays(
    series: CtSeries, organ_table: OrganTable, tmp_path: Path
) -> None:
    before = before_of(series, organ_table, tmp_path / "out", PROTOCOL)
    was = read_rtstruct(pydicom.dcmread(tmp_path / "out" / "RTSTRUCT.dcm"), series)
    assert {"Cord_PRV", "Both", "BODY"} <= set(was)
    made = make_without(before, "spinal_cord", tmp_path / "new", number=2, created=LATER)
    assert made.names == ("SpinalCord", "Cord_PRV", "Both")
    now = read_rtstruct(pydicom.dcmread(tmp_path / "new" / "RTSTRUCT.dcm"), series)
    assert set(was) - set(now) == {"SpinalCord", "Cord_PRV", "Both"}
    assert all(is_same(was[name], now[name]) for name in now)


def test_a_second_organ_is_left_out_of_the_new_objects(
    series: CtSeries, organ_table: OrganTable, tmp_path: Path
) -> None:
    before = before_of(series, organ_table, tmp_path / "out", remark="REV 2: Images came later.")
    first = make_without(before, "spinal_cord", tmp_path / "a", number=2, created=LATER)
    again = replace(
        before,
        kept=(tmp_path / "a" / KEPT).read_bytes(),
        report=json.loads((tmp_path / "a" / "report.json").read_text()),
        objects={role: path.read_bytes() for role, path in first.objects.items()},
    )
    new = without(again, "Parotid_L", tmp_path / "b", number=3)["RTSTRUCT"]
    assert new.SeriesDescription == "AUTO CONTOURS UNREVIEWED REV 2 ORGAN LEFT OUT"
    assert "Images came later. SpinalCord left out" in new.StructureSetDescription
    assert "Parotid_L left out by a person before sending." in new.StructureSetDescription
    uids = {
        pydicom.dcmread(path / "RTSTRUCT.dcm").SOPInstanceUID for path in (tmp_path / "out", tmp_path / "a")
    }
    assert new.SOPInstanceUID not in uids
    with pytest.raises(OptionInvalid):  # it is gone already
        make_without(again, "spinal_cord", tmp_path / "c", number=4, created=LATER)


def test_on_slices_at_irregular_distances_the_rest_is_exactly_the_same(
    organ_table: OrganTable, tmp_path: Path
) -> None:
    (tmp_path / "ct").mkdir()
    build_ct_series(tmp_path / "ct", PhantomOptions(shear=0.2))
    series = read_series(tmp_path / "ct")
    assert not series.is_regular
    before = before_of(series, organ_table, tmp_path / "out")
    was = read_rtstruct(pydicom.dcmread(tmp_path / "out" / "RTSTRUCT.dcm"), series)
    now = read_rtstruct(without(before, "SpinalCord", tmp_path / "new")["RTSTRUCT"], series)
    assert all(is_same(was[name], now[name]) for name in now)


def test_nothing_is_made_from_a_kept_result_that_differs_from_the_objects(
    series: CtSeries, organ_table: OrganTable, tmp_path: Path
) -> None:
    before = before_of(series, organ_table, tmp_path / "out")
    result = load_kept(before.kept, series)
    labels = result.applied.label_map.labels.copy()
    labels[tuple(np.argwhere(labels)[0])] = 0
    other = replace(
        result, applied=replace(result.applied, label_map=replace(result.applied.label_map, labels=labels))
    )
    with pytest.raises(ProofFailed):
        without(replace(before, kept=keep(other)[KEPT]), "SpinalCord", tmp_path / "new")
    with pytest.raises(ResultUnreadable):
        without(replace(before, kept=before.kept[:500]), "SpinalCord", tmp_path / "new")
    with pytest.raises(OptionInvalid):
        without(before, "Liver", tmp_path / "new")
    assert not (tmp_path / "new").exists()
