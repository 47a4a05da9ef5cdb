"""Commands in the documents can be typed as they stand: they exist, with these options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from orgseg_node.cli.app import build_app
from orgseg_training.cli.app import app as training

_DOCS = Path(__file__).resolve().parents[3] / "docs"
_REFERENCES = {"cli.md", "orgseg-train.md"}  # made from the program
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ENDS = {"|", "||", "&&", ">", ">>", ";", "<", "2>"}

PROGRAMS: dict[str, Any] = {"orgseg": get_command(build_app()), "orgseg-train": get_command(training)}


def commands_of(text: str) -> Iterator[list[str]]:
    """The words of each command of our programs in the code blocks of a document."""
    for block in _BLOCK.findall(text):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            if words and words[0] in PROGRAMS:
                end = next((n for n, word in enumerate(words) if word in _ENDS), len(words))
                yield words[:end]


def problem_of(words: list[str]) -> str:
    """Why a command cannot be typed; empty if it can."""
    command: Any = PROGRAMS[words[0]]
    rest = words[1:]
    while getattr(command, "commands", {}) and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"{' '.join(words)}: there is no {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    options = {"--help"} | {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    unknown = [word for word in rest if word.startswith("--") and word.split("=")[0] not in options]
    return f"{' '.join(words)}: there is no {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize(
    "document", sorted(path.name for path in _DOCS.glob("*.md") if path.name not in _REFERENCES)
)
def test_every_command_of_a_document_exists(document: str) -> None:
    text = (_DOCS / document).read_text(encoding="utf-8")
    assert [problem for words in commands_of(text) if (problem := problem_of(words))] == []


def test_the_way_to_retrain_has_commands_without_gaps() -> None:
    words = list(commands_of((_DOCS / "retraining.md").read_text(encoding="utf-8")))
    assert len(words) > 15
    assert [line for line in words if "..." in line] == []


def test_wrong_commands_are_found() -> None:
    text = "```\norgseg models promte x --key k\norgseg-train site judge S L C --keys k # --no\n```\n"
    assert len([problem for words in commands_of(text) if (problem := problem_of(words))]) == 2
