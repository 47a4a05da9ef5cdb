"""A recipe is read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import ConfigError
from orgseg_node.shipped import shipped_config
from orgseg_training.recipe import load_recipe

STARTER = Path(__file__).resolve().parents[3] / "training" / "config" / "starter.toml"


def test_the_starter_recipe_names_known_organs_once() -> None:
    recipe = load_recipe(STARTER)
    organs = [organ for part in recipe.parts for organ in part.organs]
    table = load_organs(shipped_config("organs.toml"))
    assert len(organs) == len(set(organs)) == 7
    assert set(organs) <= set(table)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(STARTER.read_text().replace("seed =", "sed =").replace("epochs = 18", "epochs = 0"))
    with pytest.raises(ConfigError) as caught:
        load_recipe(file)
    assert "3 problems" in str(caught.value)
    assert "sed" in str(caught.value)
    assert "epochs" in str(caught.value)


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("seed = = 1")
    with pytest.raises(ConfigError):
        load_recipe(file)
