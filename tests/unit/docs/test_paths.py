"""Paths that documents name exist: the new ones of the table in ADR 0001, and those of the architecture."""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
_PACKAGE = _ROOT / "orgseg_node"
_BASES = (
    _ROOT,
    _PACKAGE,
    _PACKAGE / "node",
    _PACKAGE / "inference",
    _ROOT / "training" / "orgseg_training",
)

_PATH = re.compile(r"`([\w./]+(?:\.py|\.toml|/))`")


def _missing(paths: list[str]) -> list[str]:
    """Paths that do not exist; a name without a folder is looked for in the folder of the path before it."""
    missing, folder = [], Path()
    for path in paths:
        found = [base / path for base in _BASES if (base / path).exists()]
        if "/" not in path and not found and (folder / path).exists():
            continue
        if found:
            folder = found[0].parent
        else:
            missing.append(path)
    return missing


def test_the_new_paths_of_the_decision_exist() -> None:
    text = (_ROOT / "docs" / "adr" / "0001-packages-and-layers.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("| `")]
    paths = [path for cell in rows for path in _PATH.findall(cell)]
    assert len(paths) > 200
    assert _missing(paths) == []


def test_the_paths_of_the_architecture_exist() -> None:
    text = (_ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = [path for path in _PATH.findall(text) if "/" in path.rstrip("/")]
    assert len(paths) > 40
    assert _missing(paths) == []
