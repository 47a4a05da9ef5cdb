"""The slices of a contoured CT in a small file, so that a viewer need not read every header again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.dicom.reading.slices import CtSlice, Orientation
from orgseg_node.errors import ResultMissing

FORMAT: Final = 1
_TUPLES: Final = ("position_mm", "position_ds", "orientation")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceTable:
    """The slices of a CT as they were contoured.

    Attributes
    ----------
    slices : in order along the normal, as index ``k`` of the volume
    rows, columns : size of a slice
    pixel_spacing_mm : (row spacing, column spacing)
    orientation : Image Orientation (Patient) of the series
    heights_mm : of each slice along the normal
    """

    slices: tuple[CtSlice, ...]
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    orientation: Orientation
    heights_mm: tuple[float, ...]

    def to_json(self) -> str:
        """The table as JSON, without the paths of the files: images may be moved."""
        names = [field.name for field in fields(CtSlice) if field.name != "path"]
        content = {
            "format": FORMAT,
            "rows": self.rows,
            "columns": self.columns,
            "pixel_spacing_mm": self.pixel_spacing_mm,
            "orientation": self.orientation,
            "heights_mm": self.heights_mm,
            "fields": names,
            "slices": [[getattr(one, name) for name in names] for one in self.slices],
        }
        return json.dumps(content)


def table_of(series: CtSeries) -> SliceTable:
    """The table of the slices of a series."""
    return SliceTable(
        slices=series.slices,
        rows=series.rows,
        columns=series.columns,
        pixel_spacing_mm=series.pixel_spacing_mm,
        orientation=series.orientation,
        heights_mm=tuple(float(height) for height in series.geometry.heights_mm),
    )


def slice_table(text: str, paths: Mapping[str, Path]) -> SliceTable:
    """The table of a file.

    Parameters
    ----------
    text : as `SliceTable.to_json` wrote it
    paths : files of the images, by SOP Instance UID

    Raises
    ------
    ResultMissing
        If it is damaged, of another format, or an image is not among the paths.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        if content["format"] != FORMAT:
            raise ResultMissing("The table of slices has another format.")
        slices = tuple(
            _slice(dict(zip(content["fields"], row, strict=True)), paths) for row in content["slices"]
        )
        heights = tuple(float(height) for height in content["heights_mm"])
        if not slices or len(slices) != len(heights):
            raise ResultMissing("The table of slices is damaged.")
        row_mm, column_mm = content["pixel_spacing_mm"]
        a, b, c, d, e, f = content["orientation"]
        return SliceTable(
            slices=slices,
            rows=int(content["rows"]),
            columns=int(content["columns"]),
            pixel_spacing_mm=(row_mm, column_mm),
            orientation=(a, b, c, d, e, f),
            heights_mm=heights,
        )
    except (KeyError, TypeError, ValueError):
        raise ResultMissing("The table of slices is damaged, or an image is not here.") from None


def _slice(values: dict[str, Any], paths: Mapping[str, Path]) -> CtSlice:
    values |= {name: tuple(values[name]) for name in _TUPLES}
    return CtSlice(path=paths[str(values["sop_instance_uid"])], **values)
