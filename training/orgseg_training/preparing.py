"""Cases as nnU-Net raw data sets, cut to the body exactly as the node cuts what it segments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from orgseg_node.core.body import cut_to_body, find_body
from orgseg_training.datasets.nifti import read_labels, read_volume, write_image
from orgseg_training.datasets.openkbp import LABELS, Case


def cases_for(organs: Iterable[str], cases: Iterable[Case]) -> tuple[Case, ...]:
    """The unlocked patients in whom every one of these organs was drawn.

    A patient in whom an organ was not drawn says nothing about it and is left out, never used as background.
    """
    wanted = set(organs)
    return tuple(case for case in cases if not case.locked and wanted <= case.drawn)


def write_raw_dataset(target: Path, organs: Sequence[str], cases: Sequence[Case], margin_mm: float) -> None:
    """Write ``imagesTr``, ``labelsTr`` and ``dataset.json``; cases already written are kept.

    Parameters
    ----------
    target : folder of the data set, such as ``nnUNet_raw/Dataset801_common``
    organs : label number = place in this list, from 1
    cases : patients in whom all these organs are drawn
    margin_mm : outside the body contour grown by this everything becomes air
    """
    (target / "imagesTr").mkdir(parents=True, exist_ok=True)
    (target / "labelsTr").mkdir(parents=True, exist_ok=True)
    for case in cases:
        _write_case(
            target, case, {LABELS[organ]: number for number, organ in enumerate(organs, 1)}, margin_mm
        )
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {organ: number for number, organ in enumerate(organs, 1)},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (target / "dataset.json").write_text(json.dumps(description, indent=1), encoding="utf-8")


def _write_case(target: Path, case: Case, renumber: Mapping[int, int], margin_mm: float) -> None:
    image = target / "imagesTr" / f"{case.name}_0000.nii.gz"
    label = target / "labelsTr" / f"{case.name}.nii.gz"
    if image.is_file() and label.is_file():
        return
    volume = read_volume(case.image)
    body = find_body(volume)
    cropped, box = cut_to_body(volume, body, margin_mm, outside_to_air=True)
    table = np.zeros(256, dtype=np.uint8)
    for source, number in renumber.items():
        table[source] = number
    write_image(label, table[read_labels(case.labels)[box.slices]], cropped.grid)
    write_image(image, cropped.hu, cropped.grid)
