"""What a trainer is told: which organs are drawn where, and what is left and right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orgseg_node.errors import ConfigError
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle
from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.tuning.prepare import RawData
from orgseg_training.tuning.recipe import RECIPES
from orgseg_training.tuning.request import TuneFolder, TuneRequest
from orgseg_training.tuning.start import choose_start
from orgseg_training.tuning.trainer_settings import left_right_axis, trainer_settings

ORGANS = ["brainstem", "spinal_cord", "parotid_right", "parotid_left", "mandible"]
RAW = RawData(base_labels={"a": 0}, unknown_sets=[[1]], left_out={})


@pytest.fixture(scope="module")
def starter() -> ModelBundle:
    return find_bundle("starter-hn", [])


def _case(organs: list[str]) -> StoredCase:
    return StoredCase(
        key="a",
        database="site",
        patient="p",
        age_years=None,
        test=False,
        states=dict.fromkeys(organs, OrganState.DRAWN),
        voxels_sha256="",
        coarse_sha256="",
        folder=Path("nowhere"),
    )


def test_by_default_nothing_is_mirrored_or_balanced(starter: ModelBundle) -> None:
    request = TuneRequest(site="s", name="a@1", start=choose_start(starter, ORGANS), recipe=RECIPES["cpu"])
    settings = trainer_settings(request, RAW, [_case(["mandible"])], TuneFolder(root=Path("x")), 0, ["a"])
    assert "mirror" not in settings
    assert "drawn" not in settings
    assert "mirrored" not in request.document([])["recipe"], "tunings that were begun before continue"


def test_sides_and_drawn_organs(starter: ModelBundle) -> None:
    recipe = replace(RECIPES["cpu"], mirrored=True, balanced=True)
    start = choose_start(starter, ORGANS[2:])
    request = TuneRequest(site="s", name="a@1", start=start, recipe=recipe)
    settings = trainer_settings(request, RAW, [_case(["mandible"])], TuneFolder(root=Path("x")), 0, ["a"])
    numbers = {organ: number for number, organ in enumerate(start.organs, 1)}
    partners = dict(zip(start.organs, settings["mirror"]["partners"], strict=True))
    assert partners["parotid_right"] == numbers["parotid_left"]
    assert partners["mandible"] == numbers["mandible"]
    assert settings["mirror"]["axis"] == 2
    assert settings["undrawn"] == {"scans": [], "share": 0.0}
    kept = {numbers[organ] for organ in start.kept}
    assert set(settings["drawn"]["a"]) == {numbers["mandible"], *kept}, "the old network draws what is kept"


def test_scans_of_other_regions_and_the_shift(starter: ModelBundle) -> None:
    recipe = replace(RECIPES["cpu"], balanced=True, outside_share=0.2, shifted=True)
    request = TuneRequest(site="s", name="a@1", start=choose_start(starter, ORGANS), recipe=recipe)
    other = replace(_case([]), key="b", states={"mandible": OrganState.OUTSIDE})
    cases = [_case(["mandible"]), other]
    settings = trainer_settings(request, RAW, cases, TuneFolder(root=Path("x")), 0, ["a"], ["a", "c"])
    assert settings["undrawn"] == {"scans": ["b"], "share": 0.2}
    assert settings["shift_on"] == ["a", "c"]


@pytest.mark.parametrize(("orientation", "axis"), [("LPS", 2), ("RAS", 2), ("SAR", 0), ("PLS", 1)])
def test_the_axis_from_right_to_left(
    starter: ModelBundle, monkeypatch: pytest.MonkeyPatch, orientation: str, axis: int
) -> None:
    start = choose_start(starter, ORGANS)
    preprocessing = replace(starter.manifest.preprocessing, orientation=orientation)
    bundle = replace(starter, manifest=replace(starter.manifest, preprocessing=preprocessing))
    monkeypatch.setattr(
        "orgseg_training.tuning.trainer_settings.start_plans", lambda *_: {"transpose_forward": [0, 1, 2]}
    )
    folder = TuneFolder(root=Path("x"))
    assert left_right_axis(replace(start, bundle=bundle), folder) == axis
    monkeypatch.setattr(
        "orgseg_training.tuning.trainer_settings.start_plans", lambda *_: {"transpose_forward": [2, 0, 1]}
    )
    assert left_right_axis(replace(start, bundle=bundle), folder) == [1, 2, 0][axis]


def test_one_side_alone_cannot_be_mirrored(starter: ModelBundle) -> None:
    recipe = replace(RECIPES["cpu"], mirrored=True)
    start = choose_start(starter, ["parotid_left", "mandible"], separate=True)
    with pytest.raises(ConfigError, match="without the other side"):
        TuneRequest(site="s", name="a@1", start=start, recipe=recipe)
