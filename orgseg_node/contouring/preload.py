"""What can be done of a job before it is asked for: its series is read and its body found in the quiet time.

A series is waited on for seconds after its last image. A process that waits for work (`spare.py`) uses them;
what it found counts only if the job names the very same files with the very same content.
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

_MOST_VOXELS: Final = 1 << 28
"""1,024 slices of 512 x 512, three bytes each; a larger series is not held in memory until the job comes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
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


class Ahead:
    """Holds one series, the last one that was looked at.

    Parameters
    ----------
    most_voxels : of the largest series that is read
    """

    def __init__(self, *, most_voxels: int = _MOST_VOXELS) -> None:
        self._most_voxels = most_voxels
        self._files: frozenset[Path] = frozenset()
        self._content = ""
        self._seen: Seen | None = None

    def look(self, folder: Path) -> None:
        """Read the series that lies in a folder, if it is one that can be used; never raises."""
        self.forget()
        try:
            files = files_in(folder)
            inventory = survey(files)
            if inventory.refused or len(inventory.accepted) != 1:
                return
            (series,) = inventory.accepted
            if len(series.slices) * series.rows * series.columns > self._most_voxels:
                return
            volume = read_volume(series)
            seen = Seen(series=series, volume=volume, body=find_body(volume))
            # the hash comes last: it tells what was on the disk when all had been read
            self._files, self._content, self._seen = frozenset(files), series.content_sha256, seen
        except Exception:  # noqa: BLE001  # whatever it is, the job meets it again and says it in words
            self.forget()

    def seen(self, files: Iterable[Path], content_sha256: str) -> Seen | None:
        """What was read of a series, handed over once; None if these are other files or another content."""
        same = self._content == content_sha256 and self._files == frozenset(files)
        found = self._seen if same else None
        self.forget()
        return found

    def forget(self) -> None:
        """Hold nothing any more."""
        self._files, self._content, self._seen = frozenset(), "", None
