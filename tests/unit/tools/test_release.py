"""What a release is held against before it is built."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tools.release import checksums, tag_problems, version


def test_a_tag_is_the_version_and_has_a_section_in_the_changelog() -> None:
    changelog = f"# Changelog\n\n## [{version()}]\n"
    assert tag_problems(f"v{version()}", changelog) == []
    assert len(tag_problems("v99.0.0", changelog)) == 1
    assert len(tag_problems("v99.0.0", "# Changelog\n")) == 2


def test_checksums_are_read_by_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"a")
    (tmp_path / "b.json").write_bytes(b"b")
    checksums(tmp_path)
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    (tmp_path / "b.json").write_bytes(b"c")
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode != 0
