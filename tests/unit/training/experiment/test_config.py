"""An experiment is read strictly; the starter bundle is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import ConfigError
from orgseg_node.shipped import shipped_config
from orgseg_training.experiment.config import load_experiment
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.shipped import training_config

STARTER = training_config("experiments/starter.toml")


def _changed(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = STARTER.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "experiment.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_starter_experiment_names_known_organs_once() -> None:
    experiment = load_experiment(STARTER)
    organs = [organ for network in experiment.networks_of_strategy_1 for organ in network.organs]
    table = load_organs(shipped_config("organs.toml"))
    assert len(organs) == len(set(organs)) == 7
    assert set(organs) <= set(table)


def test_each_network_of_the_starter_has_its_own_shape_and_schedule(tmp_path: Path) -> None:
    workspace = Workspace(experiment=load_experiment(STARTER), root=tmp_path)
    assert [network.name for network in workspace.networks] == ["common", "larynx", "esophagus"]
    assert list(workspace.trained_folds) == [0]
    common, larynx, _ = workspace.networks
    shape = workspace.shape(larynx)
    assert shape is not None
    assert (shape.patch_size, len(shape.features), shape.batch_size) == ((32, 48, 48), 4, 2)
    first, second = workspace.schedule(common, 0), workspace.schedule(larynx, 0)
    assert (first.epochs, first.learning_rate, first.warm_start) == (50, 0.002, "")
    assert (second.epochs, second.learning_rate) == (12, 0.001)
    assert second.warm_start == common.dataset.folder
    assert second.iterations_per_epoch == first.iterations_per_epoch == 100


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_experiment(_changed(tmp_path, ("seed =", "sed ="), ("epochs = 18", "epochs = 0")))
    assert "3 problems" in str(caught.value)
    assert "sed" in str(caught.value)
    assert "epochs" in str(caught.value)


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text("seed = = 1")
    with pytest.raises(ConfigError):
        load_experiment(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('organs = ["larynx"]', 'organs = ["esophagus"]'), "each organ of strategy_1 once"),
        (('name = "larynx"', 'name = "common"'), "common is the name of another network"),
        (('name = "larynx"', 'name = "all"'), "all is the name of another network"),
        (('warm_start = "common"', 'warm_start = "esophagus"'), "must start from an earlier network"),
        (('trainer = "short"', 'trainer = "paper"'), "only the trainer short"),
        (('kind = "fixed"', 'kind = "nnunet"'), "need a plan of the kind fixed"),
        (("trained_folds = 1 ", "trained_folds = 11 "), "there are 10 folds"),
        (("strategy_2 = []", 'strategy_2 = ["liver"]'), "liver have no network"),
    ],
)
def test_networks_that_do_not_fit_the_experiment_are_refused(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_experiment(_changed(tmp_path, change))


def test_an_experiment_without_strategy_2_and_without_a_bundle_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    text = training_config("experiments/smoke.toml").read_text(encoding="utf-8")
    file.write_text(text.replace('strategy_2 = ["mandible", "larynx"]', "strategy_2 = []"), encoding="utf-8")
    with pytest.raises(ConfigError, match="strategy_2: name at least one"):
        load_experiment(file)
