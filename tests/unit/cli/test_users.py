"""``orgseg users``: accounts of the pages."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from orgseg_node.node.store.store import Store
from orgseg_node.node.users.accounts import Accounts
from tests.support.node.command_line import orgseg

CONFIG = """
[node]
data_dir = "data"
[receiver]
accept_any_calling_ae = true
[web]
port = 8042
[pages]
enabled = true
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(CONFIG)
    Store(tmp_path / "data").close()
    return path


def test_an_account_is_made_changed_listed_and_removed(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("four words are enough\nanother long password\n"))
    done = orgseg(capsys, "users", "add", "anna", "--roles", "reviewer, viewer", "--config", config)
    assert done.out.strip() == "anna may log in as reviewer, viewer."
    accounts = Accounts(Store(config.parent / "data", read_only=True).database)
    assert accounts.authenticate("anna", "four words are enough") is not None
    assert orgseg(capsys, "users", "passwd", "anna", "--config", config).status == 0
    assert accounts.authenticate("anna", "four words are enough") is None
    assert orgseg(capsys, "users", "roles", "anna", "physicist", "--config", config).status == 0
    listed = json.loads(orgseg(capsys, "users", "list", "--json", "--config", config).out)
    assert [(one["name"], one["roles"]) for one in listed["users"]] == [("anna", ["physicist"])]
    assert "password_hash" not in listed["users"][0]
    assert orgseg(capsys, "users", "remove", "anna", "--config", config).status == 0
    assert orgseg(capsys, "users", "roles", "anna", "viewer", "--config", config).code == "USER_UNKNOWN"


def test_a_one_time_address_is_printed_alone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orgseg(capsys, "users", "add", "anna", "--no-password", "--config", config)
    out = orgseg(capsys, "users", "link", "anna", "--config", config).out.strip()
    address, _, secret = out.partition("?once=")
    assert address == "http://127.0.0.1:8042/login"
    found = Accounts(Store(config.parent / "data").database).use_ticket(secret)
    assert found is not None
    assert found.name == "anna"


def test_a_weak_password_and_an_unknown_role_make_no_account(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    assert orgseg(capsys, "users", "add", "anna", "--config", config).code == "USER_PASSWORD"
    assert orgseg(capsys, "users", "add", "anna", "--roles", "boss", "--config", config).code == "USAGE"
    assert json.loads(orgseg(capsys, "users", "list", "--json", "--config", config).out) == {"users": []}
