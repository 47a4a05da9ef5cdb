"""Copies are found however they are stored, and what is left out is on no side and counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Volume
from orgseg_training.curation.duplicates import (
    MAX_DIFFERENCE_HU,
    DuplicateKind,
    find_duplicates,
    make_fingerprint,
)
from orgseg_training.curation.rejects import make_key, sign
from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.nifti import read_volume, write_image
from orgseg_training.datasets.synthetic import write_patients
from orgseg_training.errors import CurationChanged, NoPositives, RejectsInvalid, RejectsUnsigned
from orgseg_training.experiment.config import Rejects, load_experiment
from orgseg_training.experiment.exclusions import count_reasons
from orgseg_training.experiment.report import _curation_lines
from orgseg_training.experiment.steps import ingest, lock
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.shipped import training_config

SMOKE = load_experiment(training_config("experiments/smoke.toml"))


def work(root: Path, *, mode: str = "strict", rejects: Rejects | None = None) -> Workspace:
    """The small experiment on synthetic patients, with a second data set that shares one scan with them."""
    if not (root / "patients").is_dir():
        write_patients(root / "patients")
        write_patients(root / "other", patients=12, first_seed=100)
        # 002 of it is 001 of the first data set with noise, and one organ more
        volume = read_volume(root / "patients" / "imagesTr" / "SYN_001_0000.nii.gz")
        noise = np.random.default_rng(0).normal(0, 12, volume.hu.shape)
        file = root / "other" / "imagesTr" / "SYN_002_0000.nii.gz"
        write_image(file, (volume.hu + noise).astype(np.int16), volume.grid)
    first = SMOKE.databases[0].model_copy(update={"folder": root / "patients"})
    second = first.model_copy(update={"name": "other", "folder": root / "other", "test": "none", "subset": 1})
    experiment = SMOKE.model_copy(update={"mode": mode, "databases": (first, second), "rejects": rejects})
    return Workspace(experiment=experiment, root=root / mode)


def reject_list(root: Path, text: str) -> Rejects:
    """A signed list."""
    file, key = root / "rejects.toml", root / "key.pem"
    file.write_text(text, encoding="utf-8")
    key.unlink(missing_ok=True)
    public = make_key(key)
    sign(file, key, "A")
    return Rejects(file=file, public_key=public)


def entry(case: str, organ: str = "", reason: str = "wrong side") -> str:
    """One row of a list."""
    line = f'organ = "{organ}"\n' if organ else ""
    return f'[[reject]]\ncase = "{case}"\n{line}reason = "{reason}"\nwho = "A"\nwhen = 2026-01-31\n'


def body(seed: int) -> Volume:
    """A patient of large and small blobs."""
    rng = np.random.default_rng(seed)
    grid = Grid(shape=(40, 60, 60), spacing_mm=(3.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))
    texture = ndimage.gaussian_filter(rng.normal(0, 1, grid.shape), 4)
    hu = np.full(grid.shape, -1000.0)
    hu[4:36, 10:50, 8:52] = (40 + 300 * texture / texture.std())[4:36, 10:50, 8:52]
    return Volume(grid=grid, hu=hu.astype(np.int16))


@pytest.mark.parametrize("how", ["rounded", "noise", "padded", "smooth", "resampled"])
def test_a_print_stays_what_it_is_for_a_copy(how: str) -> None:
    one = body(1)
    hu, grid = one.hu.astype(float), one.grid
    if how == "rounded":
        hu = np.rint(hu / 10) * 10
    elif how == "noise":
        hu += np.random.default_rng(0).normal(0, 20, hu.shape)
    elif how == "padded":
        hu = np.pad(hu, ((3, 0), (5, 8), (0, 9)), constant_values=-1000)
        grid = Grid(shape=hu.shape, spacing_mm=grid.spacing_mm, origin_mm=(0.0, 0.0, 0.0))
    elif how == "smooth":
        hu = ndimage.gaussian_filter(hu, 0.7)
    else:
        hu = ndimage.zoom(hu, 0.75, order=1, grid_mode=True, mode="nearest")
        grid = Grid(shape=hu.shape, spacing_mm=(4.0, 2 / 0.75, 2 / 0.75), origin_mm=(0.0, 0.0, 0.0))
    first, second = make_fingerprint(one), make_fingerprint(Volume(grid=grid, hu=hu.astype(np.int16)))
    assert np.abs(first.hu - second.hu).mean() < MAX_DIFFERENCE_HU
    assert np.allclose(first.extent_mm, second.extent_mm, rtol=0.05)
    assert np.abs(first.hu - make_fingerprint(body(2)).hu).mean() > 2 * MAX_DIFFERENCE_HU, "another patient"


def test_strict_keeps_the_copy_with_more_organs_and_paper_keeps_both(tmp_path: Path) -> None:
    strict = work(tmp_path)
    ingest(strict)
    lock(strict)
    decisions = strict.store.decisions
    assert decisions["cases"] == {"synthetic__SYN_001": "copy"}
    assert decisions["kept"] == {"synthetic__SYN_001": "other__SYN_002"}
    (pair,) = decisions["pairs"]
    assert pair[:3] == ["other__SYN_002", "synthetic__SYN_001", DuplicateKind.ALIKE]
    assert "synthetic__SYN_001" not in strict.splits.development | strict.splits.tested
    assert count_reasons(decisions) == {"copy": (1, 0)}
    said = "\n".join(_curation_lines(strict))
    assert "“copy”: 1 scans" in said
    assert "1 pairs of copies were found; one of each was kept" in said

    paper = work(tmp_path, mode="paper")
    ingest(paper)
    lock(paper)
    assert paper.store.decisions["cases"] == {}
    assert paper.store.decisions["pairs"] == decisions["pairs"], "listed anyway"
    assert {"synthetic__SYN_001", "other__SYN_002"} <= paper.splits.development


def test_a_rejected_organ_is_not_known_and_a_rejected_scan_is_on_no_side(tmp_path: Path) -> None:
    text = entry("synthetic__SYN_002", "larynx") + entry("synthetic__SYN_003", reason="metal")
    made = work(tmp_path, rejects=reject_list(tmp_path, text))
    ingest(made)
    lock(made)
    assert made.store.case("synthetic__SYN_002").state("larynx") is OrganState.NOT_DRAWN
    assert made.store.case("synthetic__SYN_002").state("mandible") is OrganState.DRAWN
    assert "synthetic__SYN_003" not in made.splits.development | made.splits.tested
    assert "synthetic__SYN_003" not in {case.key for case in made.store.cases()}
    assert count_reasons(made.store.decisions) == {"copy": (1, 0), "metal": (1, 0), "wrong side": (0, 1)}


def test_a_list_that_was_changed_or_names_nothing_is_refused(tmp_path: Path) -> None:
    rejects = reject_list(tmp_path, entry("synthetic__SYN_003"))
    rejects.file.write_text(entry("synthetic__SYN_004"), encoding="utf-8")
    with pytest.raises(RejectsUnsigned):
        ingest(work(tmp_path, rejects=rejects))
    with pytest.raises(RejectsInvalid, match="no scan"):
        ingest(work(tmp_path, rejects=reject_list(tmp_path, entry("synthetic__SYN_999"))))
    with pytest.raises(RejectsInvalid, match="not drawn"):
        ingest(work(tmp_path, rejects=reject_list(tmp_path, entry("synthetic__SYN_001", "larynx"))))


def test_what_is_left_out_is_not_changed_once_the_splits_are_locked(tmp_path: Path) -> None:
    made = work(tmp_path)
    ingest(made)
    rejected = work(tmp_path, rejects=reject_list(tmp_path, entry("synthetic__SYN_002", "larynx")))
    ingest(rejected)  # nothing is fixed before the splits are locked
    assert rejected.store.decisions["organs"] == {"synthetic__SYN_002": {"larynx": "wrong side"}}
    lock(rejected)
    ingest(rejected)
    with pytest.raises(CurationChanged):
        ingest(made)


def test_a_fold_without_positives_is_refused_before_anything_is_locked(tmp_path: Path) -> None:
    left = [f"other__SYN_{n:03d}" for n in range(0, 12, 2)] + ["other__SYN_011"]
    left += [f"synthetic__SYN_{n:03d}" for n in (0, 2)]
    text = "".join(entry(case, "larynx") for case in left)
    made = work(tmp_path, rejects=reject_list(tmp_path, text))
    with pytest.raises(NoPositives, match="larynx"):
        ingest(made)
    assert not made.splits_file.exists()


def test_a_print_is_made_once(tmp_path: Path) -> None:
    made = work(tmp_path)
    ingest(made)
    cases = made.store.ingested()
    for case in cases:
        case.image.unlink()
    assert len(find_duplicates(cases)) == 1
    shutil.rmtree(made.root)
