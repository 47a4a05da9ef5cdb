"""Isolates the items of a scan: what goes wrong with one of them does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from orgseg_node.errors import DatabaseUnreachable, ItemsFailed, OrgsegError
from orgseg_node.errors.unexpected import place

_NAMED: Final = 5
"""So many failed items are named in the error of a scan; the log has all of them."""

_log = structlog.get_logger("orgseg.scheduler")


def code_of(error: Exception) -> str:
    """The code of an error of this program; ``UNEXPECTED`` for any other exception."""
    return error.code if isinstance(error, OrgsegError) else "UNEXPECTED"


class Isolation:
    """Collects what went wrong with single items of one scan.

    Parameters
    ----------
    scan : name of the scan, for the log
    """

    def __init__(self, scan: str) -> None:
        self._scan = scan
        self._failed: list[str] = []

    @contextmanager
    def item(self, identity: str) -> Iterator[None]:
        """Handle one item: an exception is logged with its identity and ends here.

        Raises
        ------
        DatabaseUnreachable
            As every other item needs the database too.
        """
        try:
            yield
        except DatabaseUnreachable:
            raise
        except ItemsFailed as error:  # of a scan within this one, which has logged them
            self._failed.append(error.detail)
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to this item
            code, kind = code_of(error), type(error).__name__
            self._failed.append(f"{identity}: {code}")
            _log.error(
                "item failed", scan=self._scan, item=identity, code=code, kind=kind, place=place(error)
            )

    def finish(self) -> None:
        """Raise ItemsFailed if something went wrong with an item, now that the others are done."""
        if self._failed:
            more = len(self._failed) - _NAMED
            named = "; ".join(self._failed[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
            raise ItemsFailed(named)
