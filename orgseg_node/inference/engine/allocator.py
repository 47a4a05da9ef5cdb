"""Freed memory is kept for the next tile instead of being given back to the system after each.

A network asks for the same large blocks on every tile. glibc takes each of them afresh from the system, which
fills it with zeros page by page; that alone is a third of the time of a tile on a CPU
(``benchmarks/inference``). The results are the same bits.

The kept memory grows only by what is asked for inside of `large_blocks_kept`. Large blocks that live longer
than a tile are best asked for outside of it and before the first tile, or they lie between the others and
break the room up.
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
_AT_MOST: Final = (1 << 31) - 1
_USUAL: Final = 128 * 1024  # glibc's default for both


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Give nothing back to the system inside, and all of it at the end; not to be nested.

    Without glibc nothing is changed.
    """
    _set(_M_TRIM_THRESHOLD, _AT_MOST)
    _set(_M_MMAP_THRESHOLD, _USUAL)
    try:
        yield
    finally:
        _set(_M_TRIM_THRESHOLD, _USUAL)
        malloc = _glibc()
        if malloc is not None:
            malloc.malloc_trim(0)


@contextlib.contextmanager
def large_blocks_kept() -> Iterator[None]:
    """Take large blocks from the kept memory inside."""
    _set(_M_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        _set(_M_MMAP_THRESHOLD, _USUAL)


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
