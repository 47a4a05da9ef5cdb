"""Reading a series before its job is made.

The node waits some seconds after the last image of a series. A process that waits for its next job uses this
time: it reads the series and finds the body. The result is used only if the job names the same files with the
same content.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_node.core.body import Body, find_body
from orgseg_node.core.volume import Volume
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import CtSeries, files_in, survey

_MAX_VOXELS: Final = 1 << 28
"""1,024 slices of 512 x 512 (three bytes per voxel); a larger series is not kept in memory for its job."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreloadedSeries:
    """A series that was read.

    Attributes
    ----------
    series : the CT
    volume : its Hounsfield units, (K, J, I) on ``series.grid``
    body : the patient in it
    """

    series: CtSeries
    volume: Volume
    body: Body


class SeriesPreloader:
    """Reads series and keeps the last one.

    Parameters
    ----------
    max_voxels : number of voxels of the largest series that is read
    """

    def __init__(self, *, max_voxels: int = _MAX_VOXELS) -> None:
        self._max_voxels = max_voxels
        self._files: frozenset[Path] = frozenset()
        self._content_sha256 = ""
        self._series: PreloadedSeries | None = None

    def preload(self, folder: Path) -> None:
        """Read the series in a folder and keep it, if it is one usable series; never raises."""
        self.clear()
        try:
            files = files_in(folder)
            inventory = survey(files)
            if inventory.refused or len(inventory.accepted) != 1:
                return
            (series,) = inventory.accepted
            if len(series.slices) * series.rows * series.columns > self._max_voxels:
                return
            volume = read_volume(series)
            preloaded = PreloadedSeries(series=series, volume=volume, body=find_body(volume))
            # hashed last: a file that has changed since it was read gives another hash than that of the job
            self._content_sha256 = series.content_sha256
            self._files, self._series = frozenset(files), preloaded
        except Exception:  # noqa: BLE001  # the job meets the same problem and reports it
            self.clear()

    def take(self, files: Iterable[Path], content_sha256: str) -> PreloadedSeries | None:
        """Return the series if it was read from these files with this content, else None; keep nothing.

        Parameters
        ----------
        files : all files of the series
        content_sha256 : see `CtSeries.content_sha256`
        """
        is_same = self._content_sha256 == content_sha256 and self._files == frozenset(files)
        found = self._series if is_same else None
        self.clear()
        return found

    def clear(self) -> None:
        """Keep nothing."""
        self._files, self._content_sha256, self._series = frozenset(), "", None
