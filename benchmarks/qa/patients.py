"""The patients of the benchmark: OpenKBP, split as the starter bundle was trained.

The source blanks what is outside the region of its dose calculation. A scan is cut where a body section is
less than `_JUMP` of its neighbour, and left out if its largest section is below `_LEAST_MM` across: the image
shows only a piece of the patient there. Both look at the image alone. An organ that loses half of itself by
this is not used.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.qa.faults import Patient
from orgseg_node.core.body import find_body
from orgseg_node.core.geometry import Box
from orgseg_node.core.volume import Mask
from orgseg_training.datasets.nifti import read_labels, read_volume
from orgseg_training.datasets.openkbp import LABELS, Case, read_cases

TRAINING, LOCKED, MORE = "training", "locked", "more"
PIECES: Final = {
    "OKBP_089": "a part of the face, and a brain without skull",
    "OKBP_156": "a brain without skull in half of the slices",
    "OKBP_203": "a jaw that is cut in pieces",
}
"""Images in which the source has blanked parts of the patient; `load` does not notice it, an eye does."""
_JUMP: Final = 0.7
_LEAST_MM: Final = 125.0
_FEWEST: Final = 20  # slices
_FOLDERS: Final = ("openkbp_head_neck", "openkbp_head_neck_more")


def data_folder() -> Path:
    """Folder of the data sets: ``ORGSEG_TEST_DATA``, by default ``../shared/data``."""
    return Path(os.environ.get("ORGSEG_TEST_DATA", "../shared/data"))


def cases(group: str) -> tuple[Case, ...]:
    """The cases of a group.

    Parameters
    ----------
    group : ``training``, those from which the starter's reference is made; ``locked``, its test patients;
        ``more``, of the second folder
    """
    folder = data_folder() / _FOLDERS[group == MORE]
    return tuple(c for c in read_cases(folder) if group == MORE or c.locked == (group == LOCKED))


def load(case: Case) -> Patient | None:
    """A patient, cut to the slices that show one; None if only pieces of the patient are shown."""
    volume = read_volume(case.image)
    body = find_body(volume).mask
    shown = complete_slices(body)
    largest = float(body[shown].sum(axis=(1, 2)).max()) * float(np.prod(volume.grid.pixel_spacing_mm))
    if np.sqrt(largest) < _LEAST_MM or shown.stop - shown.start < _FEWEST:
        return None
    box = Box(start=(shown.start, 0, 0), stop=(shown.stop, *volume.grid.shape[1:]))
    whole = read_labels(case.labels)
    labels = whole[shown]
    drawn = {
        key: number
        for key, number in LABELS.items()
        if key in case.drawn and 2 * np.count_nonzero(labels == number) > np.count_nonzero(whole == number)
    }
    return Patient(
        name=case.name,
        hu=volume.hu[shown].astype(np.int16),
        body=body[shown],
        labels=labels,
        numbers=drawn,
        grid=volume.grid.crop(box),
    )


def complete_slices(body: Mask) -> slice:
    """The longest run of slices in which no body section is much smaller than its neighbour."""
    areas = body.sum(axis=(1, 2)).astype(np.float64)
    jumps = [k for k, (a, b) in enumerate(pairwise(areas), 1) if min(a, b) < _JUMP * max(a, b)]
    ends = [
        (0, 0),
        *((k, 1) for k in jumps),
        (areas.size, 0),
    ]  # the slice beside a jump may be incomplete too
    runs = [slice(first + a, last - b) for (first, a), (last, b) in pairwise(ends)]
    return max(runs, key=lambda run: run.stop - run.start)
