"""The written reference of training's commands is the program's, and says nothing of this machine."""

from __future__ import annotations

from pathlib import Path

from tools.docs.training_reference import reference

ROOT = Path(__file__).resolve().parents[3]


def test_the_written_reference_is_what_the_program_has() -> None:
    assert (ROOT / "docs" / "orgseg-train.md").read_text(encoding="utf-8") == reference()


def test_every_command_is_in_it_and_no_place_on_this_machine() -> None:
    text = reference()
    commands = ("evaluate", "tables", "step", "run", "study check")
    assert [name for name in commands if f"\n## orgseg-train {name}\n" not in text] == []
    assert str(ROOT) not in text


def test_the_makefile_writes_it() -> None:
    assert "tools.docs.training_reference > docs/orgseg-train.md" in (ROOT / "Makefile").read_text(
        encoding="utf-8"
    )
