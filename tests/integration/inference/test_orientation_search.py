"""The orientation that a network was trained on is found on a real CT, whichever rotation it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orgseg_node.core.body import find_body
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap
from orgseg_node.inference.backends.streaming import StreamingPredictor
from orgseg_node.inference.bundles.bundle import open_bundle
from orgseg_node.inference.orientation_search import (
    ORIENTATIONS,
    OrientationScore,
    clear_orientation,
    score_orientation,
    search_orientation,
)
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.shipped import shipped_bundles
from orgseg_training.datasets.nifti import read_volume

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(1800)]

_OPPOSITE = dict(zip("LRPASI", "RLAPIS", strict=True))
_OF_ONE_NETWORK = {"brainstem", "spinal_cord", "parotid_left", "parotid_right", "mandible"}


@pytest.fixture(scope="module")
def starter_found(organ_table: OrganTable, shared_data: Path) -> dict[str, LabelMap]:
    """What the starter, trained on LPS, finds in a real CT that it is given in each orientation."""
    volume = read_volume(min((shared_data / "openkbp_head_neck" / "imagesTr").iterdir()))
    body, bundle = find_body(volume), open_bundle(shipped_bundles() / "starter-hn")
    manifest, found = bundle.manifest, {}
    for orientation in ORIENTATIONS:
        preprocessing = replace(manifest.preprocessing, orientation=orientation)
        turned = replace(bundle, manifest=replace(manifest, tile_step_size=1.0, preprocessing=preprocessing))
        predictor = StreamingPredictor(
            turned,
            organ_table,
            InferenceSettings(device="cpu"),
            torch.device("cpu"),
            requested=_OF_ONE_NETWORK,
        )
        found[orientation] = predictor.predict(volume, body, lambda *_: None).label_map
    return found


def _trained_on(orientation: str, found: dict[str, LabelMap]) -> Callable[[str], LabelMap]:
    """The starter as it would be if it had been trained on arrays of another orientation.

    Given arrays of an orientation, it finds what the starter finds in the arrays whose axes differ from LPS
    as these differ from those of its training.
    """

    def run(candidate: str) -> LabelMap:
        letters = []
        for axis in "LPS":
            place = next(n for n, letter in enumerate(orientation) if letter in (axis, _OPPOSITE[axis]))
            same = orientation[place] == axis
            letters.append(candidate[place] if same else _OPPOSITE[candidate[place]])
        return found["".join(letters)]

    return run


def _rotations() -> list[str]:
    """The 24 orientations that turn LPS without mirroring it."""
    turned = []
    for orientation in ORIENTATIONS:
        matrix = np.zeros((3, 3))
        for n, letter in enumerate(orientation):
            axis = next(i for i, pair in enumerate(("LR", "PA", "SI")) if letter in pair)
            matrix[n, axis] = 1.0 if letter in "LPS" else -1.0
        if np.linalg.det(matrix) > 0:
            turned.append(orientation)
    return turned


def test_24_of_24_rotations_are_found_among_48_orientations(starter_found: dict[str, LabelMap]) -> None:
    rotations = _rotations()
    assert len(rotations) == 24
    answers = {}
    for orientation in rotations:
        ranked = search_orientation(_trained_on(orientation, starter_found))
        answers[orientation] = clear_orientation(ranked)
    assert answers == {orientation: orientation for orientation in rotations}


def test_the_mirror_image_of_the_right_orientation_is_contradicted(
    starter_found: dict[str, LabelMap],
) -> None:
    mirrored: OrientationScore = score_orientation("RPS", starter_found["RPS"])
    assert mirrored.wrong
    assert clear_orientation((mirrored,)) is None
