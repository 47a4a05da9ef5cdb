"""Whose images the series have, read from the images when a page asks, and kept in memory only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from orgseg_node.node.operations.overview import Identity, identity_of
from orgseg_node.node.store.store import Store

_MOST: Final = 5000


class Identities:
    """Identities by Series Instance UID.

    Parameters
    ----------
    data_dir : the node's data folder
    store : its database
    """

    def __init__(self, data_dir: Path, store: Store) -> None:
        self._data_dir = data_dir
        self._store = store
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Identity, Path]] = OrderedDict()

    def of(self, series_uid: str) -> Identity | None:
        """Whose images a series has; None if that cannot be read, or no image is here any more."""
        with self._lock:
            known = self._known.get(series_uid)
            if known is not None:
                self._known.move_to_end(series_uid)
        if known is not None and known[1].exists():
            return known[0]
        instances = self._store.instances_of(series_uid)
        found = identity_of(self._data_dir, instances)
        with self._lock:
            self._known.pop(series_uid, None)  # it ends with the images
            if found is not None:
                self._known[series_uid] = (found, (self._data_dir / instances[0].path).parent)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found
