"""The sections database and worker of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.database import PASSWORD, Server
from orgseg_node.node.config.load import load_config
from orgseg_node.node.config.node_config import NodeConfig

PEER = '[[peers]]\nae_title = "CT"\n'
URL = "postgresql://orgseg@db.clinic:5433/orgseg"


def loaded(folder: Path, text: str) -> NodeConfig:
    path = folder / "node.toml"
    path.write_text(text + PEER, encoding="utf-8")
    return load_config(path)


@pytest.fixture(autouse=True)
def _no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD, raising=False)


def test_the_default_is_sqlite_in_the_data_folder(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[node]\ndata_dir = "data"\n')
    assert config.database_location == tmp_path / "data" / "db" / "node.sqlite"
    assert config.worker.own_name
    assert config.worker.roles == ("receiver", "worker")


def test_a_password_comes_from_its_file_or_the_environment_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("of the file\n", encoding="utf-8")
    config = loaded(tmp_path, f'[database]\nurl = "{URL}"\npassword_file = "secret"\n')
    place = config.database_location
    assert isinstance(place, Server)
    assert (place.url, place.password) == (URL, "of the file")
    monkeypatch.setenv(PASSWORD, "of the environment")
    again = config.database_location
    assert isinstance(again, Server)
    assert again.password == "of the environment"  # noqa: S105
    assert "of the" not in f"{place!r} {place.description} {config.model_dump_json()}"
    assert place.description == "PostgreSQL at db.clinic:5433, database orgseg"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[database]\nurl = "postgresql://u:hush@h/d"', "must not hold a password"),
        ('[database]\nurl = "postgresql://u@h/d?password=hush"', "must not hold a password"),
        ('[database]\nurl = "mysql://u:hush@h/d"', "must begin with postgresql://"),
        ('[database]\nurl = "postgresql://u@h:5432"', "must end in the name of a database"),
        ('[database]\nurl = "postgresql://u@h:many/d"', "is no URL"),
        ('[database]\npassword_file = "nowhere"', "database.password_file: there is no file"),
        ('[database]\nulr = ""', "did you mean 'url'"),
        ('[worker]\nname = "a b"', "worker.name"),
        ("[worker]\nroles = []", "worker.roles"),
        ('[worker]\nroles = ["sender"]', "worker.roles"),
    ],
)
def test_mistakes_are_reported_without_the_password(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text + "\n")
    assert problem in str(error.value)
    assert "hush" not in str(error.value)
