"""The calibration in the manifest: read strictly, part of the bundle's identity, and what it allows."""

from __future__ import annotations

import datetime as dt
import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from orgseg_node.errors import BundleInvalid, NotCalibrated, StorageError
from orgseg_node.inference.bundles.bundle import open_bundle, verify_bundle
from orgseg_node.inference.bundles.calibration import (
    MIN_DICE,
    OrganAgreement,
    Precision,
    ReferenceCt,
    require_calibration,
)
from orgseg_node.inference.bundles.manifest import MANIFEST, parse_manifest, render_manifest
from orgseg_node.inference.bundles.writing import replace_calibration, require_writable
from orgseg_node.shipped import shipped_bundles
from tests.support.models.bundles import a_manifest, write_bundle
from tests.support.models.calibrations import a_calibration

_PERFECT = OrganAgreement(dice=1.0, found_on=1, outside_ml=0.0)
_REFERENCE = {"sha256": "c" * 64, "voxels": 1000}
_ORGAN = {"dice": 1.0, "found_on": 1, "outside_ml": 0.0}


def _document() -> dict[str, Any]:
    return tomllib.loads(render_manifest(a_manifest(calibration=a_calibration())).decode())


def _problems(document: dict[str, Any]) -> str:
    with pytest.raises(BundleInvalid) as caught:
        parse_manifest(tomli_w.dumps(document).encode())
    return caught.value.detail


def test_what_is_written_is_read_back_the_same() -> None:
    calibration = a_calibration(
        precision=Precision.BF16,
        references=(ReferenceCt(sha256="a" * 64, voxels=7), ReferenceCt(sha256="b" * 64, voxels=9)),
        organs={
            "spleen": OrganAgreement(dice=0.999612, found_on=2, outside_ml=0.25),
            "liver": OrganAgreement(dice=1.0, found_on=0, outside_ml=0.0),
        },
    )
    manifest = a_manifest(calibration=calibration)
    content = render_manifest(manifest)
    assert parse_manifest(content) == manifest
    assert render_manifest(parse_manifest(content)) == content


def test_a_manifest_without_calibration_is_valid() -> None:
    content = render_manifest(a_manifest())
    assert b"calibration" not in content
    assert parse_manifest(content).calibration is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"software": ""}, "calibration.software must be text"),
        ({"version": 2026}, "calibration.version must be text"),
        ({"precision": "f8"}, "calibration.precision must be f32 or bf16 or f16"),
        ({"precision": ["f32"]}, "calibration.precision must be f32 or bf16 or f16"),
        ({"date": "2026-01-31"}, "calibration.date must be a date"),
        ({"date": dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)}, "calibration.date must be a date"),
        ({"patient": "x"}, "calibration.patient is not known"),
        ({"references": []}, "at least one [[calibration.references]]"),
        ({"references": [_REFERENCE | {"sha256": "short"}]}, "references 1: not a SHA-256"),
        ({"references": [_REFERENCE | {"voxels": 0}]}, "references 1: voxels"),
        ({"references": [_REFERENCE | {"name": "x"}]}, "references 1: name is not known"),
        ({"references": [_REFERENCE, _REFERENCE]}, "names a CT twice"),
        ({"organs": [1]}, "calibration.organs must be tables"),
        ({"organs": {"spleen": _ORGAN}}, "calibration.organs.liver is missing"),
        ({"organs": dict.fromkeys(("spleen", "liver", "heart"), _ORGAN)}, "organs.heart is not an organ"),
        ({"organs": {"spleen": _ORGAN | {"dice": 1.1}}}, "organs.spleen.dice must be 0 to 1"),
        ({"organs": {"spleen": _ORGAN | {"dice": float("nan")}}}, "organs.spleen.dice must be 0 to 1"),
        ({"organs": {"spleen": _ORGAN | {"found_on": 2}}}, "organs.spleen.found_on"),
        ({"organs": {"spleen": _ORGAN | {"outside_ml": -1.0}}}, "organs.spleen.outside_ml"),
        ({"organs": {"spleen": {"dice": 1.0}}}, "organs.spleen.found_on is missing"),
    ],
)
def test_each_problem_is_named(change: dict[str, Any], expected: str) -> None:
    document = _document()
    document["calibration"] |= change
    assert expected in _problems(document)


def test_all_problems_are_reported_at_once() -> None:
    document = _document() | {"mirroring": "yes"}
    del document["calibration"]["date"]
    document["calibration"]["precision"] = "f64"
    problems = _problems(document)
    assert all(word in problems for word in ("mirroring", "calibration.date is missing", "precision"))


def test_a_calibration_that_is_no_table_is_refused() -> None:
    assert "calibration must be a table" in _problems(_document() | {"calibration": "good"})


def test_a_good_calibration_with_the_installed_version_allows_the_fast_mode() -> None:
    edge = a_calibration(organs={"spleen": OrganAgreement(dice=MIN_DICE, found_on=1, outside_ml=0.0)})
    assert require_calibration("paper", edge, "openvino", edge.version) is edge


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": "2020.1"}, "calibrated with openvino 2020.1; openvino 7 is installed"),
        ({"software": "other"}, "calibrated with other 7"),
        (
            {
                "organs": {
                    "spleen": _PERFECT,
                    "liver": OrganAgreement(dice=0.999499, found_on=1, outside_ml=0.0),
                }
            },
            "the Dice of liver is 0.999499, below 0.9995",
        ),
        ({"organs": {"spleen": OrganAgreement(dice=1.0, found_on=0, outside_ml=0.0)}}, "no organ was found"),
    ],
)
def test_any_other_calibration_does_not_allow_it(changes: dict[str, Any], expected: str) -> None:
    calibration = a_calibration(**({"version": "7"} | changes))
    with pytest.raises(NotCalibrated, match=expected):
        require_calibration("paper", calibration, "openvino", "7")


def test_without_a_calibration_the_fast_mode_is_refused_by_the_name_of_the_bundle() -> None:
    with pytest.raises(NotCalibrated, match="'paper' has no calibration"):
        require_calibration("paper", None, "openvino", "7")


def test_it_reports_organs_never_found_and_organs_found_outside() -> None:
    calibration = a_calibration(
        organs={"spleen": _PERFECT, "liver": OrganAgreement(dice=1.0, found_on=0, outside_ml=0.0)}
    )
    assert calibration.never_found == ("liver",)
    assert calibration.shortcomings == ()
    assert calibration.nothing_outside
    outside = a_calibration(organs={"spleen": OrganAgreement(dice=1.0, found_on=1, outside_ml=0.001)})
    assert not outside.nothing_outside


def test_a_calibration_changes_the_hash_and_the_bundle_verifies(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "paper")
    (bundle.path / MANIFEST).chmod(0o640)
    changed = replace_calibration(bundle, a_calibration())
    content = (bundle.path / MANIFEST).read_bytes()
    assert changed.sha256 == hashlib.sha256(content).hexdigest() != bundle.sha256
    assert changed.manifest.calibration == a_calibration()
    assert changed.manifest.files == bundle.manifest.files
    assert (bundle.path / MANIFEST).stat().st_mode & 0o777 == 0o640
    verify_bundle(changed)  # no file is left beside


def test_a_second_calibration_replaces_the_first(tmp_path: Path) -> None:
    first = replace_calibration(write_bundle(tmp_path / "paper"), a_calibration())
    second = replace_calibration(first, a_calibration(precision=Precision.BF16))
    assert open_bundle(tmp_path / "paper") == second
    assert second.manifest.calibration == a_calibration(precision=Precision.BF16)


def test_a_calibration_of_other_organs_is_not_written(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "paper")
    with pytest.raises(BundleInvalid, match="liver is missing"):
        replace_calibration(bundle, a_calibration(organs={"spleen": _PERFECT}))
    verify_bundle(bundle)


def test_a_folder_that_cannot_be_written_is_a_coded_error(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "paper")
    require_writable(bundle)
    verify_bundle(bundle)
    bundle.path.rename(tmp_path / "away")
    with pytest.raises(StorageError, match=r"manifest.toml of 'paper-bundle' cannot be written"):
        require_writable(bundle)
    with pytest.raises(StorageError, match=r"manifest.toml of 'paper-bundle' cannot be written"):
        replace_calibration(bundle, a_calibration())


def test_the_shipped_bundle_has_a_good_calibration() -> None:
    calibration = open_bundle(shipped_bundles() / "starter-hn").manifest.calibration
    assert calibration is not None
    assert calibration.shortcomings == ()
    assert calibration.never_found == ()
