"""Which network of a bundle is trained further, and what of it is used."""

from __future__ import annotations

import json

import pytest

from orgseg_node.errors import ConfigError, OptionInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle
from orgseg_training.nnunet.run import Dataset
from orgseg_training.tuning.recipe import RECIPES, with_steps
from orgseg_training.tuning.request import TuneRequest
from orgseg_training.tuning.start import alone, choose_start, start_plans
from tests.support.models.three_networks import three_networks


@pytest.fixture(scope="module")
def starter() -> ModelBundle:
    return three_networks()


def test_old_organs_keep_their_channel_and_new_ones_come_last(starter: ModelBundle) -> None:
    start = choose_start(starter, ["mandible", "larynx", "spinal_cord"])
    assert start.part.folder == "parts/common"
    assert start.organs == (
        "brainstem", "spinal_cord", "parotid_right", "parotid_left", "mandible", "larynx",
    )  # fmt: skip
    assert start.pretrained_channels == (0, 1, 2, 3, 4, 5, None)
    assert start.new == ("larynx",)
    assert start.kept == ("brainstem", "parotid_right", "parotid_left")
    ((part, labels),) = start.other_parts  # the network of the larynx has nothing left to contour
    assert part.folder == "parts/esophagus"
    assert labels == {1: "esophagus"}


def test_the_network_that_knows_the_organ_is_chosen(starter: ModelBundle) -> None:
    start = choose_start(starter, ["esophagus"])
    assert start.part.folder == "parts/esophagus"
    assert (start.organs, start.new, start.kept) == (("esophagus",), (), ())
    assert {key for _, labels in start.other_parts for key in labels.values()} == {
        "brainstem", "spinal_cord", "parotid_right", "parotid_left", "mandible", "larynx",
    }  # fmt: skip


def test_an_organ_new_to_the_bundle_joins_the_network_with_most_organs(
    starter: ModelBundle,
) -> None:
    assert choose_start(starter, ["thyroid"]).part.folder == "parts/common"


def test_only_the_network_with_the_kept_organs_is_run_for_them(starter: ModelBundle) -> None:
    start = choose_start(starter, ["mandible", "larynx"])
    assert start.only_kept.manifest.organs == start.kept
    assert len(start.only_kept.manifest.parts) == 1


def test_a_separate_network_leaves_the_others_to_the_old_one(starter: ModelBundle) -> None:
    start = choose_start(starter, ["mandible", "larynx", "spinal_cord"], separate=True)
    assert start.organs == ("spinal_cord", "mandible", "larynx")
    assert start.pretrained_channels == (0, 2, 5, None)
    assert (start.new, start.kept) == (("larynx",), ())
    (old, labels), (other, _) = start.other_parts
    assert old is start.part
    assert labels == {1: "brainstem", 3: "parotid_right", 4: "parotid_left"}
    assert other.folder == "parts/esophagus"
    every = tuple(start.part.labels.values())
    assert start.part not in [part for part, _ in choose_start(starter, every, separate=True).other_parts]


def test_a_network_alone_takes_no_other_organ_along(starter: ModelBundle) -> None:
    start = alone(choose_start(starter, ["spinal_cord"], separate=True))
    assert start.organs == ("spinal_cord",)
    assert start.pretrained_channels == (0, 2)
    assert start.other_parts == ()
    assert start.bundle.manifest.organs == ("spinal_cord",)
    assert alone(choose_start(starter, ["thyroid"], separate=True)).bundle.manifest.organs == ()


def test_organs_that_the_old_networks_contour_better_stay_with_them(starter: ModelBundle) -> None:
    start = choose_start(starter, ["mandible", "larynx", "esophagus"])
    assert start.other_parts == ()
    left = [(part.folder, labels) for part, labels in start.parts_left(["esophagus", "brainstem"])]
    assert left == [("parts/common", {1: "brainstem"}), ("parts/esophagus", {1: "esophagus"})]


def test_only_an_organ_of_the_old_bundle_can_stay(starter: ModelBundle) -> None:
    start = choose_start(starter, ["mandible", "thyroid"])
    with pytest.raises(ConfigError, match="has no thyroid"):
        TuneRequest(site="s", name="a@2", start=start, recipe=RECIPES["cpu"], stay=("thyroid",))


@pytest.mark.parametrize("organs", [[], ["larynx", "larynx"]])
def test_organs_are_named_once(starter: ModelBundle, organs: list[str]) -> None:
    with pytest.raises(OptionInvalid):
        choose_start(starter, organs)


def test_spacing_intensities_and_architecture_are_the_old_ones() -> None:
    starter = find_bundle("starter-hn", [])
    start = choose_start(starter, ["mandible"])
    old = json.loads((starter.path / start.part.plans).read_text(encoding="utf-8"))
    plans = start_plans(start, Dataset(number=1, name="tune", trainer="tune"))
    for key in ("foreground_intensity_properties_per_channel", "transpose_forward"):
        assert plans[key] == old[key]
    for key in ("spacing", "patch_size", "architecture", "normalization_schemes"):
        assert plans["configurations"]["3d_fullres"][key] == old["configurations"]["3d_fullres"][key]
    assert "orgseg_schedule" not in plans
    assert plans["dataset_name"] == "Dataset001_tune"


@pytest.mark.parametrize("name", ["starter", "starter@", "@2", "a b@2", "starter@2@3"])
def test_a_result_has_a_family_and_a_version(starter: ModelBundle, name: str) -> None:
    with pytest.raises(OptionInvalid, match="FAMILY@VERSION"):
        TuneRequest(site="s", name=name, start=choose_start(starter, ["mandible"]), recipe=RECIPES["cpu"])


@pytest.mark.parametrize(("steps", "blocks", "per_block"), [(1500, 15, 100), (40, 1, 40), (250, 3, 84)])
def test_a_recipe_of_another_length(steps: int, blocks: int, per_block: int) -> None:
    recipe = with_steps(RECIPES["cpu"], steps)
    assert (recipe.blocks, recipe.steps_per_block) == (blocks, per_block)
    assert recipe.warm_up <= max(1, steps // 4)
