"""Reads received files: their headers, and whether two of them are the same image.

What is in a received file is decided by others, so the node reads files in a process of its own
(`orgseg_node.node.intake.reading_process`). Both are a `FileReader`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from orgseg_node.dicom.reading.same_image import Difference, differences
from orgseg_node.dicom.reading.series import CtSeries, Inventory, Refusal, survey
from orgseg_node.errors import InputError, OrgsegError, SeriesUnexpected, SeriesUnreadable
from orgseg_node.errors.unexpected import place
from orgseg_node.node.routing.facts import first_header

_LONGEST: Final = 65536
"""Bytes of the longest value of a header that is kept for the rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedSeries:
    """What was read of the files of a series.

    Attributes
    ----------
    inventory : the survey; the content of the accepted series is known, and their headers are as `header`
    header : of the first image, or of the first file that can be read; without sequences and long values
    """

    inventory: Inventory
    header: Dataset


class FileReader(Protocol):
    """Reads received files."""

    def survey(self, paths: Sequence[Path]) -> SurveyedSeries:
        """Read the headers of a series.

        Raises
        ------
        SurveyDied, ReadingStopped
            If a process of its own ended over them, or because the node stops.
        SeriesUnreadable, SeriesUnexpected
            If a file could not be read, or reading failed in a way that is not known.
        """
        ...

    def differences(self, one: Path, other: Path) -> tuple[Difference, ...]:
        """In what two files differ, see `orgseg_node.dicom.reading.same_image.differences`."""
        ...

    def prepare(self) -> None:
        """Get ready, since a series is arriving; returns at once."""
        ...

    def await_ready(self) -> None:
        """Wait until it can read. Raises SurveyDied, ReadingStopped."""
        ...


class DirectReader:
    """Reads received files in this process."""

    def survey(self, paths: Sequence[Path]) -> SurveyedSeries:
        """Read the headers of a series, and compute the content of the volumes in it."""
        try:
            return _survey(paths)
        except Exception as error:
            raise reading_error(error) from error

    def differences(self, one: Path, other: Path) -> tuple[Difference, ...]:
        """In what two files differ."""
        return differences(one, other)

    def prepare(self) -> None:
        """Nothing has to be prepared."""

    def await_ready(self) -> None:
        """It is always ready."""


def reading_error(error: Exception) -> OrgsegError:
    """The error with which a series is held; without the text of libraries, which may be patient data."""
    if isinstance(error, OrgsegError):
        return error
    where = f"{type(error).__name__} at {place(error)}."
    return SeriesUnreadable(where) if isinstance(error, (OSError, MemoryError)) else SeriesUnexpected(where)


def _survey(paths: Sequence[Path]) -> SurveyedSeries:
    inventory = survey(paths)
    accepted, refused = list[CtSeries](), list(inventory.refused)
    for one in inventory.accepted:
        try:
            accepted.append(replace(one.with_content(), header=_without_sequences(one.header)))
        except InputError as error:
            files = tuple(image.path for image in one.slices)
            refused.append(Refusal(series_instance_uid=one.series_instance_uid, error=error, paths=files))
    header = accepted[0].header if accepted else _without_sequences(first_header(paths))
    inventory = replace(inventory, accepted=tuple(accepted), refused=tuple(refused))
    return SurveyedSeries(inventory=inventory, header=header)


def _without_sequences(header: Dataset) -> Dataset:
    """The values that a rule can test, which are not many bytes, with the character set they are in."""
    kept = Dataset()
    implicit, little = header.original_encoding
    kept.set_original_encoding(implicit, little, header.original_character_set)
    for tag, element in header.items():
        is_known = element.VR in {None, "UN"} and dictionary_has_tag(tag)
        vr = dictionary_VR(tag) if is_known else element.VR
        value = element.value
        if vr != "SQ" and not (isinstance(value, (bytes, str, MultiValue)) and len(value) > _LONGEST):
            kept[tag] = element
    return kept
