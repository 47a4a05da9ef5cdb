"""A guide is a part of its bundle, and is used only after a measurement in which it missed nothing."""

from __future__ import annotations

import datetime as dt
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import typer

from orgseg_node.cli.ct.guide import calibrate_guide
from orgseg_node.errors import BundleHashMismatch, BundleInvalid, GuideUnsuitable
from orgseg_node.inference.backends import guided_calibrating
from orgseg_node.inference.backends.guided.guide import allowed_run
from orgseg_node.inference.backends.guided_calibrating import GuidedCandidate, GuidedResult
from orgseg_node.inference.bundles.bundle import ModelBundle, Part, open_bundle, verify_bundle
from orgseg_node.inference.bundles.calibration import ReferenceCt
from orgseg_node.inference.bundles.manifest import Guide, Preprocessing, parse_manifest, render_manifest
from orgseg_node.inference.bundles.tables.guided_calibration import (
    MIN_CONTOURED_CTS,
    MIN_GUIDED_DICE,
    NON_INFERIORITY_DICE,
    AgainstContours,
    GuidedAgreement,
    GuidedCalibration,
)
from orgseg_node.inference.guide import allow_guide, attach_guide
from orgseg_node.inference.predictor import (
    GuidedNetwork,
    GuidedOutcome,
    InferenceSettings,
    SparseOutcome,
    describe_guidance,
)
from tests.support.models.bundles import a_manifest, write_bundle
from tests.support.node.command_line import orgseg

_GOOD = GuidedAgreement(dice=MIN_GUIDED_DICE, found_on=2, missed_on=0, whole_on=1)
_CONTOURS = AgainstContours(cts=MIN_CONTOURED_CTS, unguided=0.81, guided=0.808, lower=-NON_INFERIORITY_DICE)


def a_guided_calibration(**organs: GuidedAgreement) -> GuidedCalibration:
    return GuidedCalibration(
        backend="exact",
        layout="once",
        margin_mm=10.0,
        sparse=True,
        suspicion=0.05,
        explained=True,
        date=dt.date(2026, 1, 31),
        references=(ReferenceCt(sha256="a" * 64, voxels=7), ReferenceCt(sha256="b" * 64, voxels=9)),
        organs={"spleen": _GOOD, "liver": _GOOD} | organs,
    )


def _guide(**changes: Any) -> Guide:
    part = Part(folder="guide/0", configuration="3d_lowres", folds=("0",), labels={1: "liver", 2: "spleen"})
    guide = Guide(
        name="coarse",
        version="2",
        sha256="d" * 64,
        preprocessing=Preprocessing(orientation="RAS"),
        mirroring=False,
        tile_step_size=1.0,
        parts=(part,),
        calibration=a_guided_calibration(liver=replace(_GOOD, dice=0.9, contours=_CONTOURS)),
    )
    return replace(guide, **changes)


_FILES = dict.fromkeys(
    ("card.md", *(f"{folder}/{name}" for folder in ("parts/main", "guide/0") for name in (
        "plans.json", "dataset.json", "fold_0.safetensors"))),
    "0" * 64,
)  # fmt: skip


def _document() -> dict[str, Any]:
    return tomllib.loads(render_manifest(a_manifest(guide=_guide(), files=_FILES)).decode())


def test_a_guide_is_read_back_as_it_was_written() -> None:
    for guide in (_guide(), _guide(calibration=None), None):
        manifest = a_manifest(guide=guide, files=_FILES)
        content = render_manifest(manifest)
        assert parse_manifest(content) == manifest
        assert render_manifest(parse_manifest(content)) == content
    assert _guide().organs == ("liver", "spleen")
    assert a_manifest(guide=_guide()).organs == ("spleen", "liver"), "the guide adds no organ"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": ""}, "guide.name must be text"),
        ({"sha256": "x"}, "guide.sha256: not a SHA-256"),
        ({"mirroring": 1}, "guide.mirroring must be true or false"),
        ({"tile_step_size": 0}, "guide.tile_step_size must be above 0"),
        ({"colour": 1}, "guide.colour is not known"),
        ({"parts": []}, "guide.parts must hold at least one"),
        ({"preprocessing": {"orientation": "LLL"}}, "guide.preprocessing.orientation must be three letters"),
        ({"calibration": 1}, "guide.calibration must be a table"),
    ],
)
def test_each_problem_of_a_guide_is_named(change: dict[str, Any], expected: str) -> None:
    document = _document()
    document["guide"] |= change
    assert expected in _problems(document)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"backend": "slow"}, "calibration.backend must be exact or fast"),
        ({"layout": "thrice"}, "calibration.layout must be few, once, nnunet"),
        ({"margin_mm": -1}, "calibration.margin_mm must be 0 to 1000"),
        ({"sparse": 1}, "calibration.sparse must be true or false"),
        ({"explained": 1}, "calibration.explained must be true or false"),
        ({"suspicion": 0.7}, "calibration.suspicion must be above 0 and at most 0.5"),
        ({"date": "2026-01-31"}, "calibration.date must be a date"),
        ({"references": []}, "at least one [[guide.calibration.references]]"),
        ({"organs": {"spleen": {}}}, "organs.spleen.dice is missing"),
        ({"organs": 1}, "organs must be tables"),
    ],
)
def test_each_problem_of_its_calibration_is_named(change: dict[str, Any], expected: str) -> None:
    document = _document()
    document["guide"]["calibration"] |= change
    assert expected in _problems(document)


def test_a_calibration_from_before_the_sparse_pass_does_not_allow_it() -> None:
    document = _document()
    del document["guide"]["calibration"]["sparse"]
    guide = parse_manifest(tomli_w.dumps(document).encode()).guide
    assert guide is not None
    assert guide.calibration is not None
    assert not guide.calibration.sparse
    assert "sparse" not in guide.calibration.describe()
    assert "sparse first pass" in a_guided_calibration().describe()


def test_its_files_are_among_those_of_the_bundle_and_all_organs_are_measured() -> None:
    document = _document()
    del document["files"]["guide/0/plans.json"]
    assert "guide.parts 1: guide/0/plans.json is not among files" in _problems(document)
    document = _document()
    del document["guide"]["calibration"]["organs"]["liver"]
    assert "guide.calibration.organs.liver is missing" in _problems(document)
    document = _document()
    document["guide"]["parts"][0]["folder"] = "parts/main"
    assert "two parts share the folder parts/main" in _problems(document)


def _problems(document: dict[str, Any]) -> str:
    with pytest.raises(BundleInvalid) as caught:
        parse_manifest(tomli_w.dumps(document).encode())
    return caught.value.detail


@pytest.mark.parametrize(
    ("organ", "expected"),
    [
        (_GOOD, ()),
        (replace(_GOOD, dice=0.9, contours=_CONTOURS), ()),
        (replace(_GOOD, missed_on=1), ("the guide missed liver on 1 of 2 CT(s)",)),
        (replace(_GOOD, dice=0.9949), ("the Dice of liver is 0.9949, below 0.995",)),
        (
            replace(_GOOD, dice=0.9, contours=replace(_CONTOURS, lower=-0.0101)),
            ("the Dice of liver is 0.9000, below 0.995",),
        ),
        (
            replace(_GOOD, dice=0.9, contours=replace(_CONTOURS, cts=MIN_CONTOURED_CTS - 1)),
            ("the Dice of liver is 0.9000, below 0.995",),
        ),
    ],
)
def test_a_miss_or_another_organ_refuses_the_guide(organ: GuidedAgreement, expected: tuple[str, ...]) -> None:
    assert a_guided_calibration(liver=organ).shortcomings == expected


def test_a_measurement_in_which_no_organ_was_found_proves_nothing() -> None:
    nothing = replace(_GOOD, found_on=0, dice=1.0)
    assert a_guided_calibration(liver=nothing, spleen=nothing).shortcomings
    assert not a_guided_calibration(liver=nothing).shortcomings
    assert a_guided_calibration(liver=nothing).never_found == ("liver",)


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return write_bundle(tmp_path / "paper-bundle")


@pytest.fixture
def coarse(tmp_path: Path) -> ModelBundle:
    return write_bundle(tmp_path / "coarse", name="coarse", tile_step_size=0.5)


def test_the_networks_of_another_bundle_are_copied_and_hashed(
    bundle: ModelBundle, coarse: ModelBundle
) -> None:
    changed = attach_guide(bundle, coarse, 1.0)
    assert changed.sha256 != bundle.sha256
    guide = changed.manifest.guide
    assert guide is not None
    assert (guide.name, guide.sha256, guide.tile_step_size) == ("coarse", coarse.sha256, 1.0)
    assert guide.calibration is None
    verify_bundle(changed)
    weights = changed.path / guide.parts[0].weights[0]
    weights.write_text("other weights")
    with pytest.raises(BundleHashMismatch):
        verify_bundle(changed)


def test_a_calibration_from_before_does_not_let_the_silence_of_a_guide_count() -> None:
    document = _document()
    del document["guide"]["calibration"]["suspicion"]
    guide = parse_manifest(tomli_w.dumps(document).encode()).guide
    assert guide is not None
    assert guide.calibration is not None
    assert guide.calibration.suspicion is None
    old, new = (allowed_run(each, InferenceSettings()) for each in (guide, _guide()))
    assert old is not None
    assert (old.suspicion, old.describe()) == (None, "tiles once, margin 10 mm, sparse first pass")
    assert new is not None
    assert new.suspicion == 0.05
    assert new.describe().endswith(", silence of the guide counts below 0.05 or in other organs")


def test_a_calibration_from_before_does_not_let_other_organs_explain_a_suspicion() -> None:
    document = _document()
    assert document["guide"]["calibration"].pop("explained")
    guide = parse_manifest(tomli_w.dumps(document).encode()).guide
    old, new = (allowed_run(each, InferenceSettings()) for each in (guide, _guide()))
    assert old is not None
    assert new is not None
    assert (old.suspicion, old.explained, new.explained) == (0.05, False, True)
    assert old.describe().endswith(", silence of the guide counts below 0.05")


def test_silence_never_counts_for_an_organ_that_no_reference_ct_showed() -> None:
    calibration = a_guided_calibration(heart=replace(_GOOD, found_on=0))
    run = allowed_run(_guide(calibration=calibration), InferenceSettings())
    assert run is not None
    assert run.unproven == {"heart"}


@pytest.mark.parametrize(("missed_on", "expected"), [(0, [0.05]), (1, [0.05, 0.01])])
def test_a_lower_suspicion_is_measured_where_an_organ_is_missed(
    missed_on: int, expected: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calibration = a_guided_calibration(liver=replace(_GOOD, missed_on=missed_on, dice=0.5))
    candidate = GuidedCandidate(calibration=calibration, differing=0, tiles=1.0, predict_s=1.0)
    measured: list[float] = []
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path))
    monkeypatch.setattr(
        guided_calibrating, "open_guided_predictors", lambda *_, suspicion, **__: measured.append(suspicion)
    )
    monkeypatch.setattr(
        guided_calibrating,
        "measure_guided",
        lambda *_: GuidedResult(candidates=(candidate,), predict_s=1.0),
    )
    write_bundle(tmp_path / "paper-bundle")
    with pytest.raises(typer.Exit):  # not accepted, for its Dice
        calibrate_guide("paper-bundle", [], backend="exact", margin_mm=5.0, layout="once", sparse=True)
    assert measured == expected


def test_a_guide_is_replaced_with_its_files_and_its_calibration(
    bundle: ModelBundle, coarse: ModelBundle, tmp_path: Path
) -> None:
    first = allow_guide(attach_guide(bundle, coarse), a_guided_calibration())
    assert open_bundle(first.path).manifest.guide == first.manifest.guide
    other = write_bundle(tmp_path / "other", name="other")
    second = attach_guide(first, other)
    verify_bundle(second)
    assert second.manifest.guide is not None
    assert (second.manifest.guide.name, second.manifest.guide.calibration) == ("other", None)
    assert len(list((second.path / "guide").iterdir())) == 1
    again = attach_guide(second, other, 1.0)
    verify_bundle(again)


def test_a_bundle_without_common_organs_is_no_guide(bundle: ModelBundle, tmp_path: Path) -> None:
    part = replace(bundle.manifest.parts[0], labels={1: "heart"}, priorities={})
    heart = write_bundle(tmp_path / "heart", name="heart", parts=(part,))
    with pytest.raises(GuideUnsuitable, match="'heart' finds no organ of 'paper-bundle'"):
        attach_guide(bundle, heart)
    with pytest.raises(GuideUnsuitable, match="'paper-bundle' has no guide"):
        allow_guide(bundle, a_guided_calibration())


def test_objects_say_which_guide_led_how_many_networks() -> None:
    row = GuidedNetwork(
        guide="coarse 2", organs=("liver",), outcome=GuidedOutcome.BOX, tiles=1, whole_tiles=60
    )
    missed = replace(row, outcome=GuidedOutcome.MISSED)
    assert describe_guidance([row, missed, replace(row, outcome=GuidedOutcome.WIDENED)]) == (
        "Guided by coarse 2: 2 of 3 networks searched only around its organs."
    )
    again = replace(row, outcome=GuidedOutcome.UNKNOWN, sparse=SparseOutcome.AGAIN)
    absent = replace(missed, organs=("spleen",), sparse=SparseOutcome.ABSENT)
    everywhere = replace(missed, sparse=SparseOutcome.EVERYWHERE)
    decided, doubtful = (replace(missed, sparse=o) for o in (SparseOutcome.DECIDED, SparseOutcome.DOUBTFUL))
    assert describe_guidance([row, again, everywhere]) == (
        "Guided by coarse 2: 1 of 3 networks searched only around its organs; 1 searched the whole CT by a "
        "sparse first pass."
    )
    assert describe_guidance([row, decided, doubtful]).endswith(
        "; 1 searched the whole CT by a sparse first pass."
    )
    assert describe_guidance([row, again, absent]).endswith(
        "; 2 searched the whole CT by a sparse first pass, which suspected nothing of spleen."
    )
    assert not describe_guidance([])
    outcomes = (
        GuidedOutcome.SUSPECTED,
        GuidedOutcome.REFUTED,
        GuidedOutcome.EXPLAINED,
        GuidedOutcome.ABSENT,
    )
    silent = [replace(row, organs=(o.name,), outcome=o) for o in outcomes]
    assert describe_guidance([row, again, *silent]).endswith(
        "; searched SUSPECTED only where the guide suspects it; found at most a crumb, left out, of REFUTED "
        "around what the guide suspects; did not search EXPLAINED, as all that the guide suspects is other "
        "organs; the guide, which led to 1 of 1 other organs, suspects ABSENT nowhere."
    )
    other = [replace(each, guide="other 1") for each in (missed, row, row)]
    assert "led to 1 of 1 other organs" in describe_guidance([row, silent[-1], *other]), (
        "each guide for itself"
    )


def test_the_command_gives_a_bundle_a_guide(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path))
    write_bundle(tmp_path / "paper-bundle")
    write_bundle(tmp_path / "coarse", name="coarse")
    answer = orgseg(capsys, "models", "guide", "paper-bundle", "coarse")
    assert answer.status == 0
    assert "--guided" in answer.err + answer.out
    assert "coarse 1.0.0, not calibrated" in orgseg(capsys, "models", "show", "paper-bundle").out
