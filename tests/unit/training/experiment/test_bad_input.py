"""Bad input of an experiment ends in a listed rejection or a coded error; nothing is half-written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.errors import DiskFull, StorageError
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.nifti import read_label_image, write_image
from orgseg_training.datasets.openkbp import LABELS, source_cases
from orgseg_training.durable import read_json
from orgseg_training.errors import NoPositives
from orgseg_training.experiment.config import load_experiment
from orgseg_training.experiment.prepare import crop_to_body, prepare_network
from orgseg_training.experiment.splits import lock_splits, make_splits
from orgseg_training.experiment.steps import ingest
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.shipped import training_config
from tests.support.ct.openkbp_tree import write_openkbp_tree
from tests.support.small_disk import grow, small_disk

GOOD, BAD = "OKBP_001", "OKBP_002"


def _labels(data: Path) -> Path:
    return data / "labelsTr" / f"{BAD}.nii.gz"


def _shifted(data: Path) -> None:
    labels, grid = read_label_image(_labels(data))
    write_image(_labels(data), labels, replace(grid, origin_mm=(0.0, 0.0, 4.0)))


def _smaller(data: Path) -> None:
    labels, grid = read_label_image(_labels(data))
    write_image(_labels(data), labels[1:], replace(grid, shape=labels[1:].shape))


def _empty(data: Path) -> None:
    labels, grid = read_label_image(_labels(data))
    write_image(_labels(data), np.zeros_like(labels), grid)


def _flat(data: Path) -> None:
    import SimpleITK  # noqa: PLC0415

    image = SimpleITK.GetImageFromArray(np.zeros((8, 8), np.int16))
    SimpleITK.WriteImage(image, str(data / "imagesTr" / f"{BAD}_0000.nii.gz"))


def _cut_short(data: Path) -> None:
    image = data / "imagesTr" / f"{BAD}_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:900])


def _no_image(data: Path) -> None:
    (data / "imagesTr" / f"{BAD}_0000.nii.gz").write_bytes(b"no image at all")


def _no_labels(data: Path) -> None:
    _labels(data).write_bytes(b"")


@pytest.mark.parametrize("spoil", [_shifted, _smaller, _empty, _flat, _cut_short, _no_image, _no_labels])
def test_a_bad_scan_is_listed_and_the_others_are_ingested(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    data = write_openkbp_tree(tmp_path / "data", {GOOD: ("larynx",), BAD: ("larynx",)})
    spoil(data)
    store = CaseStore(tmp_path / "store")
    store.ingest(source_cases("db", data, {}))
    assert [case.key for case in store.cases()] == [f"db__{GOOD}"]
    rejected = read_json(tmp_path / "store" / "rejected.json")
    assert {key: why["code"] for key, why in rejected.items()} == {f"db__{BAD}": "TRAINING_CASE_REJECTED"}
    assert sorted(p.name for p in (tmp_path / "store" / "cases").iterdir()) == [f"db__{GOOD}"]


def _work(tmp_path: Path, drawn: dict[str, tuple[str, ...]]) -> Workspace:
    experiment = load_experiment(training_config("experiments/smoke.toml"))
    workspace = Workspace(experiment=experiment, root=tmp_path / "work")
    data = write_openkbp_tree(tmp_path / "data", drawn)
    workspace.store.ingest(source_cases("synthetic", data, {}))
    lock_splits(make_splits(experiment, workspace.store.cases()), workspace.splits_file)
    return workspace


@pytest.mark.parametrize("with_larynx", [0, 1], ids=["an organ that is drawn nowhere", "a fold without it"])
def test_an_organ_without_positives_is_told_before_anything_is_written(
    with_larynx: int, tmp_path: Path
) -> None:
    drawn = {f"P{n}": ("mandible", "larynx")[: 1 + (n < with_larynx)] for n in range(4)}
    workspace = _work(tmp_path, drawn)
    with pytest.raises(NoPositives, match="larynx"):
        prepare_network(workspace, workspace.network("larynx"))
    assert not workspace.nnunet.raw.exists()


def test_an_experiment_without_scans_says_what_became_of_them(tmp_path: Path) -> None:
    data = write_openkbp_tree(tmp_path / "data", {f"P{n}": ("larynx",) for n in range(3)})
    for file in (data / "imagesTr").iterdir():
        file.write_bytes(b"no image at all")
    experiment = load_experiment(training_config("experiments/smoke.toml"))
    database = experiment.databases[0].model_copy(update={"kind": "openkbp", "folder": data, "options": {}})
    workspace = Workspace(
        experiment=experiment.model_copy(update={"databases": (database,)}), root=tmp_path / "work"
    )
    with pytest.raises(NoPositives) as caught:
        ingest(workspace)
    assert "3 scans cannot be used; for example: A scan cannot be used for training." in caught.value.detail
    assert str(tmp_path / "work" / "store" / "rejected.json") in caught.value.detail


def test_a_scan_damaged_in_the_store_is_an_error_with_a_code(tmp_path: Path) -> None:
    workspace = _work(tmp_path, {f"P{n}": ("larynx",) for n in range(2)})
    case = workspace.store.cases()[0]
    case.image.write_bytes(b"damaged")
    (case.folder / "masks" / "larynx.nii.gz").write_bytes(b"damaged")
    with pytest.raises(StorageError, match="cannot be read"):
        crop_to_body(workspace, case)
    with pytest.raises(StorageError, match="cannot be read"):
        case.mask("larynx")
    assert not workspace.cropped(case.key).exists()


def test_a_full_disk_leaves_nothing_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    data = write_openkbp_tree(tmp_path / "data", {GOOD: tuple(LABELS)})
    with small_disk(tmp_path / "disk", 128) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(100 << 10))
        store = CaseStore(disk / "store")
        with pytest.raises(DiskFull):
            store.ingest(source_cases("db", data, {}))
        assert store.cases() == ()
        assert not (disk / "store" / "rejected.json").exists(), "a full disk says nothing about a scan"
        assert list((disk / "store" / "cases").iterdir()) == []
        filler.unlink()
        grow(disk, 8 << 10)
        store.ingest(source_cases("db", data, {}))
        (case,) = store.cases()
        assert case.drawn == set(LABELS)
        assert case.mask("larynx").any()
