"""The list of rejected scans counts only as the named person signed it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orgseg_node import signing
from orgseg_node.errors import OptionInvalid
from orgseg_training.cli.app import app
from orgseg_training.curation.rejects import make_key, read_rejects, read_signed, sign, signature_file
from orgseg_training.errors import KeyUnusable, RejectsInvalid, RejectsUnsigned

LIST = """
[[reject]]
case = "synthetic__SYN_000"
organ = "larynx"
reason = "wrong side"
who = "A. Physicist"
when = 2026-01-31

[[reject]]
case = "synthetic__SYN_001"
reason = "arms in the way"
who = "A. Physicist"
when = 2026-02-01
"""


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, str]:
    """A signed list, and the public key of its signer."""
    file = tmp_path / "rejects.toml"
    file.write_text(LIST, encoding="utf-8")
    public = make_key(tmp_path / "key.pem")
    sign(file, tmp_path / "key.pem", "A. Physicist")
    return file, public


def test_a_signed_list_is_read_with_its_signer(signed: tuple[Path, str]) -> None:
    rejects, signer = read_signed(*signed)
    assert [(one.case, one.organ) for one in rejects] == [
        ("synthetic__SYN_000", "larynx"),
        ("synthetic__SYN_001", None),
    ]
    assert signer == "A. Physicist"


def test_comments_and_order_may_change_and_nothing_else(signed: tuple[Path, str]) -> None:
    file, public = signed
    first, second = LIST.strip().split("\n\n")
    file.write_text(f"# seen twice\n{second}\n\n{first}\n", encoding="utf-8")
    read_signed(file, public)
    for old, new in [
        ("SYN_000", "SYN_002"),
        ('organ = "larynx"', ""),
        ("wrong side", "wrong"),
        ("2026-01-31", "2026-01-30"),
        (second, ""),
    ]:
        file.write_text(LIST.replace(old, new), encoding="utf-8")
        with pytest.raises(RejectsUnsigned, match="not what"):
            read_signed(file, public)


def test_the_name_of_the_signer_is_signed_too(signed: tuple[Path, str]) -> None:
    file, public = signed
    signature = signature_file(file)
    signature.write_text(signature.read_text().replace("A. Physicist", "B. Physicist"))
    with pytest.raises(RejectsUnsigned):
        read_signed(file, public)


def test_an_unsigned_list_and_one_signed_by_another_are_refused(
    signed: tuple[Path, str], tmp_path: Path
) -> None:
    file, public = signed
    other = make_key(tmp_path / "other.pem")
    with pytest.raises(RejectsUnsigned, match="another key"):
        read_signed(file, other)
    sign(file, tmp_path / "other.pem", "A. Physicist")
    with pytest.raises(RejectsUnsigned, match="another key"):
        read_signed(file, public)
    signature_file(file).unlink()
    with pytest.raises(RejectsUnsigned, match="no signature"):
        read_signed(file, public)


def test_a_list_that_cannot_be_meant_is_refused_with_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "rejects.toml"
    file.write_text(LIST.replace('reason = "wrong side"', "colour = 1"), encoding="utf-8")
    with pytest.raises(RejectsInvalid, match="2 problems"):
        read_rejects(file)
    file.write_text(LIST + LIST, encoding="utf-8")
    with pytest.raises(RejectsInvalid, match="twice"):
        read_rejects(file)


def test_a_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    make_key(key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with pytest.raises(KeyUnusable):
        make_key(key)


def test_the_command_line_makes_signs_and_verifies(tmp_path: Path) -> None:
    file, key = tmp_path / "rejects.toml", tmp_path / "key.pem"
    file.write_text(LIST, encoding="utf-8")
    run = CliRunner().invoke
    made = run(app, ["rejects", "keygen", str(key)])
    assert "rejects_key" in made.stderr
    public = made.stdout.strip()
    assert run(app, ["rejects", "sign", str(file), "--key", str(key), "--name", "A"]).exit_code == 0
    said = run(app, ["rejects", "verify", str(file), "--public-key", public])
    assert said.output == "2 rejects, signed by A\n"
    file.write_text(LIST.replace("SYN_001", "SYN_003"), encoding="utf-8")
    assert isinstance(
        run(app, ["rejects", "verify", str(file), "--public-key", public]).exception, RejectsUnsigned
    )


def test_the_key_of_a_person_signs_rejects_and_gates_alike(tmp_path: Path) -> None:
    file, key = tmp_path / "rejects.toml", tmp_path / "anna.pem"
    file.write_text(LIST, encoding="utf-8")
    public = signing.make_key(key)  # orgseg models keygen
    sign(file, key, "Anna")
    assert read_signed(file, public)[1] == "Anna"
    made = make_key(tmp_path / "ben.pem")
    gate = signing.sign("gate", {"verdict": "PASS"}, tmp_path / "ben.pem")
    assert gate.public_key == made
    assert signing.is_signed("gate", {"verdict": "PASS"}, gate)


def test_without_a_key_the_next_step_is_said(tmp_path: Path) -> None:
    file = tmp_path / "rejects.toml"
    file.write_text(LIST, encoding="utf-8")
    refused = CliRunner().invoke(app, ["rejects", "sign", str(file), "--name", "A"]).exception
    assert isinstance(refused, OptionInvalid)
    assert "orgseg-train rejects keygen FILE" in refused.sentence
