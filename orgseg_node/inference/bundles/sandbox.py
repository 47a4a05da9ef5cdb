"""What keeps the conversion of a pickled checkpoint away from network, secrets and other files.

Three kinds, the first that works on this machine: bubblewrap (no network, files read-only, processes of its
own), ``unshare`` (no network), and limits alone (memory, size of files, no core dump). The limits hold in all
three, and the environment is always reduced to what Python needs.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final

_PROBE_S: Final = 20
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")
_GIB: Final = 1024**3
_BASE_BYTES: Final = 8 * _GIB
_COPIES: Final = 6
"""Copies of the weights in memory: as stored, in the network, in float32, and to write; twice as reserve."""


class Sandbox(StrEnum):
    """How a conversion is kept apart."""

    BUBBLEWRAP = "bubblewrap"
    UNSHARE = "unshare"
    LIMITS = "limits"

    @property
    def description(self) -> str:
        """What it means, in a few words."""
        return {
            Sandbox.BUBBLEWRAP: "in bubblewrap: no network, no writing outside its folder",
            Sandbox.UNSHARE: "in namespaces of its own (unshare): no network; files are not protected",
            Sandbox.LIMITS: "with limits alone: neither bubblewrap nor unshare works here, so foreign "
            "checkpoints should be converted on another machine",
        }[self]


def sandboxed(command: Sequence[str], kind: Sandbox, writable: Sequence[Path]) -> list[str]:
    """A command inside a sandbox.

    Parameters
    ----------
    command : program and arguments
    kind : a sandbox that works on this machine, see `find_sandbox`
    writable : folders to which it may write; only bubblewrap enforces this
    """
    if kind == Sandbox.UNSHARE:
        return ["unshare", "--user", "--net", "--ipc", "--", *command]
    if kind == Sandbox.LIMITS:
        return list(command)
    own = [text for path in writable for text in ("--bind", str(path), str(path))]
    apart = ["--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/", "--dev", "/dev"]
    return ["bwrap", *apart, *own, "--", *command]


@cache
def find_sandbox() -> Sandbox:
    """The best sandbox of this machine; each is tried with a program that does nothing."""
    for kind, program in ((Sandbox.BUBBLEWRAP, "bwrap"), (Sandbox.UNSHARE, "unshare")):
        if shutil.which(program) is not None and _works(kind):
            return kind
    return Sandbox.LIMITS


def _works(kind: Sandbox) -> bool:
    command = sandboxed([sys.executable, "-I", "-S", "-c", "pass"], kind, [])
    try:
        return subprocess.run(command, capture_output=True, timeout=_PROBE_S, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def reduced_environment(home: Path) -> dict[str, str]:
    """The environment of a conversion: no tokens, passwords or addresses of the node's own.

    Parameters
    ----------
    home : a folder that is deleted afterwards, for home and temporary files
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home)}


def limit_this_process(checkpoint_bytes: int) -> None:
    """Limit memory, files and core dumps of this process, for good.

    Parameters
    ----------
    checkpoint_bytes : size of the largest checkpoint it will read
    """
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: _BASE_BYTES + _COPIES * checkpoint_bytes,
        resource.RLIMIT_FSIZE: _GIB + 2 * checkpoint_bytes,
    }
    for limit, value in wanted.items():
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901
        resource.setrlimit(limit, (value, value))
