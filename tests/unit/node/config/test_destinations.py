"""Destinations in the configuration: deliveries, storage commitment and DICOMweb."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orgseg_node.errors import ConfigError
from orgseg_node.node.config.destinations import WebDestination
from orgseg_node.node.config.load import load_config
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.stow import owner_of, read_tokens

PLACE = '[[peers]]\nae_title = "CT"\n[destinations.a]\nae_title = "A"\nhost = "a"\nport = 104\n'
WEB = '[[peers]]\nae_title = "CT"\n[destinations.w]\nurl = "https://pacs.clinic/dicomweb/"\n'


def load(tmp_path: Path, text: str) -> NodeConfig:
    file = tmp_path / "node.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return caught.value.detail


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (PLACE + "commitment = true", "destinations.a.commitment: [[peers]] must list 'A'"),
        (PLACE + 'alternate = "a"', "destinations.a.alternate: is the destination itself"),
        (PLACE + 'alternate = "b"', "destinations.a.alternate: there is no destination 'b'"),
        (PLACE + "at_onc = 3", "destinations.a.at_onc: there is no such setting; did you mean 'at_once'?"),
        (WEB + 'ae_title = "A"', "destinations.w.ae_title: belongs to a DICOM destination"),
        (
            WEB + 'token_fil = "x"',
            "destinations.w.token_fil: there is no such setting; did you mean 'token_file'?",
        ),
        (WEB + 'token_file = "x"', "x cannot be read"),
        (WEB + 'user = "x"', "destinations.w.user: user and password_file belong together"),
        (WEB.replace("https", "http") + 'token_file = "x"', "a secret is sent by https only"),
        (WEB.replace("https://", "ftp://"), "destinations.w.url: the address of a DICOMweb service"),
        (WEB.replace("pacs.clinic", "me:secret@pacs"), "an address without user, query or fragment"),
        ('[[peers]]\nae_title = "CT"\n[stow]\ntokens = "none"', "stow.tokens: "),
    ],
)
def test_mistakes_of_destinations_are_reported(tmp_path: Path, text: str, line: str) -> None:
    assert line in problems(tmp_path, text)


def test_dicomweb_destinations_and_alternates(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    config = load(
        tmp_path, PLACE + 'alternate = "w"\n' + WEB.partition('"CT"\n')[2] + 'token_file = "token"\n'
    )
    web = config.destination("w")
    assert isinstance(web, WebDestination)
    assert web.url == "https://pacs.clinic/dicomweb"
    assert web.token_file == tmp_path / "token"
    assert config.alternates == {"w"}
    assert config.committing == frozenset()
    assert config.calling_ae_for(web) == "ORGSEG"


def test_tokens_belong_to_listed_peers_and_are_kept_as_hashes(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"t").hexdigest()
    (tmp_path / "tokens").write_text(f"CT {digest}\nOTHER AE {digest}\n")
    (tmp_path / "tokens").chmod(0o600)
    text = '[[peers]]\nae_title = "CT"\n[stow]\ntokens = "tokens"'
    assert "stow.tokens: [[peers]] does not list 'OTHER AE'" in problems(tmp_path, text)
    tokens = read_tokens(tmp_path / "tokens")
    assert owner_of("t", tokens[:1]) == "CT"
    assert owner_of("T", tokens) is None
    assert owner_of(digest, tokens) is None
    (tmp_path / "tokens").write_text("CT not-a-hash\n")
    with pytest.raises(ConfigError, match="line 1"):
        read_tokens(tmp_path / "tokens")


@pytest.mark.parametrize("line", ['host = "ct"', "port = 104", "tls = true"])
def test_settings_of_the_removed_commitment_provider_are_refused_with_the_reason(
    tmp_path: Path, line: str
) -> None:
    found = problems(tmp_path, f'[[peers]]\nae_title = "CT"\n{line}\n')
    name = line.partition(" ")[0]
    assert f"peers.1.{name}: was removed; the node no longer confirms storage commitment" in found
