"""The series and the label map that the objects of these tests are made from; no test changes them."""

from __future__ import annotations

import pytest

from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.reading.series import CtSeries
from tests.support.ct.objects import SMALL, awkward_label_map, series_of


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> CtSeries:
    """A small phantom series."""
    return series_of(tmp_path_factory.mktemp("ct"), SMALL)


@pytest.fixture(scope="session")
def label_map(series: CtSeries, organ_table: OrganTable) -> LabelMap:
    """Organs hard to draw, on the grid of the series."""
    return awkward_label_map(series.grid, organ_table)
