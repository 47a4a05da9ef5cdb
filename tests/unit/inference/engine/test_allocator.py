"""Large blocks are reused only inside the context managers; afterwards the allocator is as before."""

from __future__ import annotations

import ctypes

import pytest

from orgseg_node.inference.engine.allocator import keep_freed_memory, keep_large_blocks

_SIZE = 400 << 20  # larger than any hole that earlier tests left in the heap
_FIELDS = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
)  # fmt: skip


class _Numbers(ctypes.Structure):
    """``struct mallinfo2``."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS)


_C = ctypes.CDLL(None)
pytestmark = pytest.mark.skipif(not hasattr(_C, "mallinfo2"), reason="this C library is not glibc 2.33")


@pytest.fixture(autouse=True)
def _types() -> None:
    _C.mallinfo2.restype = _Numbers
    _C.malloc.restype = ctypes.c_void_p
    _C.malloc.argtypes = (ctypes.c_size_t,)
    _C.free.argtypes = (ctypes.c_void_p,)
    _C.mallopt(-3, 128 * 1024)  # this also ends glibc's own moving of the threshold


def _fresh_from_the_system(size: int = _SIZE) -> bool:
    """Whether a large block is asked of the system, and given back to it."""
    before = _C.mallinfo2().hblks
    block = _C.malloc(size)
    mapped = bool(_C.mallinfo2().hblks > before)
    _C.free(block)
    assert _C.mallinfo2().hblks == before
    return mapped


def _kept_bytes() -> int:
    return int(_C.mallinfo2().keepcost)


def test_large_blocks_are_kept_inside_and_all_memory_is_returned_at_the_end() -> None:
    assert _fresh_from_the_system()
    for _ in range(2):  # usable twice
        with keep_freed_memory():
            assert _fresh_from_the_system()
            with keep_large_blocks():
                assert not _fresh_from_the_system()
            assert _kept_bytes() >= _SIZE
            assert _fresh_from_the_system(2 * _SIZE)
        assert _kept_bytes() < _SIZE
    assert _fresh_from_the_system()


def test_nested_uses_end_as_one() -> None:
    with keep_freed_memory():
        with keep_freed_memory(), keep_large_blocks():
            assert not _fresh_from_the_system()
        with keep_large_blocks():
            assert not _fresh_from_the_system()
    assert _fresh_from_the_system()
    assert _kept_bytes() < _SIZE


def _fail_inside() -> None:
    with keep_freed_memory(), keep_large_blocks():
        _fresh_from_the_system()
        raise KeyError


def test_a_failure_inside_restores_as_well() -> None:
    with pytest.raises(KeyError):
        _fail_inside()
    assert _fresh_from_the_system()
    assert _kept_bytes() < _SIZE
