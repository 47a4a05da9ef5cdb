"""What is unusual of an imported network is said; nothing is said of an ordinary one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from orgseg_node.inference.bundles.conversion import ConversionResult
from orgseg_node.inference.bundles.import_remarks import import_remarks
from orgseg_node.inference.bundles.manifest import Part
from orgseg_node.inference.bundles.trained import TrainedModel
from orgseg_node.inference.bundles.writing import WrittenPart


def _written(
    folder: Path,
    *,
    organs: Mapping[int, str] | None = None,
    mirror_axes: tuple[int, ...] = (),
    transpose: Sequence[int] = (0, 1, 2),
    checkpoints: Mapping[str, str] | None = None,
    chosen: Sequence[str] = ("0",),
    not_streamable: str = "",
    channel: str = "CT",
) -> WrittenPart:
    names = checkpoints or {"0": "checkpoint_final.pth"}
    labels = organs or {1: "parotid_left", 2: "parotid_right"}
    paths = {fold: folder / name for fold, name in names.items()}
    return WrittenPart(
        part=Part(
            folder="parts/a",
            configuration="3d_fullres",
            folds=tuple(chosen),
            labels=labels,
            mirror_axes=mirror_axes,
        ),
        model=TrainedModel(
            folder=folder,
            plans={"transpose_forward": list(transpose)},
            dataset={
                "channel_names": {"0": channel},
                "labels": {"background": 0} | {f"label {n}": n for n in labels},
            },
            checkpoints=paths,
            configuration="3d_fullres",
        ),
        checkpoints={fold: paths[fold] for fold in chosen},
        results=(
            ConversionResult(
                trainer="nnUNetTrainer",
                configuration="3d_fullres",
                mirror_axes=mirror_axes,
                not_streamable=not_streamable,
            ),
        ),
    )


def test_of_an_ordinary_network_nothing_is_said(tmp_path: Path) -> None:
    assert import_remarks(_written(tmp_path, mirror_axes=(0, 1)), "LPS", mirroring=True) == []


@pytest.mark.parametrize(
    ("orientation", "transpose", "axis"),
    [("LPS", (0, 1, 2), 2), ("RAS", (0, 1, 2), 2), ("LPS", (2, 0, 1), 0), ("SPL", (0, 1, 2), 0)],
)
def test_mirroring_between_left_and_right_is_said(
    orientation: str, transpose: tuple[int, ...], axis: int, tmp_path: Path
) -> None:
    others = tuple(n for n in range(3) if n != axis)
    good = _written(tmp_path, mirror_axes=others, transpose=transpose)
    assert import_remarks(good, orientation, mirroring=True) == []
    bad = _written(tmp_path, mirror_axes=(axis,), transpose=transpose)
    (sentence,) = import_remarks(bad, orientation, mirroring=True)
    assert "exchange the sides" in sentence
    assert "averages" in sentence
    assert "averages" not in import_remarks(bad, orientation, mirroring=False)[0]
    middle = _written(tmp_path, organs={1: "liver"}, mirror_axes=(axis,), transpose=transpose)
    assert import_remarks(middle, orientation, mirroring=True) == []


def test_checkpoints_and_folds_that_were_chosen_are_said(tmp_path: Path) -> None:
    names = {"0": "checkpoint_final.pth", "3": "checkpoint_best.pth", "all": "checkpoint_final.pth"}
    found = import_remarks(_written(tmp_path, checkpoints=names, chosen=("0", "3")), "LPS", mirroring=False)
    assert found == [
        "No checkpoint_final.pth in fold 3; checkpoint_best.pth was taken.",
        "Fold all is left out; averaged is fold 0, 3.",
    ]


def test_a_network_that_does_not_stream_says_how_it_can_be_run(tmp_path: Path) -> None:
    (said,) = import_remarks(
        _written(tmp_path, not_streamable="It normalises by ZScoreNormalization."), "LPS", mirroring=False
    )
    assert 'method = "whole"' in said
    assert "ZScore" in said


def test_channel_joined_labels_and_postprocessing_are_said(tmp_path: Path) -> None:
    (tmp_path / "crossval_results_folds_0_1_2_3_4").mkdir()
    (tmp_path / "crossval_results_folds_0_1_2_3_4" / "postprocessing.pkl").touch()
    joined = _written(tmp_path, organs={1: "lungs", 2: "lungs"}, channel="CBCT")
    channel, labels, processing = import_remarks(joined, "LPS", mirroring=False)
    assert "'CBCT'" in channel
    assert labels == "2 labels become one organ, lungs: label 1, label 2."
    assert "postprocessing.pkl" in processing
