"""What an exception that has no code of its own means for a job.

Its type and its place in this program are reported, never its text: texts of libraries quote values of the
images, which may be patient data. The same images meet the same exception again, so it is not repeated.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Final

from orgseg_node.errors import DiskFull, OrgsegError, OutOfMemory, SystemCallFailed, UnexpectedFailure

_PACKAGES: Final = {"orgseg_node", "orgseg_training"}
_DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_MAY_PASS: Final = {
    errno.EIO, errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.EBUSY, errno.ESTALE,
    errno.ETIMEDOUT,
}  # fmt: skip


def coded(error: Exception) -> OrgsegError:
    """An error with a code for any exception.

    Memory that ran out and a full disk get their own codes, since another attempt may help, as do errors of
    the operating system that may pass. Everything else is an `UnexpectedFailure` with type and place.

    Parameters
    ----------
    error : any exception; one that has a code is returned as it is
    """
    if isinstance(error, OrgsegError):
        return error
    for one in _chain(error):
        number = one.errno if isinstance(one, OSError) else None
        if isinstance(one, MemoryError) or number == errno.ENOMEM:
            return OutOfMemory()
        if number in _DISK_FULL:
            return DiskFull()
        if number in _MAY_PASS:
            return SystemCallFailed(f"{errno.errorcode[number]} at {place(error)}.")
    return UnexpectedFailure(f"{type(error).__name__} at {place(error)}.")


def place(error: BaseException) -> str:
    """Module and line of this program at which an exception was raised, ``module:line``.

    Inside a library it is the line of this program that called it.
    """
    last = "an unknown place"
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", ""))
        if module == "__main__":  # started with python -m
            module = getattr(frame.f_globals.get("__spec__"), "name", "")
        if module.partition(".")[0] in _PACKAGES:
            last = f"{module}:{line}"
    return last


def stack_without_text(error: BaseException) -> str:
    """The stack of an exception and of its causes, with their types but without their texts."""
    parts = []
    for one in reversed(list(_chain(error))):
        parts += [*_stack(one.__traceback__), f"{type(one).__module__}.{type(one).__name__}\n"]
    return "".join(parts)


def _stack(tb: TracebackType | None) -> Iterator[str]:
    for frame, line in traceback.walk_tb(tb):
        code = frame.f_code
        yield f'  File "{code.co_filename}", line {line}, in {code.co_name}\n'


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and each that it was raised from or while handling, once."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
