"""The folder of weights of TotalSegmentator: which of its data sets make which task.

Names, numbers and crops are those of TotalSegmentator 2.18 (Wasserthal et al., Apache-2.0). It trains on RAS
images, uses fold 0 alone and never mirrors in use, whatever its trainers allow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_node.errors import ModelNotImportable
from orgseg_node.inference.bundles.nnunet.other_kinds import folder_kind

KEYWORD: Final = "totalsegmentator"
ORIENTATION: Final = "RAS"

_DATASET: Final = re.compile(r"Dataset(\d{3,})_.+")
_DEFAULT: Final = "total"
_STEP, _LARGE_STEP = 0.5, 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalSegmentatorTask:
    """A task for CT.

    Attributes
    ----------
    name : such as ``total``; the variants at 3 and 6 mm are ``total_fast`` and ``total_fastest``
    datasets : numbers of its data sets, one network each
    crop : the part of the patient in which TotalSegmentator runs it; empty for the whole image
    restricted : whether TotalSegmentator asks for a licence
    """

    name: str
    datasets: tuple[int, ...]
    crop: str = ""
    restricted: bool = False

    @property
    def tile_step_size(self) -> float:
        """The step of the sliding window that TotalSegmentator runs it with, as a fraction of the patch."""
        return _LARGE_STEP if self.name == _DEFAULT else _STEP

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person must know of it."""
        if not self.crop:
            return ()
        sentence = (
            f"TotalSegmentator runs {self.name} only around the {self.crop}; the node runs it on the whole "
            "patient, where it may find more: look at it before use."
        )
        return (sentence,)


def _tasks(*rows: tuple[str, tuple[int, ...], str, bool]) -> Mapping[str, TotalSegmentatorTask]:
    return {
        name: TotalSegmentatorTask(name=name, datasets=datasets, crop=crop, restricted=restricted)
        for name, datasets, crop, restricted in rows
    }


TASKS: Final = _tasks(
    ("total", (291, 292, 293, 294, 295), "", False),
    ("total_fast", (297,), "", False),
    ("total_fastest", (298,), "", False),
    ("total_v3", (831, 832, 833, 834, 835), "", False),
    ("total_v3_fast", (836,), "", False),
    ("total_v3_fastest", (837,), "", False),
    ("body", (299,), "", False),
    ("body_fast", (300,), "", False),
    ("head_glands_cavities", (775,), "skull", False),
    ("headneck_bones_vessels", (776,), "neck", False),
    ("head_muscles", (777,), "skull", False),
    ("headneck_muscles", (778, 779), "neck", False),
    ("oculomotor_muscles", (351,), "skull", False),
    ("craniofacial_structures", (115,), "skull", False),
    ("teeth", (113,), "teeth", False),
    ("breasts", (527,), "", False),
    ("lung_vessels", (117,), "lungs", False),
    ("pleural_pericard_effusion", (315,), "lungs", False),
    ("liver_segments", (570,), "liver", False),
    ("kidney_cysts", (789,), "kidneys", False),
    ("abdominal_muscles", (952,), "trunk", False),
    ("trunk_cavities", (343,), "", False),
    ("vertebrae_body", (305,), "", False),
    ("vertebrae_pp", (803,), "", False),
    ("heartchambers_highres", (301,), "heart", True),
    ("coronary_arteries", (509,), "heart", True),
    ("appendicular_bones", (304,), "", True),
    ("tissue_types", (481,), "", True),
    ("brain_structures", (409,), "brain", True),
)


def choose_task(source: Path, wanted: str | None) -> TotalSegmentatorTask:
    """The task to import from a folder of weights.

    Parameters
    ----------
    source : such as ``~/.totalsegmentator/nnunet/results``, with folders named ``Dataset291_...``
    wanted : name of the task; None for the only complete one, or ``total``

    Raises
    ------
    ModelNotImportable
        If the task is not known, is not complete in the folder, or is not clear.
    """
    here = (source.resolve(), *source.rglob("Dataset*"))
    found = {int(match[1]) for path in here if (match := _DATASET.fullmatch(path.name))}
    complete = [task for task in TASKS.values() if found.issuperset(task.datasets)]
    if wanted is not None and wanted not in TASKS:
        raise ModelNotImportable(f"There is no CT task '{wanted}' of TotalSegmentator: {', '.join(TASKS)}.")
    if wanted is None and not complete:
        parts = found.intersection(TASKS[_DEFAULT].datasets)
        if not parts:
            if not found:
                raise ModelNotImportable(f"There is no data set of TotalSegmentator. {folder_kind(source)}")
            there = ", ".join(map(str, sorted(found)))
            raise ModelNotImportable(f"There is no CT task of TotalSegmentator; data sets there: {there}.")
        wanted = _DEFAULT
    if wanted is None:
        if len(complete) == 1:
            return complete[0]
        if TASKS[_DEFAULT] in complete:
            return TASKS[_DEFAULT]
        names = ", ".join(task.name for task in complete)
        raise ModelNotImportable(f"The folder holds several tasks ({names}); choose one with --task.")
    task = TASKS[wanted]
    missing = [str(number) for number in task.datasets if number not in found]
    if missing:
        raise ModelNotImportable(
            f"Data set {', '.join(missing)} of the task {wanted} is missing in '{source.name}'; get the "
            f"weights with TotalSegmentator's own command: totalseg_download_weights -t {wanted}."
        )
    return task


def is_of(folder: Path, datasets: tuple[int, ...]) -> bool:
    """Whether a trained-model folder belongs to one of these data sets."""
    matches = (_DATASET.fullmatch(part) for part in folder.resolve().parts)
    return any(int(match[1]) in datasets for match in matches if match)
