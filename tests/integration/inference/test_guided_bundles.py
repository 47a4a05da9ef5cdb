"""A bundle with a guide: used only where its calibration allows it, said in the result, and never a loss."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid, enclosing_box
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Volume
from orgseg_node.errors import GuideUnsuitable
from orgseg_node.inference.backends.guided.guide import allowed_run
from orgseg_node.inference.backends.guided_calibrating import (
    ReferenceCase,
    against_contours,
    measure_guided,
    open_guided_predictors,
)
from orgseg_node.inference.backends.streaming import StreamingPredictor
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.calibration import ReferenceCt
from orgseg_node.inference.bundles.tables.guided_calibration import GuidedAgreement, GuidedCalibration
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.engine.layout import Layout
from orgseg_node.inference.guide import allow_guide, attach_guide
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import GuidedOutcome, InferenceSettings, Prediction
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.node.command_line import orgseg

pytestmark = pytest.mark.endurance

_STREAMING = InferenceSettings(device="cpu", threads=1, skip_outside_body=False)
_GOOD = GuidedAgreement(dice=1.0, found_on=1, missed_on=0, whole_on=0)


def _make(folder: Path, name: str, organs: dict[str, dict[int, str]]) -> ModelBundle:
    parts = [
        PartDraft(
            folder=write_tiny(
                folder / name,
                TinyModel(
                    labels={key: n for n, key in labels.items()},
                    dataset_name=dataset,
                    seed=seed,
                    patch=(8, 8, 8),
                ),
            ),
            label_map=labels,
        )
        for seed, (dataset, labels) in enumerate(organs.items())
    ]
    texts = dict.fromkeys(("title", "intended_use", "trained_on", "licence", "card"), "x")
    draft = BundleDraft(name=name, version="1", **texts)  # type: ignore[arg-type]  # the texts only
    return export_trained(parts, draft, folder / f"{name}-bundle")


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    folder = tmp_path_factory.mktemp("guided")
    single = {"Dataset910_A": {1: "spleen"}, "Dataset911_B": {1: "heart"}}
    guide = _make(folder, "coarse", {"Dataset912_C": {1: "heart", 2: "spleen"}})
    bundle = attach_guide(_make(folder, "single", single), guide, 1.0)
    calibration = GuidedCalibration(
        backend="exact",
        layout="once",
        margin_mm=2.0,
        sparse=True,
        suspicion=0.05,
        explained=True,
        date=dt.date(2026, 1, 31),
        references=(ReferenceCt(sha256="a" * 64, voxels=7),),
        organs={"spleen": _GOOD, "heart": _GOOD},
    )
    return allow_guide(bundle, calibration)


@pytest.fixture(scope="module")
def case() -> tuple[Volume, Body]:
    grid = Grid(shape=(30, 40, 36), spacing_mm=(2.5, 1.5, 1.5), origin_mm=(-20.0, -30.0, 5.0))
    noise = gaussian_filter(np.random.default_rng(1).normal(size=grid.shape), 3)
    mask = np.ones(grid.shape, dtype=bool)
    body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=100.0, findings=())
    return Volume(grid=grid, hu=(noise * 6000).astype(np.int16)), body


def _predict(
    bundle: ModelBundle,
    case: tuple[Volume, Body],
    table: OrganTable,
    settings: InferenceSettings = _STREAMING,
    requested: set[str] | None = None,
) -> Prediction:
    return load_predictor(bundle, table, settings, requested).predict(*case, lambda *_: None)


def _mask(found: Prediction, key: str) -> np.ndarray:
    number = next(n for n, organ in found.label_map.organs.items() if organ.key == key)
    return np.asarray(found.label_map.labels == number)


def test_the_result_says_that_it_was_guided_and_networks_run_on_the_whole_ct_lose_nothing(
    guided: ModelBundle, case: tuple[Volume, Body], organ_table: OrganTable
) -> None:
    found = _predict(guided, case, organ_table)
    free = _predict(guided, case, organ_table, replace(_STREAMING, guided=False))
    assert "guided by coarse 1 (tiles once, margin 2 mm, sparse first pass" in found.method
    assert "guides not used" in free.method
    assert {key for row in found.guided for key in row.organs} == {"spleen", "heart"}
    assert not free.guided
    for row in found.guided:  # random networks find organs everywhere, so that each box grows to the whole CT
        assert not row.followed
        for key in row.organs:
            assert (_mask(found, key) == _mask(free, key)).all()


def test_requested_organs_are_those_of_the_full_guided_run(
    guided: ModelBundle, case: tuple[Volume, Body], organ_table: OrganTable
) -> None:
    full = _predict(guided, case, organ_table)
    for key in ("spleen", "heart"):
        part = _predict(guided, case, organ_table, requested={key})
        assert (_mask(part, key) == _mask(full, key)).all()
        assert "guided by coarse 1" in part.method


def test_without_a_sufficient_calibration_for_the_backend_the_guide_is_not_used(guided: ModelBundle) -> None:
    guide = guided.manifest.guide
    assert guide is not None
    assert guide.calibration is not None
    run = allowed_run(guide, _STREAMING)
    assert run is not None
    assert (run.layout, run.margin_mm, run.sparse) == (Layout.ONCE, 2.0, True)
    assert (run.suspicion, run.explained) == (0.05, True)
    poor = replace(guide.calibration, organs={"spleen": replace(_GOOD, missed_on=1), "heart": _GOOD})
    assert allowed_run(replace(guide, calibration=poor), _STREAMING) is None
    assert allowed_run(replace(guide, calibration=None), _STREAMING) is None
    assert allowed_run(guide, replace(_STREAMING, guided=False)) is None
    assert allowed_run(guide, replace(_STREAMING, backend="fast")) is None
    assert allowed_run(None, _STREAMING) is None


def test_the_measurement_counts_organs_misses_and_voxels(
    guided: ModelBundle, case: tuple[Volume, Body], organ_table: OrganTable
) -> None:
    volume, _ = case
    runs = open_guided_predictors(
        guided, organ_table, "exact", 2.0, [Layout.ONCE, Layout.NNUNET], sparse=True, suspicion=None
    )
    clinical = np.zeros(volume.grid.shape, dtype=bool)
    clinical[5:9, 5:9, 5:9] = True
    cases = [ReferenceCase(ct=volume, contours={"heart": clinical})] * 2  # the second time it is known
    measured = measure_guided(runs, cases, dt.date(2026, 2, 1), lambda *_: None)
    assert [each.calibration.layout for each in measured.candidates] == ["once", "nnunet"]
    for each in measured.candidates:
        assert len(each.calibration.references) == 1
        assert set(each.calibration.organs) == {"spleen", "heart"}
        assert all(organ.found_on == 1 for organ in each.calibration.organs.values())
        assert all(organ.dice == 1.0 for organ in each.calibration.organs.values()), "all on the whole CT"
        assert each.differing == 0
        assert each.tiles >= 1.0


def test_a_bundle_without_a_guide_that_knows_an_organ_of_it_cannot_be_measured(
    guided: ModelBundle, organ_table: OrganTable
) -> None:
    bare = replace(guided, manifest=replace(guided.manifest, guide=None))
    with pytest.raises(GuideUnsuitable, match="has no guide"):
        open_guided_predictors(bare, organ_table, "exact", 10.0, [Layout.ONCE], sparse=True, suspicion=None)
    guide = guided.manifest.guide
    assert guide is not None
    part = replace(guide.parts[0], labels={1: "liver"}, priorities={})
    other = replace(guided, manifest=replace(guided.manifest, guide=replace(guide, parts=(part,))))
    with pytest.raises(GuideUnsuitable, match="finds no organ of it"):
        open_guided_predictors(other, organ_table, "exact", 10.0, [Layout.ONCE], sparse=True, suspicion=None)


def test_an_organ_that_the_guide_does_not_know_is_searched_everywhere_and_is_no_miss(
    guided: ModelBundle, case: tuple[Volume, Body], organ_table: OrganTable
) -> None:
    volume, _ = case
    guide = guided.manifest.guide
    assert guide is not None
    part = replace(guide.parts[0], labels={1: "heart"}, priorities={})
    half = replace(guided, manifest=replace(guided.manifest, guide=replace(guide, parts=(part,))))
    runs = open_guided_predictors(half, organ_table, "exact", 2.0, [Layout.ONCE], sparse=True, suspicion=None)
    measured = measure_guided(runs, [ReferenceCase(ct=volume)], dt.date(2026, 2, 1), lambda *_: None)
    (candidate,) = measured.candidates
    spleen = candidate.calibration.organs["spleen"]
    assert (spleen.missed_on, spleen.whole_on, spleen.dice) == (0, 1, 1.0)
    found = _predict(half, case, organ_table)
    outcomes = {key: row.outcome for row in found.guided for key in row.organs}
    assert outcomes["spleen"] is GuidedOutcome.UNKNOWN


def test_the_bound_against_contours_is_that_of_a_paired_t_interval() -> None:
    found = against_contours([0.80, 0.82, 0.84, 0.86, 0.88], [0.81, 0.82, 0.83, 0.87, 0.87])
    assert found is not None
    assert (found.cts, found.unguided, found.guided) == (5, 0.84, 0.84)
    assert found.lower == pytest.approx(-0.0096, abs=1e-4)
    assert against_contours([0.8], [0.8]) is None


def test_what_networks_suspect_comes_with_what_they_find(
    guided: ModelBundle, case: tuple[Volume, Body], organ_table: OrganTable
) -> None:
    def run(suspicion: float | None) -> Prediction:
        free = replace(_STREAMING, guided=False)
        predictor = StreamingPredictor(guided, organ_table, free, torch.device("cpu"), suspicion=suspicion)
        return predictor.predict(*case, lambda *_: None)

    found, less, more = run(None), run(0.2), run(0.05)
    assert found.suspected is None
    assert less.suspected is not None
    assert more.suspected is not None
    assert (less.label_map.labels == found.label_map.labels).all()
    assert more.suspected.keys() >= less.suspected.keys()
    for number, organ in found.label_map.organs.items():
        place = Box.around(found.label_map.labels == number)
        few, many = (found.suspected[organ.key].box for found in (less, more) if found.suspected)
        assert enclosing_box([place, few]) == few
        assert enclosing_box([few, many]) == many


def test_an_imported_copy_keeps_its_guide(guided: ModelBundle) -> None:
    again = open_bundle(guided.path)
    assert again.manifest == guided.manifest


def test_calibrate_with_guided_measures_and_writes_the_result(
    guided: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(guided.path, tmp_path / "bundles" / "single")
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path / "bundles"))
    build_ct_series(tmp_path / "ct", PhantomOptions(slices=16, rows=32, columns=32))
    answer = orgseg(
        capsys,
        "models",
        "calibrate",
        "single",
        tmp_path / "ct",
        "--guided",
        "--margin-mm",
        "3",
        "--layout",
        "once",
    )
    assert "Guided against unguided (exact), 1 CT(s)" in answer.out
    guide = open_bundle(tmp_path / "bundles" / "single").manifest.guide
    assert guide is not None
    assert guide.calibration is not None
    if answer.status == 0:
        assert "accepted single may run guided, with tiles once, margin 3 mm, sparse first pass" in answer.out
        assert guide.calibration.margin_mm == 3.0
    else:
        assert "not accepted" in answer.err
        assert guide.calibration.margin_mm == 2.0, "unchanged"
