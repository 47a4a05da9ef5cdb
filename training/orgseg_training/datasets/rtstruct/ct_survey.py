"""The survey of a whole archive, in which no file and no series can hide the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from orgseg_node.dicom.reading.files import open_header, whole_text
from orgseg_node.dicom.reading.series import Inventory, survey
from orgseg_node.errors import OrgsegError
from orgseg_training.errors import scan_error


def survey_each(
    paths: Sequence[Path], survey_of: Callable[[Sequence[Path]], Inventory] = survey
) -> tuple[Inventory, list[tuple[Path, OrgsegError]]]:
    """The survey of files, and the first file of each series whose survey fails, with the reason.

    Bad input is refused by the survey itself; this is for exceptions that nobody expected.

    Parameters
    ----------
    paths : the files
    survey_of : the survey
    """
    with suppress(Exception):  # it is found out below whose exception it is
        return survey_of(paths), []
    inventories: list[Inventory] = []
    failed: list[tuple[Path, OrgsegError]] = []
    for files in _by_series(paths):
        try:
            inventories.append(survey_of(files))
        except Exception as error:  # noqa: BLE001  # as above
            failed.append((files[0], scan_error(error)))
    return _joined(inventories), failed


def _by_series(paths: Iterable[Path]) -> list[list[Path]]:
    """Files by Series Instance UID, or by frame of reference; each file without either stays alone."""
    found: defaultdict[str | Path, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            header, _ = open_header(path)
            uid = whole_text(header, "SeriesInstanceUID") or whole_text(header, "FrameOfReferenceUID")
        except Exception:  # noqa: BLE001  # what it is shows in its survey
            uid = ""
        found[uid or path].append(path)
    return list(found.values())


def _joined(inventories: Sequence[Inventory]) -> Inventory:
    return Inventory(
        accepted=tuple(chain.from_iterable(one.accepted for one in inventories)),
        refused=tuple(chain.from_iterable(one.refused for one in inventories)),
        aside=tuple(chain.from_iterable(one.aside for one in inventories)),
        patients=sum(one.patients for one in inventories),
    )
