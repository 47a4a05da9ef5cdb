"""A wrong file of training is reported as one of training, not as the configuration of the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orgseg_node.errors import OrgsegError
from orgseg_training.datasets.description import read_description
from orgseg_training.datasets.organ_table import shipped_organs, with_own_organs
from orgseg_training.evaluation.scoring import read_case_list, read_tolerances
from orgseg_training.evaluation.tables import cost_table
from orgseg_training.experiment.config import load_experiment
from orgseg_training.site.settings import read_settings
from orgseg_training.tuning.data_sets import TuningFile, read_data_sets_file

READERS: dict[str, Callable[[Path], object]] = {
    "experiment": load_experiment,
    "tuning": lambda path: read_data_sets_file(path, TuningFile, {}),
    "data set": read_description,
    "organs": with_own_organs,
    "site": read_settings,
    "tolerances": lambda path: read_tolerances(path, shipped_organs()),
}


TABLES: dict[str, Callable[[Path], object]] = {"cases": read_case_list, "costs": cost_table}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", ["unknown = 1\n", "not = = toml\n", None])
def test_a_wrong_file_of_training_does_not_send_a_person_to_the_node(
    reader: str, content: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    _refused(READERS[reader], file)


@pytest.mark.parametrize("reader", TABLES)
def test_a_table_that_is_not_there_does_not_either(reader: str, tmp_path: Path) -> None:
    _refused(TABLES[reader], tmp_path / "table.csv")


def _refused(read: Callable[[Path], object], file: Path) -> None:
    with pytest.raises(OrgsegError) as caught:
        read(file)
    assert caught.value.code.startswith("TRAINING_")
    assert file.name in caught.value.sentence
    assert "config check" not in caught.value.next_step
