"""All series of the zoo."""

from __future__ import annotations

from benchmarks.series_zoo.places import PLACES
from benchmarks.series_zoo.row import Row
from benchmarks.series_zoo.storage import STORAGE
from benchmarks.series_zoo.studies import STUDIES

ZOO: tuple[Row, ...] = (*PLACES, *STORAGE, *STUDIES)
