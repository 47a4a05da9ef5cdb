"""Enhanced CT: each frame of a file with a header like that of a single-frame image.

In a multi-frame file (PS3.3, C.7.6.16) the attributes of a frame are stored in functional groups, shared by
all frames or per frame. Copied to the top level, as in single-frame images, every reader of headers can use
them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from pydicom.dataset import Dataset, FileDataset

from orgseg_node.dicom.reading.files import integer, without_pydicom_warnings
from orgseg_node.errors import InvalidAttribute, MissingAttribute

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_CONVERTED = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "CTImageFrameTypeSequence",
    "CTAcquisitionDetailsSequence",
    "FrameContentSequence",
    "TemporalPositionSequence",
    "RespiratorySynchronizationSequence",
    "CardiacSynchronizationSequence",
)


def frame_headers(dataset: FileDataset) -> Iterator[tuple[int, FileDataset]]:
    """Number of each frame, from 1, and its header in single-frame form.

    Raises
    ------
    MissingAttribute
        If there are no functional groups.
    InvalidAttribute
        If they are damaged, or their number is not the number of frames.
    """
    base, shared, frames = _functional_groups(dataset)
    for number, frame in enumerate(frames, start=1):
        yield number, _header(base, shared, frame)


def frame_header(dataset: FileDataset, number: int) -> FileDataset:
    """The header of one frame, numbered from 1; see `frame_headers` for what it raises."""
    base, shared, frames = _functional_groups(dataset)
    if not 1 <= number <= len(frames):
        raise InvalidAttribute("A file no longer has a frame that it had before.")
    return _header(base, shared, frames[number - 1])


def _functional_groups(dataset: FileDataset) -> tuple[FileDataset, Dataset, list[Dataset]]:
    """The header without functional groups, the shared ones, and those of each frame."""
    try:
        with without_pydicom_warnings():
            shared = list(dataset.get(_SHARED) or [])
            frames = list(dataset.get(_PER_FRAME) or [])
    except Exception:  # noqa: BLE001  # damaged bytes make the parser raise any exception
        raise InvalidAttribute("The functional groups of its frames cannot be read.") from None
    if not frames:
        raise MissingAttribute("Per-Frame Functional Groups Sequence.")
    if len(frames) != (integer(dataset, "NumberOfFrames") or 0):
        raise InvalidAttribute("Number of Frames is not the number of its functional groups.")
    base = copy.copy(dataset)
    for keyword in (_SHARED, _PER_FRAME, "NumberOfFrames"):
        base.pop(keyword, None)
    return base, shared[0] if shared else Dataset(), frames


def _header(base: FileDataset, shared: Dataset, frame: Dataset) -> FileDataset:
    header = copy.copy(base)
    try:
        with without_pydicom_warnings():
            for groups in (shared, frame):
                for (
                    keyword
                ) in _CONVERTED:  # attributes that a converter could not assign: standard groups come first
                    _put(header, groups, keyword, over=False)
            for groups in (shared, frame):
                for keyword in _GROUPS:
                    _put(header, groups, keyword, over=True)
            if "FrameType" in header:
                # a new element: setting the value would change the element that all frames share
                header.add_new("ImageType", "CS", header.FrameType)
    except Exception:  # noqa: BLE001  # as above
        raise InvalidAttribute("The functional groups of a frame cannot be read.") from None
    return header


def _put(header: FileDataset, groups: Dataset, keyword: str, *, over: bool) -> None:
    for item in list(groups.get(keyword) or [])[:1]:
        for tag in item.keys():  # noqa: SIM118  # iterating over a dataset would decode every element
            if over or tag not in header:
                header[tag] = item.get_item(tag)
