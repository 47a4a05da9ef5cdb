"""A protocol tried on a contoured CT: what changes, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orgseg_node.contouring.anatomy_check import AnatomyRules, organ_judge
from orgseg_node.contouring.label_export import mask_on_slices
from orgseg_node.contouring.pipeline import Request, run
from orgseg_node.contouring.protocol import parse_protocol
from orgseg_node.contouring.revision.found_result import FOUND, keep_found, load_found
from orgseg_node.contouring.revision.kept_result import KEPT, load_kept
from orgseg_node.contouring.revision.trial import Case, Change, Trial, TriedStructure, try_protocol
from orgseg_node.core.anatomy.plausibility import Judgement
from orgseg_node.core.body import find_body
from orgseg_node.core.checks import Finding, Grade, Level
from orgseg_node.core.contours import rasterise
from orgseg_node.core.organs import OrganTable, load_organs
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.errors import NothingFound, ResultUnreadable
from orgseg_node.shipped import shipped_config
from tests.support.models.threshold_predictor import ThresholdPredictor

TABLE = load_organs(shipped_config("organs.toml"))
OLD: dict[str, Any] = {
    "structures": [
        {"organ": "spinal_cord"},
        {"organ": "parotid_left"},
        {"name": "PRV", "derive": "margin", "from": ["spinal_cord"], "margin_mm": 3},
    ],
}


@pytest.fixture(scope="module", params=[False, True], ids=["regular", "irregular"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ct: Path) -> Case:
    series = read_series(_gapped(ct, tmp_path_factory.mktemp("gapped")) if request.param else ct)
    return case_of(series, TABLE, tmp_path_factory.mktemp("case"), OLD)


def _gapped(ct: Path, folder: Path) -> Path:
    """The same CT without one of its slices."""
    slices = read_series(ct).slices
    for one in slices:
        if one is not slices[len(slices) // 2]:
            (folder / one.path.name).write_bytes(one.path.read_bytes())
    return folder


def case_of(series: CtSeries, table: OrganTable, out: Path, protocol: Mapping[str, Any]) -> Case:
    """A CT as the pipeline contours and keeps it."""
    parsed = parse_protocol(protocol, "test")
    created = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    request = Request(
        series=series, out=out, job_id="j", created=created, organs=table, protocol=parsed, keep=True
    )
    run(request, ThresholdPredictor(organs=table), lambda *_: None)
    volume = read_volume(series)
    body = find_body(volume)
    found = load_found((out / FOUND).read_bytes(), series)
    return Case(
        kept=load_kept((out / KEPT).read_bytes(), series),
        found=found,
        protocol=parsed,
        body=mask_on_slices(body.mask, series),
        judge=organ_judge(AnatomyRules(), (volume, body), found.found_by, None),
    )


def tried(case: Case, **change: Any) -> tuple[Trial, dict[str, TriedStructure]]:
    trial = try_protocol(case, parse_protocol({**OLD, **change}, "test"), TABLE)
    return trial, {one.key: one for one in trial.structures}


def test_the_same_protocol_changes_nothing(case: Case) -> None:
    trial, rows = tried(case)
    assert set(rows) >= {"spinal_cord", "parotid_left", "derived prv", "brainstem"}
    assert {one.change for one in rows.values()} == {Change.SAME}
    assert {one.dice for one in rows.values()} == {1.0}
    assert (trial.new, trial.gone, trial.drifted, trial.held) == ((), (), (), False)
    assert not any(one.contours for one in rows.values())


def test_each_change_is_named_with_volumes_dice_and_contours(case: Case) -> None:
    structures = [
        {"organ": "spinal_cord", "name": "Myelon", "color": [1, 2, 3]},
        {"organ": "brainstem", "min_ml": 1e6},
        {"organ": "liver"},
        {"name": "PRV", "derive": "margin", "from": ["spinal_cord"], "margin_mm": 6},
        {"name": "Both", "derive": "union", "from": ["parotid_left", "spinal_cord"]},
    ]
    trial, rows = tried(case, structures=structures, others="drop")
    changes = {key: one.change for key, one in rows.items()}
    assert changes == {
        "spinal_cord": Change.RENAMED,
        "brainstem": Change.REMOVED,
        "derived prv": Change.CHANGED,
        "derived both": Change.ADDED,
        **dict.fromkeys(
            changes.keys() - {"spinal_cord", "brainstem", "derived prv", "derived both"}, Change.REMOVED
        ),
    }
    cord, prv = rows["spinal_cord"], rows["derived prv"]
    assert cord.before is not None
    assert cord.after is not None
    assert (cord.after.name, cord.after.color, cord.dice) == ("Myelon", (1, 2, 3), 1.0)
    assert "min_ml" in rows["brainstem"].why
    assert rows["parotid_right"].why == "left out: not listed"
    assert trial.absent == {"liver": "no model looks for it"}
    assert any(one.code == "ORGAN_TOO_SMALL" for one in trial.new)
    # volumes, Dice and contours against a calculation of their own
    place, kept = case.found.label_map.grid, case.kept.applied
    old = next(one for one in kept.regions if one.organ.key == "derived prv").full(
        kept.label_map.labels.shape
    )
    new = rasterise(prv.contours, place)
    weights = place.slice_ml[:, None, None]
    before, after, both = (float((mask * weights).sum()) for mask in (old, new, old & new))
    assert prv.before is not None
    assert prv.after is not None
    assert prv.before.ml == pytest.approx(before, abs=1e-3)
    assert prv.after.ml == pytest.approx(after, abs=1e-3)
    assert after > before
    assert prv.dice == pytest.approx(2 * both / (before + after))
    areas = (old != new).sum(axis=(1, 2)) * np.prod(place.pixel_spacing_mm)
    assert prv.worst[0][1] == pytest.approx(float(areas.max()), abs=0.1)
    assert [area for _, area in prv.worst] == sorted((area for _, area in prv.worst), reverse=True)


def test_an_implausible_organ_is_flagged_dropped_or_held_as_the_protocol_says(case: Case) -> None:
    bad = Finding(
        level=Level.WARNING,
        code="ORGAN_IMPLAUSIBLE",
        message="Wrong.",
        organ="brainstem",
        grade=Grade.IMPLAUSIBLE,
    )
    doubtful = replace(case, judge=lambda _: Judgement(findings=(bad,)))
    trial, rows = tried(doubtful)
    assert (rows["brainstem"].change, rows["brainstem"].why) == (Change.REMOVED, "left out: implausible")
    assert trial.drifted == (TABLE["brainstem"].name,), "the old protocol drops it today, too"
    trial, rows = tried(doubtful, implausible="flag")
    assert rows["brainstem"].after is not None
    assert rows["brainstem"].after.flag == "LOOK AT IT: implausible"
    assert not trial.held
    trial, _ = tried(doubtful, implausible="hold")
    assert trial.held


def test_a_person_left_an_organ_out_and_the_protocol_brings_it_back(case: Case) -> None:
    applied = case.kept.applied
    label = next(n for n, organ in applied.label_map.organs.items() if organ.key == "brainstem")
    labels = np.where(applied.label_map.labels == label, np.uint8(0), applied.label_map.labels)
    without = replace(applied, label_map=replace(applied.label_map, labels=labels), removed=("brainstem",))
    trial, rows = tried(replace(case, kept=replace(case.kept, applied=without)))
    assert rows["brainstem"].change is Change.ADDED
    assert rows["brainstem"].why == "left out by a person, before sending"
    assert rows["brainstem"].contours
    assert trial.drifted == ()


def test_nothing_left_is_said(case: Case) -> None:
    with pytest.raises(NothingFound):
        try_protocol(
            case, parse_protocol({"others": "drop", "structures": [{"organ": "liver"}]}, "test"), TABLE
        )


def test_organs_that_were_not_asked_for_are_named(case: Case) -> None:
    narrow = replace(case, found=replace(case.found, not_searched=("heart", "liver")))
    assert tried(narrow)[0].not_searched == ("heart", "liver")
    assert tried(narrow, others="drop")[0].not_searched == ()
    listed = [{"organ": "liver"}, {"organ": "spinal_cord"}]
    assert tried(narrow, others="drop", structures=listed)[0].not_searched == ("liver",)


def test_what_was_found_is_kept_to_the_voxel_or_refused(case: Case) -> None:
    content = keep_found(case.found)[FOUND]
    assert keep_found(case.found)[FOUND] == content
    series = case.kept.series
    again = load_found(content, series)
    assert np.array_equal(again.label_map.labels, case.found.label_map.labels)
    assert dict(again.label_map.organs) == dict(case.found.label_map.organs)
    assert again.found_by == case.found.found_by
    middle = content[: len(content) // 2] + b"\xff" * 40 + content[len(content) // 2 + 40 :]
    for damaged in (b"", content[: len(content) // 2], content.replace(b"about", b"abaut"), middle):
        with pytest.raises(ResultUnreadable):
            load_found(damaged, series)
    with np.load(io.BytesIO(content)) as arrays:
        other = io.BytesIO()
        np.savez_compressed(other, about=arrays["about"], labels=arrays["labels"][1:])
    with pytest.raises(ResultUnreadable, match="another series"):
        load_found(other.getvalue(), series)
