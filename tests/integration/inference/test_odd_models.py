"""Models as people have them: each is imported with what must be known of it, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import ModelNotImportable
from orgseg_node.inference.bundles.bundle import ModelBundle, verify_bundle
from orgseg_node.inference.bundles.importing import ImportOptions, import_model
from orgseg_node.inference.bundles.writing import replace_orientation
from tests.support.models.tiny_nnunet import TinyModel, write_tiny

pytestmark = pytest.mark.endurance

_SIDES = {"Parotid_L": 1, "Parotid_R": 2}


def _edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _plans(**changes: Any) -> Callable[[Path], None]:
    """Plans that were changed after the training."""
    return lambda folder: _edit(
        folder / "plans.json", lambda plans: plans["configurations"]["3d_fullres"].update(changes)
    )


def _configuration(**changes: Any) -> Callable[[Path], None]:
    """A model that was trained with other plans."""

    def change(folder: Path) -> None:
        _plans(**changes)(folder)
        _checkpoint(
            lambda content: content["init_args"]["plans"]["configurations"]["3d_fullres"].update(changes)
        )(folder)

    return change


def _checkpoint(change: Callable[[dict[str, Any]], Any], fold: int = 0) -> Callable[[Path], None]:
    def written(folder: Path) -> None:
        path = folder / f"fold_{fold}" / "checkpoint_final.pth"
        content = torch.load(path, weights_only=False)
        change(content)
        torch.save(content, path)

    return written


def _bytes(content: bytes) -> Callable[[Path], None]:
    def written(folder: Path) -> None:
        path = folder / "fold_0" / "checkpoint_final.pth"
        path.write_bytes(content or path.read_bytes()[:2000])

    return written


def _dataset(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: _edit(folder / "dataset.json", lambda dataset: dataset.update(changes))


def _postprocessing(folder: Path) -> None:
    (folder / "crossval_results_folds_0").mkdir()
    (folder / "crossval_results_folds_0" / "postprocessing.pkl").touch()


def _batch_normalised(content: dict[str, Any]) -> None:
    content["network_weights"]["encoder.stages.0.0.convs.0.norm.running_mean"] = torch.zeros(4)


def _as_integers(content: dict[str, Any]) -> None:
    content["network_weights"] = {k: t.to(torch.int8) for k, t in content["network_weights"].items()}


def _cut_off(content: dict[str, Any]) -> None:
    content["network_weights"]["encoder.stages.1.0.convs.0.conv.weight"].zero_()


def _unused_layer_of_zeros(content: dict[str, Any]) -> None:
    weights = content["network_weights"]
    assert {"decoder.seg_layers.0.weight", "decoder.seg_layers.1.weight"} <= weights.keys()
    weights["decoder.seg_layers.0.weight"].zero_()


def _import(source: Path, folder: Path, table: OrganTable, **more: Any) -> tuple[ModelBundle, str]:
    said: list[str] = []
    more = {"orientation": "LPS"} | more
    options = ImportOptions(name="odd", folder=folder / "models", table=table, **more)
    bundle = import_model(source, options, said.append)
    verify_bundle(bundle)
    assert all(sentence in bundle.card for sentence in said)
    return bundle, "\n".join(said)


@pytest.mark.parametrize(
    ("model", "change", "said"),
    [
        (TinyModel(), lambda _: None, ""),
        (TinyModel(labels=_SIDES, mirror_axes=(0, 1, 2)), lambda _: None, "exchange the sides"),
        (TinyModel(labels=_SIDES, mirror_axes=(0, 1)), lambda _: None, ""),
        (
            TinyModel(),
            _configuration(normalization_schemes=["ZScoreNormalization"]),
            'only method = "whole" can: It normalises by ZScore',
        ),
        (TinyModel(by_torch=True), lambda _: None, ""),
        (
            TinyModel(by_torch=True),
            _configuration(resampling_fn_data_kwargs={"is_seg": False, "mode": "nearest"}),
            'only method = "whole" can: It resamples by resample_torch_fornnunet',
        ),
        (TinyModel(), _dataset(channel_names={"0": "CBCT"}), "'CBCT'"),
        (TinyModel(), _dataset(channel_names={}), "names no input channel"),
        (TinyModel(), _dataset(labels={"0": "background", "1": "spleen", "2": "liver"}), "turned round"),
        (TinyModel(), _dataset(labels={"Background": 0, "spleen": 1.0, "liver": "2"}), "'Background'"),
        (TinyModel(), _dataset(labels={"background": 0, "Milz": 1, "liver": 2}), "spleen is Milz"),
        (TinyModel(), _plans(patch_size=[32, 32, 32]), "changed after the training: patch_size"),
        (
            TinyModel(),
            _checkpoint(lambda c: c.update(trainer_name="nnUNetTrainerClinic")),
            "not part of nnU-Net",
        ),
        (TinyModel(), _checkpoint(lambda c: c.update(trainer_name="nnUNetTrainer_250epochs")), ""),
        (TinyModel(), _checkpoint(lambda c: c.update(init_args=None)), ""),
        (TinyModel(), _checkpoint(_unused_layer_of_zeros), ""),
        (TinyModel(), _postprocessing, "postprocessing.pkl"),
        (TinyModel(labels={"Parotis_li": 1, "lt parotid": 2}), lambda _: None, "one organ, parotid_left"),
        (TinyModel(folds=(0, "all")), lambda _: None, "Fold all is left out"),
    ],
)
def test_a_model_that_can_be_run_is_imported_with_what_must_be_known(
    model: TinyModel, change: Callable[[Path], None], said: str, tmp_path: Path, organ_table: OrganTable
) -> None:
    folder = write_tiny(tmp_path / "results", model)
    change(folder)
    _, found = _import(folder, tmp_path, organ_table)
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize(
    ("model", "change", "said"),
    [
        (TinyModel(labels={"spleen": [1, 2], "liver": 2}, regions_order=(1, 2)), lambda _: None, "regions"),
        (TinyModel(), _dataset(labels={"background": 0, "spleen": 1, "liver": 5}), "not consecutive"),
        (
            TinyModel(),
            _dataset(labels={"background": 0, "spleen": 1, "liver": 2, "stomach": 2}),
            "has 2 names",
        ),
        (TinyModel(), _dataset(channel_names={"0": "MR_T1_subtraction"}), "not CT"),
        (TinyModel(), _checkpoint(_batch_normalised), "UNSUPPORTED.*nnUNetTrainerBN"),
        (TinyModel(), _checkpoint(_as_integers), "quantised"),
        (TinyModel(), _checkpoint(_cut_off), "DAMAGED.*all 0"),
        (
            TinyModel(),
            _checkpoint(lambda c: c["init_args"].update(out=Path("x"))),
            "pathlib.*--trust-checkpoints",
        ),
        (
            TinyModel(),
            _dataset(labels={"background": 0, "liver": 1, "spleen": 2}),
            "CONTRADICTORY.*liver was 2",
        ),
        (TinyModel(), _dataset(labels={"background": 0, "heart": 1, "liver": 2}), "was spleen and is heart"),
        (TinyModel(), _plans(spacing=[1.0, 1.0, 1.0]), "CONTRADICTORY.*in: spacing"),
        (
            TinyModel(folds=(0, 1)),
            _checkpoint(lambda c: c["init_args"]["plans"].update(transpose_forward=[1, 0, 2]), fold=1),
            "fold_1/.*in: transpose_forward",
        ),
        (TinyModel(), _bytes(b"version https://git-lfs.github.com/spec/v1\n"), "DAMAGED.*git lfs pull"),
        (TinyModel(), _bytes(b"not a pickle at all"), "DAMAGED.*cannot be read as a checkpoint"),
        (TinyModel(), _bytes(b"see \\\\server\\models"), "DAMAGED.*cannot be read as a checkpoint"),
        (TinyModel(), _bytes(b""), "DAMAGED.*cannot be read as a checkpoint"),
    ],
)
def test_a_model_that_cannot_be_run_is_refused_and_leaves_nothing(
    model: TinyModel, change: Callable[[Path], None], said: str, tmp_path: Path, organ_table: OrganTable
) -> None:
    folder = write_tiny(tmp_path / "results", model)
    change(folder)
    with pytest.raises(ModelNotImportable, match=f"(?s){said}"):
        _import(folder, tmp_path, organ_table)
    assert not (tmp_path / "models" / "odd").exists()


@pytest.mark.parametrize("zipped", [False, True])
def test_an_ensemble_with_an_unfinished_fold_is_not_made_smaller_unsaid(
    *, zipped: bool, tmp_path: Path, organ_table: OrganTable
) -> None:
    folder = write_tiny(tmp_path / "results", TinyModel(folds=(0, 1, 2)))
    for fold, name in ((1, "checkpoint_best.pth"), (2, "checkpoint_latest.pth")):
        final = folder / f"fold_{fold}" / "checkpoint_final.pth"
        final.rename(final.with_name(name))
    source = folder
    if zipped:
        source = Path(shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "results"))
    with pytest.raises(ModelNotImportable, match=r"fold 2 has only checkpoint_latest\.pth"):
        _import(source, tmp_path, organ_table)
    bundle, said = _import(source, tmp_path, organ_table, folds=(0, 1))
    assert bundle.manifest.parts[0].folds == ("0", "1")
    assert "No checkpoint_final.pth in fold 1" in said
    assert "Fold 2 is left out" in said


def test_the_first_stage_of_a_cascade_is_offered_by_its_name(tmp_path: Path, organ_table: OrganTable) -> None:
    for configuration in ("3d_lowres", "3d_cascade_fullres"):
        folder = write_tiny(tmp_path / "results", TinyModel(configuration=configuration))
    _edit(
        folder / "plans.json",
        lambda plans: plans["configurations"]["3d_cascade_fullres"].update(previous_stage="3d_lowres"),
    )
    with pytest.raises(ModelNotImportable, match=r"second stage .* Choose with --configuration 3d_lowres"):
        _import(folder.parent, tmp_path, organ_table)
    bundle, _ = _import(folder.parent, tmp_path, organ_table, configuration="3d_lowres")
    assert bundle.manifest.parts[0].configuration == "3d_lowres"


def test_an_orientation_that_the_files_do_not_tell_is_never_assumed_unsaid(
    tmp_path: Path, organ_table: OrganTable
) -> None:
    folder = write_tiny(tmp_path / "results")
    bundle, said = _import(folder, tmp_path, organ_table, orientation=None)
    assert "LPS is assumed" in said
    assert "orgseg models orientation odd CT_DIR --keep" in bundle.card
    changed = replace_orientation(bundle, "RAS", "RAS on a reference CT.")
    verify_bundle(changed)
    assert changed.manifest.preprocessing.orientation == "RAS"
    assert "RAS on a reference CT." in changed.card
    assert changed.sha256 != bundle.sha256
