"""Freed memory is kept for the next tile instead of being returned to the system after each tile.

A network allocates the same large blocks on every tile. glibc requests each block from the system again,
which fills it with zeros page by page; on a CPU that alone is a third of the time of a tile
(``benchmarks/inference``). The results are the same bits.

The kept memory grows only by allocations inside `keep_large_blocks`. Large blocks that are used for longer
than one tile should be allocated outside it and before the first tile; otherwise they fragment the kept
memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from typing import Final

# <malloc.h>
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 1 << 30
_MAX_INT: Final = (1 << 31) - 1
_DEFAULT: Final = 128 * 1024  # glibc's default for both


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Return no freed memory to the system inside, and all of it at the end; do not nest it.

    Without glibc nothing changes.
    """
    _set(_M_TRIM_THRESHOLD, _MAX_INT)
    _set(_M_MMAP_THRESHOLD, _DEFAULT)
    try:
        yield
    finally:
        _set(_M_TRIM_THRESHOLD, _DEFAULT)
        malloc = _glibc()
        if malloc is not None:
            malloc.malloc_trim(0)


@contextlib.contextmanager
def keep_large_blocks() -> Iterator[None]:
    """Allocate large blocks from the kept memory inside."""
    _set(_M_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        _set(_M_MMAP_THRESHOLD, _DEFAULT)


def _set(option: int, value: int) -> None:
    malloc = _glibc()
    if malloc is not None:
        malloc.mallopt(option, value)


@cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
