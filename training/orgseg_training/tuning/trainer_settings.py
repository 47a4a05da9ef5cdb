"""What the trainer of a fine-tuning is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.nnunet.sides import other_sides
from orgseg_training.tuning.prepare import RawData
from orgseg_training.tuning.request import TuneFolder, TuneRequest
from orgseg_training.tuning.start import Start, start_plans

_AXES: Final = 3


def trainer_settings(  # noqa: PLR0913, PLR0917  # all that it depends on
    request: TuneRequest,
    raw: RawData,
    cases: Sequence[StoredCase],
    folder: TuneFolder,
    fold: int,
    validation: Sequence[str],
    held_out: Sequence[str] = (),
) -> dict[str, Any]:
    """The settings ``orgseg_tune`` of `nnunet.trainer_tune`.

    Parameters
    ----------
    request : what is asked
    raw : what was written
    cases : the scans for training and validation
    folder : of the fine-tuning
    fold : number of the network
    validation : keys of the scans on which the best moment is chosen
    held_out : keys of all scans that the network is not trained on
    """
    recipe, start = request.recipe, request.start
    settings: dict[str, Any] = {
        "pretrained": str(start.weights(fold)),
        "pretrained_channels": list(start.pretrained_channels),
        "unknown_sets": [list(numbers) for numbers in raw.unknown_sets],
        "base_labels": dict(raw.base_labels),
        "tuned": list(start.tuned),
        "warm_up": recipe.warm_up,
        "patience": recipe.patience,
        "validation": list(validation),
        "minutes": request.minutes,
        "progress": str(folder.progress),
    }
    if recipe.shifted:
        settings["shift_on"] = list(held_out)
    if recipe.mirrored:
        axis = left_right_axis(start, folder)
        settings["mirror"] = {"partners": other_sides(start.organs), "axis": axis}
    if recipe.balanced:
        settings["drawn"] = {case.key: _numbers(start, case) for case in cases}
        undrawn = [case.key for case in cases if not case.drawn & set(start.organs)]
        settings["undrawn"] = {"scans": undrawn, "share": recipe.outside_share}
    return settings


def left_right_axis(start: Start, folder: TuneFolder) -> int:
    """The axis from right to left of a preprocessed scan, 0 to 2.

    Parameters
    ----------
    start : the old network, whose plans and orientation are used
    folder : of the fine-tuning
    """
    orientation = (
        start.bundle.manifest.preprocessing.orientation
    )  # of the axes I, J, K; the array has K, J, I
    letter = next(number for number, side in enumerate(orientation) if side in "LR")
    order: list[int] = start_plans(start, folder.dataset)["transpose_forward"]
    return order.index(_AXES - 1 - letter)


def _numbers(start: Start, case: StoredCase) -> list[int]:
    """The numbers of the organs that a scan has: those drawn by persons, and those the old network drew."""
    return [
        number for number, organ in enumerate(start.organs, 1) if organ in case.drawn or organ in start.kept
    ]
