"""Channels of Apprise in the configuration: their URL is secret and checked before the node starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.load import load_config
from orgseg_node.node.config.node_config import NodeConfig

CHANNEL = '[[notices.channels]]\nname = "{name}"\nurl_file = "{file}"\n'
SECRET = "open-sesame"  # noqa: S105  # of no service


def load(folder: Path, text: str) -> NodeConfig:
    file = folder / "node.toml"
    file.write_text(f'[[peers]]\nae_title = "CT"\n{text}')
    return load_config(file)


def write_url(folder: Path, url: str, *, mode: int = 0o600) -> str:
    file = folder / "channel.url"
    file.write_text(f"{url}\n")
    file.chmod(mode)
    return CHANNEL.format(name="physics", file="channel.url")


@pytest.mark.parametrize(
    "url",
    [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "workflows://host:443/643a8f6e4c1d4e/4qhQ6ZOgE9Uk9Rn4ZLuY9g/",
        "matrixs://node:token@matrix.clinic.example/#physics",
        "mmosts://chat.clinic.example/3ccdd113474722377935511fc85d3dd4",
        "mailtos://node:secret@clinic.example",
    ],
)
def test_services_are_known_and_paths_are_relative_to_the_configuration(tmp_path: Path, url: str) -> None:
    (tmp_path / "ca.pem").write_text("")
    (channel,) = load(tmp_path, write_url(tmp_path, url) + 'ca = "ca.pem"').notices.channels
    assert (channel.name, channel.url_file) == ("physics", tmp_path / "channel.url")
    assert (channel.ca, channel.timeout_s) == (tmp_path / "ca.pem", 20.0)


@pytest.mark.parametrize(
    ("url", "mode", "problem"),
    [
        (f"nosuchservice://{SECRET}", 0o600, "does not hold the URL of a service that Apprise knows"),
        (f"slack://{SECRET}", 0o600, "does not hold the URL of a service that Apprise knows"),
        (f"jsons://host/{SECRET}?verify=no", 0o600, "must not switch off the check of certificates"),
        (f"json://host/{SECRET}", 0o644, "is open to other users"),
        (f"json://host/{SECRET}\njson://other", 0o600, "must hold one line"),
        ("", 0o600, "must hold one line"),
    ],
)
def test_an_unusable_channel_is_reported_without_its_secret(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], url: str, mode: int, problem: str
) -> None:
    text = write_url(tmp_path, url, mode=mode)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert "notices.channels.1: " in caught.value.detail
    assert problem in caught.value.detail
    printed = capfd.readouterr()
    assert SECRET not in caught.value.detail + printed.out + printed.err


def test_names_of_channels_are_unique_and_files_exist(tmp_path: Path) -> None:
    text = write_url(tmp_path, "json://host") + CHANNEL.format(name="physics", file="gone.url")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert "notices.channels.2.name: 'physics' is used twice" in caught.value.detail
    assert "notices.channels.2: " in caught.value.detail
    assert "gone.url cannot be read" in caught.value.detail


def test_a_table_in_the_place_of_the_list_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"notices\.channels"):
        load(tmp_path, '[notices.channels.physics]\nurl_file = "x"\n')
