"""What the tests of RTSTRUCT and SEG share: a provenance, a series, and organs hard to draw."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orgseg_node.core.geometry import Grid, Shape
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.provenance import ModelVersion, Provenance
from orgseg_node.dicom.reading.series import CtSeries, read_series
from tests.support.ct.phantom import PhantomOptions, build_ct_series

PROVENANCE = Provenance(
    job_id="job-1",
    created=datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
    models=(
        ModelVersion(name="starter", version="1.0", sha256="ab" * 32),
        ModelVersion(name="larynx", version="2.0", sha256="cd" * 32),
    ),
    institution="Clinic",
)

SMALL = PhantomOptions(slices=8, rows=41, columns=43, slice_spacing_mm=2.5)
"""A frame of 1763 pixels does not end at a whole byte."""


def series_of(folder: Path, options: PhantomOptions | None = None) -> CtSeries:
    """A phantom series, written and read."""
    build_ct_series(folder, options)
    return read_series(folder)


def awkward_labels(shape: Shape) -> NDArray[np.uint8]:
    """Organs that break naive tracing, on at least (8, 40, 40) voxels.

    1 hollow, with an island in the hollow; 2 a lone voxel; 3 touches the image's border and both end slices;
    4 two islands, one of them two pixels that touch at a corner; 5 a wall of one pixel around three holes.
    """
    labels = np.zeros(shape, dtype=np.uint8)
    _, rows, columns = shape
    y, x = np.ogrid[:rows, :columns]
    radius = np.hypot(y - 13.2, x - 13.4)
    labels[2:6, (radius <= 9) & (radius >= 5)] = 1
    labels[2:6, radius <= 2] = 1
    labels[4, 30, 30] = 2
    labels[:, : rows // 3, columns - 6 :] = 3
    labels[3:6, rows - 9 : rows - 4, 3:9] = 4
    labels[3:6, [rows - 3, rows - 2], [20, 21]] = 4
    labels[6, 26:33, 10:23] = 5
    labels[6, 27:32, [11, 12, 13, 15, 16, 17, 19, 20, 21]] = 0
    return labels


def awkward_label_map(grid: Grid, table: OrganTable) -> LabelMap:
    """`awkward_labels` as organs of the table; organ 6 was looked for and not found."""
    keys = ("aorta", "eyeball_left", "liver", "kidney_right", "rectum", "spleen")
    organs = {label: table[key] for label, key in enumerate(keys, start=1)}
    return LabelMap(grid=grid, labels=awkward_labels(grid.shape), organs=organs)
