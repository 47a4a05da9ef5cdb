"""``orgseg config check``: warnings about what may not be meant, and files without their secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.cli.node.doctor import examine
from tests.support.models.bundles import write_bundle
from tests.support.node.command_line import Answer, orgseg

PEER = '[[peers]]\nae_title = "CT"\nnetworks = ["10.0.0.0/8"]\n'
TPS = '[destinations.tps]\nae_title = "TPS"\nhost = "10.0.0.2"\nport = 104\n'
SOURCE = '[sources.pacs]\nae_title = "ARCHIVE"\nhost = "10.0.0.3"\nport = 104\n'
SECRETS = """
[tls]
port = 2762
certificate = "node.crt"
key = "node.key"
ca = "ca.crt"
[destinations.web]
url = "https://pacs.clinic/dicomweb"
token_file = "token"
[stow]
tokens = "tokens"
[database]
url = "postgresql://orgseg@db/orgseg"
password_file = "password"
[notices.email]
host = "mail"
sender = "a@clinic"
recipients = ["b@clinic"]
user = "orgseg"
password_file = "mail-password"
"""


def check(capsys: pytest.CaptureFixture[str], folder: Path, text: str, *words: str) -> Answer:
    (folder / "node.toml").write_text(text)
    return orgseg(capsys, "config", "check", folder / "node.toml", *words)


@pytest.fixture
def own_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path / "bundles"))
    bundle = write_bundle(tmp_path / "bundles" / "clinic")
    return f'[inference]\nbundles = ["{bundle.manifest.name}"]\n'


def test_a_complete_configuration_has_no_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, own_bundle: str
) -> None:
    answer = check(capsys, tmp_path, PEER + TPS + own_bundle)
    assert (answer.status, answer.err) == (0, "")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (PEER + TPS, "starter-hn is not for patients: Demonstration"),
        (PEER + TPS + SOURCE, "sources.pacs: [[peers]] does not list ARCHIVE"),
        (PEER + TPS + '[inference]\nbundles = ["pelvis"]\n', "'pelvis' is not among the bundles"),
        (PEER, "destinations: there is none"),
        (PEER.replace('networks = ["10.0.0.0/8"]', ""), "CT may call from any address"),
        ("[receiver]\naccept_any_calling_ae = true\n", "anyone who reaches the port may send"),
        (PEER + TPS + '[[rule]]\nname = "a"\ndestinations = []\n', "rule 1 (a): has no destination"),
    ],
)
def test_what_may_not_be_meant_is_a_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, warning: str
) -> None:
    answer = check(capsys, tmp_path, text)
    assert answer.status == 0
    assert warning in answer.err
    if TPS not in text:  # the doctor calls destinations
        found = [one.message for one in examine(tmp_path / "node.toml") if one.level == "warning"]
        assert any(warning in message for message in found)


def test_a_copy_of_the_starter_is_no_more_for_patients(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path / "bundles"))
    intended = "Demonstration. Not for clinical use."
    name = write_bundle(tmp_path / "bundles" / "copy", intended_use=intended).manifest.name
    answer = check(capsys, tmp_path, f'{PEER}{TPS}[inference]\nbundles = ["{name}"]\n')
    assert f"{name} is not for patients: {intended}" in answer.err


def test_a_file_can_be_checked_where_its_secrets_are_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answer = check(capsys, tmp_path, PEER + SECRETS)
    assert (answer.status, answer.code) == (3, "CONFIG")
    answer = check(capsys, tmp_path, PEER + SECRETS, "--no-secrets")
    assert answer.status == 0
    assert "Not checked: the files of keys, certificates, passwords and tokens." in answer.out
    assert "PostgreSQL at db, database orgseg" in answer.out
    assert check(capsys, tmp_path, PEER + SECRETS + "prot = 1\n", "--no-secrets").status == 3
