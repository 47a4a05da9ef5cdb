"""All series of the zoo."""

from __future__ import annotations

from benchmarks.series_zoo.case import ZooCase
from benchmarks.series_zoo.geometry import GEOMETRY
from benchmarks.series_zoo.storage import STORAGE
from benchmarks.series_zoo.studies import STUDIES

ZOO: tuple[ZooCase, ...] = (*GEOMETRY, *STORAGE, *STUDIES)
