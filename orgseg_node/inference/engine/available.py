"""How much main memory is free."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

_CGROUP: Final = Path("/sys/fs/cgroup")


def free_memory(cgroup: Path = _CGROUP) -> int:
    """Bytes of main memory that are free for this process, within the limit of its container.

    Parameters
    ----------
    cgroup : folder where the system states the memory limit of the container
    """
    free = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = (cgroup / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))
