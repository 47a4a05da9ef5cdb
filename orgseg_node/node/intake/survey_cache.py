"""Surveys of series that have not been judged yet; they are made while the series becomes stable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from orgseg_node.node.intake.file_reader import FileReader, SurveyedSeries
from orgseg_node.node.store.model import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    of: tuple[tuple[str, str], ...]
    surveyed: SurveyedSeries


class Surveys:
    """Surveys series; with the same images, a series is surveyed only once.

    Parameters
    ----------
    data : the node's data folder
    reader : reads the files
    """

    MOST: ClassVar = 16
    """How many surveys are kept."""

    def __init__(self, data: Path, reader: FileReader) -> None:
        self._data = data
        self._reader = reader
        self._made: dict[str, _Made] = {}

    def has(self, series_uid: str, instances: Sequence[Instance]) -> bool:
        """Whether a series was surveyed and no image has arrived since."""
        made = self._made.get(series_uid)
        return made is not None and made.of == _images(instances)

    def of(self, series_uid: str, instances: Sequence[Instance]) -> SurveyedSeries:
        """The survey of a series; the existing one if no image has arrived since.

        Raises
        ------
        SurveyDied, SeriesUnreadable, SeriesUnexpected
            See `FileReader.survey`.
        """
        if not self.has(series_uid, instances):
            images = _images(instances)
            surveyed = self._reader.survey([self._data / path for path, _ in images])
            self._made[series_uid] = _Made(of=images, surveyed=surveyed)
            while len(self._made) > self.MOST:
                del self._made[next(iter(self._made))]
        return self._made[series_uid].surveyed

    def await_ready(self) -> None:
        """Wait until files can be read, see `FileReader.await_ready`."""
        self._reader.await_ready()

    def forget(self, series_uid: str) -> None:
        """Remove the survey of a series that was judged."""
        self._made.pop(series_uid, None)


def _images(instances: Sequence[Instance]) -> tuple[tuple[str, str], ...]:
    return tuple((one.path, one.sha256) for one in instances)
