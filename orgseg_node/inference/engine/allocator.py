"""Freed memory is kept for the next tile instead of being given back to the system after each.

A network asks for the same large blocks on every tile. glibc takes each block afresh from the system, which
fills it with zeros page by page; that alone is 35 to 40 % of the time of a tile on a CPU
(``benchmarks/inference``). The results are the same bits.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Final

# <malloc.h>
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEEP_BLOCKS_UP_TO: Final = 1 << 30
_KEEP_AT_MOST: Final = (1 << 31) - 1
_USUAL: Final = 128 * 1024  # glibc's defaults for both


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory inside; give it back at the end. Without glibc nothing is changed."""
    malloc = _glibc()
    if malloc is None:
        yield
        return
    malloc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BLOCKS_UP_TO)
    malloc.mallopt(_M_TRIM_THRESHOLD, _KEEP_AT_MOST)
    try:
        yield
    finally:
        malloc.mallopt(_M_MMAP_THRESHOLD, _USUAL)
        malloc.mallopt(_M_TRIM_THRESHOLD, _USUAL)
        malloc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
