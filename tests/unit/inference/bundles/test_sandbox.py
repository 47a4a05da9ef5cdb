"""The conversion of a checkpoint reaches neither the network nor the secrets of the node's environment."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orgseg_node.inference.bundles.sandbox import Sandbox, find_sandbox, reduced_environment, sandboxed

_CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
_LIMITED = """
import resource, sys
from orgseg_node.inference.bundles.sandbox import limit_this_process
limit_this_process(1_000_000)
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
try:
    bytearray(12 << 30)
except MemoryError:
    sys.exit(7)
"""


def test_secrets_of_the_environment_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORGSEG_DATABASE_PASSWORD", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = reduced_environment(tmp_path)
    assert "secret" not in found.values()
    assert found["HOME"] == found["TMPDIR"] == str(tmp_path)


def test_nothing_in_a_sandbox_reaches_a_port_of_this_machine() -> None:
    kind = find_sandbox()
    if kind == Sandbox.LIMITS:
        pytest.skip("neither bubblewrap nor unshare works here")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-I", "-S", "-c", _CONNECT, str(listener.getsockname()[1])]
        assert subprocess.run(command, check=False).returncode == 0
        inside = subprocess.run(sandboxed(command, kind, []), capture_output=True, check=False)
    assert inside.returncode != 0
    assert b"OSError" in inside.stderr or b"Error" in inside.stderr


@pytest.mark.parametrize("program", ["bwrap", "unshare"])
def test_a_program_that_does_not_work_is_not_used(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / program).write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    find_sandbox.cache_clear()
    try:
        assert shutil.which(program) is not None
        assert find_sandbox() == Sandbox.LIMITS
    finally:
        find_sandbox.cache_clear()


def test_bubblewrap_makes_only_the_named_folders_writable() -> None:
    command = sandboxed(["true"], Sandbox.BUBBLEWRAP, [Path("/a"), Path("/b")])
    assert "--unshare-all" in command
    assert command[-8:] == ["--bind", "/a", "/a", "--bind", "/b", "/b", "--", "true"]


def test_memory_is_limited() -> None:
    done = subprocess.run([sys.executable, "-c", _LIMITED], check=False)
    assert done.returncode == 7
