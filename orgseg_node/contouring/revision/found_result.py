"""What the networks found on the slices of a CT, before a protocol was applied, in one file.

With it another protocol can be tried on a case without running the networks again.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from orgseg_node.contouring.anatomy_check import FoundBy
from orgseg_node.contouring.revision.kept_result import BROKEN
from orgseg_node.core.organs import Organ
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ResultUnreadable

FOUND: Final = "found.npz"
_ABOUT, _LABELS = "about", "labels"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundResult:
    """What the networks found.

    Attributes
    ----------
    label_map : on the slices of the CT
    found_by : the networks
    not_searched : keys of organs of their models that were not requested
    """

    label_map: LabelMap
    found_by: FoundBy
    not_searched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    organs: dict[int, Organ]
    found_by: FoundBy
    not_searched: tuple[str, ...]


_JSON: Final = TypeAdapter(_About)


def keep_found(found: FoundResult) -> dict[str, bytes]:
    """What was found as a file, by its name; the same content gives the same bytes."""
    about = _About(
        organs=dict(found.label_map.organs), found_by=found.found_by, not_searched=found.not_searched
    )
    file = io.BytesIO()
    arrays = {
        _ABOUT: np.frombuffer(_JSON.dump_json(about), dtype=np.uint8),
        _LABELS: found.label_map.labels,
    }
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return {FOUND: file.getvalue()}


def load_found(content: bytes, series: CtSeries) -> FoundResult:
    """What was found.

    Parameters
    ----------
    content : of the file
    series : its CT

    Raises
    ------
    ResultUnreadable
        If the file is damaged, or of another series.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            about = _JSON.validate_json(arrays[_ABOUT].tobytes())
            labels: NDArray[np.uint8] = arrays[_LABELS]
    except (*BROKEN, ValidationError) as error:
        raise ResultUnreadable(f"{FOUND}: {type(error).__name__}.") from error
    geometry = series.geometry
    if labels.shape != geometry.shape or labels.dtype != np.uint8:
        raise ResultUnreadable(f"{FOUND} is of another series.")
    return FoundResult(
        label_map=LabelMap(grid=geometry, labels=labels, organs=about.organs),
        found_by=about.found_by,
        not_searched=about.not_searched,
    )
