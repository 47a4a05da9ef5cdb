"""Each state machine is in one file: no other module changes the state of a series, job or model."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import orgseg_node

ROOT = Path(orgseg_node.__file__).parent
CHANGE = re.compile(
    r"UPDATE (series|job|delivery|model_version|feedback)\b(?: \w+)? SET (?:(?!\bWHERE\b).)*?\bstate = "
    r"|INSERT INTO (series|job|delivery|model_version|feedback) \([^)]*\bstate\b"
)


def statements(path: Path) -> Iterator[str]:
    """The texts of a module, with ``?`` for each value that is formatted into one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values)


def test_only_one_module_changes_each_state() -> None:
    found: dict[str, set[str]] = {}
    for path in (ROOT / "node").rglob("*.py"):
        for text in statements(path):
            for match in CHANGE.finditer(text):
                found.setdefault(match[1] or match[2], set()).add(path.relative_to(ROOT).as_posix())
    assert found == {
        "series": {"node/store/series_states.py"},
        "job": {"node/store/job_states.py"},
        "delivery": {"node/store/delivery_states.py"},
        "model_version": {"node/models/version_states.py"},
        "feedback": {"node/feedback/rows.py"},
    }
