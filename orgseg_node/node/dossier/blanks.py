"""What only the hospital can say: marked as a blank, never filled by the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MARK: Final = "[BLANK"
"""The beginning of each blank, to be searched for."""


def blank(what: str) -> str:
    """A blank, with what belongs there."""
    return f"**{MARK}: {what}]**"


def table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown; a sentence instead of one without rows."""
    if not rows:
        return "None.\n"
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
