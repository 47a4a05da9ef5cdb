"""Surveys of series that have not been judged yet, kept until they are: they are made in the quiet time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from orgseg_node.dicom.reading.series import Inventory, survey
from orgseg_node.node.store.model import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    of: tuple[tuple[str, str], ...]
    inventory: Inventory


class Surveys:
    """Surveys series, each once for the same images.

    Parameters
    ----------
    data : folder below which the images lie
    """

    MOST: ClassVar = 16
    """So many are kept."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._made: dict[str, _Made] = {}

    def has(self, series_uid: str, instances: Sequence[Instance]) -> bool:
        """Whether the images of a series were surveyed, and none has come since."""
        made = self._made.get(series_uid)
        return made is not None and made.of == _images(instances)

    def of(self, series_uid: str, instances: Sequence[Instance]) -> Inventory:
        """The survey of a series' images; the one that was made before, if no image has come since."""
        if not self.has(series_uid, instances):
            images = _images(instances)
            inventory = survey([self._data / path for path, _ in images])
            self._made[series_uid] = _Made(of=images, inventory=inventory)
            while len(self._made) > self.MOST:
                del self._made[next(iter(self._made))]
        return self._made[series_uid].inventory

    def forget(self, series_uid: str) -> None:
        """A series was judged; its survey is not needed any more."""
        self._made.pop(series_uid, None)


def _images(instances: Sequence[Instance]) -> tuple[tuple[str, str], ...]:
    return tuple((one.path, one.sha256) for one in instances)
