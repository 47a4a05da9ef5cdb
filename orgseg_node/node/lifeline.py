"""A process that ends when its parent does, however that happens."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that happens.

    Linux sends the signal itself (prctl PR_SET_PDEATHSIG); a thread that looks once a second does it
    elsewhere, and where the parent died before this was called. A fork does not inherit either: it must
    call this itself.

    Parameters
    ----------
    parent : process number of the parent
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=look, daemon=True).start()
