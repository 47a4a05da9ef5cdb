"""The manifest is read strictly and written back the same."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import tomli_w

from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.bundles.manifest import (
    Part,
    Preprocessing,
    is_inside,
    is_orientation,
    name_of_path,
    parse_manifest,
    render_manifest,
    text_problems,
)
from tests.support.models.bundles import a_manifest

_HASH = "a" * 64


def _document() -> dict[str, Any]:
    return tomllib.loads(render_manifest(a_manifest()).decode())


def _problems(document: dict[str, Any]) -> str:
    with pytest.raises(BundleInvalid) as caught:
        parse_manifest(tomli_w.dumps(document).encode())
    return caught.value.detail


def test_what_is_written_is_read_back_the_same() -> None:
    manifest = a_manifest(
        mirroring=True,
        tile_step_size=0.75,
        preprocessing=Preprocessing(orientation="RAS", outside_to_air=True, body_margin_mm=10.0),
        parts=(
            Part(
                folder="parts/a",
                configuration="3d_lowres",
                folds=("0", "all"),
                labels={3: "spleen", 1: "liver"},
                priorities={"liver": 0.95},
                mirror_axes=(0, 2),
                trainer="nnUNetTrainer_2000epochs",
            ),
        ),
        files={
            "card.md": _HASH,
            "parts/a/plans.json": _HASH,
            "parts/a/dataset.json": _HASH,
            "parts/a/fold_0.safetensors": _HASH,
            "parts/a/fold_all.safetensors": _HASH,
        },
    )
    content = render_manifest(manifest)
    again = parse_manifest(content)
    assert again == manifest
    assert render_manifest(again) == content


def test_organs_keep_the_order_of_the_manifest_and_unranked_ones_have_priority_zero() -> None:
    manifest = a_manifest()
    assert manifest.organs == ("spleen", "liver")
    assert manifest.priorities == {"spleen": 0.9, "liver": 0.0}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema": 2}, "schema 2"),
        ({"name": "../escape"}, "name '../escape'"),
        ({"name": ""}, "name must be text"),
        ({"version": "1 0"}, "version '1 0'"),
        ({"colour": "red"}, "colour is not known"),
        ({"mirroring": 1}, "mirroring must be true or false"),
        ({"tile_step_size": 0}, "tile_step_size"),
        ({"tile_step_size": float("nan")}, "tile_step_size"),
        ({"parts": []}, "at least one"),
        ({"card": "other.md"}, "card other.md is not among files"),
        ({"files": {"../card.md": _HASH}}, "not a path inside the bundle"),
        ({"files": {"a.pth": _HASH}}, "pickled files are not allowed"),
        ({"files": {"card.md": "short"}}, "not a SHA-256"),
        ({"preprocessing": {"orientation": "LPS", "outside_to_air": True}}, "body_margin_mm is missing"),
    ],
)
def test_each_problem_is_named(change: dict[str, Any], expected: str) -> None:
    assert expected in _problems(_document() | change)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"folds": [0]}, "folds must be a list"),
        ({"folds": ["1"]}, "parts/main/fold_1.safetensors is not among files"),
        ({"mirror_axes": [3]}, "mirror_axes"),
        ({"labels": {}}, "at least one organ"),
        ({"labels": {"0": "spleen"}}, "label '0'"),
        ({"labels": {"1": ""}}, "organ must be a key"),
        ({"priorities": {"heart": 1.0}}, "heart, which is not an organ of this part"),
        ({"priorities": {"spleen": "high"}}, "priorities must be numbers"),
        ({"configuration": ""}, "configuration must be text"),
    ],
)
def test_each_problem_of_a_part_is_named(change: dict[str, Any], expected: str) -> None:
    document = _document()
    document["parts"][0] |= change
    assert expected in _problems(document)


def test_all_problems_are_reported_at_once() -> None:
    document = _document() | {"name": "", "mirroring": "yes", "licence": 3}
    problems = _problems(document)
    assert all(word in problems for word in ("name", "mirroring", "licence"))


def test_two_parts_cannot_share_a_folder() -> None:
    document = _document()
    document["parts"] *= 2
    assert "two parts share the folder parts/main" in _problems(document)


def test_more_organs_than_a_label_map_holds_are_refused() -> None:
    document = _document()
    document["parts"][0] |= {"labels": {str(n): f"organ_{n}" for n in range(1, 257)}, "priorities": {}}
    assert "256 organs" in _problems(document)


def test_what_is_not_toml_is_refused() -> None:
    with pytest.raises(BundleInvalid, match="cannot be read"):
        parse_manifest(b"\xff\xfe")


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("a/b.json", True),
        ("/a", False),
        ("a/../b", False),
        ("./a", False),
        ("a\\b", False),
        ("a//b", False),
        (".", False),
    ],
)
def test_a_path_stays_inside_the_bundle(path: str, inside: bool) -> None:  # noqa: FBT001
    assert is_inside(path) is inside


@pytest.mark.parametrize(
    ("letters", "good"),
    [("LPS", True), ("RAS", True), ("SPL", True), ("LRS", False), ("LP", False), (3, False)],
)
def test_an_orientation_names_each_axis_once(letters: object, good: bool) -> None:  # noqa: FBT001
    assert is_orientation(letters) is good


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Dataset101_HN", "Dataset101_HN"),
        ("HN_2024.01.15", "HN_2024.01.15"),
        ("Schädel & Hals (v2)", "Schadel_Hals_v2"),
        ("_моё", "model"),
        ("x" * 99, "x" * 64),
    ],
)
def test_every_path_gives_a_name(path: str, name: str) -> None:
    assert name_of_path(path) == name
    assert not text_problems({"name": name})
