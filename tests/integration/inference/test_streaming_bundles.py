"""Whole bundles by the streaming engine and by nnU-Net's own predictor: the same label map to the voxel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from scipy.ndimage import gaussian_filter

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Volume
from orgseg_node.errors import InferenceFailed, NotStreamable, OutOfMemory
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings, Prediction
from orgseg_node.inference.preparing import SEARCH_MARGIN_MM, dilate_mm, prepare_ct
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.processes.once import once

_WHOLE = InferenceSettings(method="whole", device="cpu", threads=1)
_STREAMING = InferenceSettings(device="cpu", threads=1, skip_outside_body=False)
_PATCH = (12, 16, 16)
_ABDOMEN = TinyModel(patch=_PATCH, folds=(0, 1), mirror_axes=(0, 2))
_HEART = TinyModel(labels={"heart": 1}, dataset_name="Dataset902_Heart", patch=(16, 12, 12), seed=3)
_HEAD = TinyModel(
    labels={"brain": 1, "brainstem": 2},
    dataset_name="Dataset903_Head",
    transpose=(1, 2, 0),
    spacing_mm=(2.2, 1.9, 3.3),
    patch=_PATCH,
    residual=True,
    seed=5,
)

pytestmark = pytest.mark.endurance


def _bundle(
    folder: Path, drafts: list[tuple[TinyModel, dict[int, str]]], **preprocessing: Any
) -> ModelBundle:
    parts = [
        PartDraft(
            folder=write_tiny(folder, model), label_map=organs, priority=dict.fromkeys(organs.values(), n)
        )
        for n, (model, organs) in enumerate(drafts)
    ]
    texts = dict.fromkeys(("title", "intended_use", "trained_on", "licence", "card"), "x")
    draft = BundleDraft(
        name="tiny",
        version="1",
        preprocessing=Preprocessing(**preprocessing),
        **texts,  # type: ignore[arg-type]  # the texts only
    )
    return export_trained(parts, draft, folder / "tiny")


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundles:
    """Parts that see the same working volume, and parts that do not."""

    alike: ModelBundle
    apart: ModelBundle


@pytest.fixture(scope="module")
def bundles() -> Bundles:
    return once("streamed", _bundles)


def _bundles(folder: Path) -> Bundles:
    abdomen, heart = {1: "spleen", 2: "liver"}, {1: "heart"}
    return Bundles(
        alike=_bundle(folder / "alike", [(_ABDOMEN, abdomen), (_HEART, heart)], body_margin_mm=5.0),
        apart=_bundle(
            folder / "apart",
            [(_ABDOMEN, abdomen), (_HEAD, {1: "brain", 2: "brainstem"})],
            body_margin_mm=9.0,
            outside_to_air=True,
            orientation="RAS",
        ),
    )


def _case(
    axes: tuple[Any, Any, Any] | None = None, dtype: type[np.generic] = np.int16
) -> tuple[Volume, Body]:
    usual = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    grid = Grid(
        shape=(24, 36, 40), spacing_mm=(2.5, 2.1, 1.7), origin_mm=(-40.0, -45.0, 10.0), axes=axes or usual
    )
    rng = np.random.default_rng(5)
    hu = (gaussian_filter(rng.normal(size=grid.shape), 1.5) * 3000).astype(dtype)
    _, j, i = np.ogrid[:24, :36, :40]
    inside = np.broadcast_to(((j - 15) / 11) ** 2 + ((i - 19) / 13) ** 2 < 1, grid.shape).copy()
    inside[:2] = False
    hu[~inside] = -1000
    return Volume(grid=grid, hu=hu), Body(
        mask=inside, box=Box.around(inside), effective_diameter_mm=60.0, findings=()
    )


def _predict(
    bundle: ModelBundle, table: OrganTable, settings: InferenceSettings, case: tuple[Volume, Body]
) -> Prediction:
    return load_predictor(bundle, table, settings).predict(*case, lambda *_: None)


@pytest.mark.parametrize("which", ["alike", "apart"])
@pytest.mark.parametrize(
    ("axes", "dtype"),
    [
        (None, np.int16),
        (((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)), np.int16),  # feet first
        (((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)), np.float32),  # coronal slices
    ],
)
def test_parts_alike_or_not_on_a_patient_lying_in_any_way(
    which: str,
    axes: tuple[Any, Any, Any] | None,
    dtype: type[np.generic],
    bundles: Bundles,
    organ_table: OrganTable,
) -> None:
    bundle, case = getattr(bundles, which), _case(axes, dtype)
    whole = _predict(bundle, organ_table, _WHOLE, case)
    with structlog.testing.capture_logs() as logs:
        streamed = _predict(bundle, organ_table, _STREAMING, case)
    assert np.unique(whole.label_map.labels).size == len(whole.label_map.organs) + 1
    assert np.count_nonzero(streamed.label_map.labels != whole.label_map.labels) == 0
    assert streamed.label_map.organs == whole.label_map.organs
    assert streamed.findings == whole.findings
    assert whole.findings, "the parts' organs overlap somewhere"
    kept = [line["keep_working_volume"] for line in logs if line["event"] == "memory planned"]
    assert kept == [which == "alike"] * 2


def test_a_second_ct_is_labelled_like_the_first_time(bundles: Bundles, organ_table: OrganTable) -> None:
    predictor = load_predictor(bundles.alike, organ_table, _STREAMING)
    first, other = _case(), _case(dtype=np.float32)
    labels = [predictor.predict(*case, lambda *_: None).label_map.labels for case in (first, other, first)]
    assert (labels[0] == labels[2]).all()
    assert (labels[1] == _predict(bundles.alike, organ_table, _WHOLE, other).label_map.labels).all()


def test_a_ct_with_a_border_of_0_hu(bundles: Bundles, organ_table: OrganTable) -> None:
    volume, body = _case()
    hu = np.zeros_like(volume.hu)
    hu[5:, 6:30, 4:33] = volume.hu[5:, 6:30, 4:33]
    everywhere = np.ones(hu.shape, dtype=bool)
    case = (
        Volume(grid=volume.grid, hu=hu),
        replace(body, mask=everywhere, box=Box.around(everywhere)),
    )
    whole, streamed = (
        _predict(bundles.alike, organ_table, settings, case).label_map.labels
        for settings in (_WHOLE, _STREAMING)
    )
    assert (streamed == whole).all()
    assert whole.any()
    whole[5:, 6:30, 4:33] = 0
    assert not whole.any()


def test_a_ct_of_nothing_but_zeros(bundles: Bundles, organ_table: OrganTable) -> None:
    volume, body = _case()
    case = (Volume(grid=volume.grid, hu=np.zeros_like(volume.hu)), body)
    for settings in (_WHOLE, _STREAMING):
        assert not _predict(bundles.alike, organ_table, settings, case).label_map.labels.any()


@pytest.mark.parametrize("which", ["alike", "apart"])
def test_with_the_room_left_out_labels_near_the_patient_stay_and_elsewhere_there_are_none(
    which: str, bundles: Bundles, organ_table: OrganTable
) -> None:
    bundle, (volume, body) = getattr(bundles, which), _case()
    small = np.zeros_like(body.mask)
    small[15:, 10:18, 12:20] = True
    hu = np.where(small | (volume.hu > -1000), volume.hu, -1000).astype(np.int16)
    hu[0], hu[:, 0], hu[:, :, 0] = 55, 55, 55  # something to see far from the patient
    case = (Volume(grid=volume.grid, hu=hu), replace(body, mask=small, box=Box.around(small)))
    near = np.zeros_like(small)
    prepared = prepare_ct(*case, bundle.manifest.preprocessing)
    near[prepared.box.slices] = dilate_mm(prepared.mask, prepared.volume.grid, SEARCH_MARGIN_MM)
    whole, streamed = (
        _predict(bundle, organ_table, settings, case).label_map.labels
        for settings in (_WHOLE, replace(_STREAMING, skip_outside_body=True))
    )
    assert (streamed[near] == whole[near]).all()
    assert not streamed[~near].any()
    assert streamed.any()


def test_folds_tell_how_far_they_differ_on_each_organ(bundles: Bundles, organ_table: OrganTable) -> None:
    found = _predict(bundles.alike, organ_table, _STREAMING, _case())
    assert [row.organ for row in found.disagreement] == ["spleen", "liver"]  # the heart has one fold
    assert all(row.folds == 2 and 0 <= row.mean_dice < 1 for row in found.disagreement)
    assert all(row.volume_min_ml < row.volume_max_ml for row in found.disagreement)


def test_a_budget_too_small_for_anything_is_refused(bundles: Bundles, organ_table: OrganTable) -> None:
    with pytest.raises(OutOfMemory, match="MB"):
        _predict(bundles.alike, organ_table, replace(_STREAMING, memory_budget_mb=1), _case())


def test_a_ct_too_thin_for_the_network_is_refused_with_a_code(
    bundles: Bundles, organ_table: OrganTable
) -> None:
    grid = Grid(shape=(1, 36, 40), spacing_mm=(1.0, 2.1, 1.7), origin_mm=(0.0, 0.0, 0.0))
    mask = np.ones(grid.shape, dtype=bool)
    body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=60.0, findings=())
    with pytest.raises(InferenceFailed, match="thinner"):
        _predict(
            bundles.alike,
            organ_table,
            _STREAMING,
            (Volume(grid=grid, hu=np.ones(grid.shape, np.int16)), body),
        )


def test_a_bundle_that_cannot_be_streamed_is_refused_when_it_is_loaded(
    tmp_path: Path, organ_table: OrganTable
) -> None:
    trained = write_tiny(tmp_path, TinyModel(normalisation="ZScoreNormalization"))
    texts = dict.fromkeys(("title", "intended_use", "trained_on", "licence", "card"), "x")
    bundle = export_trained(
        [PartDraft(folder=trained, label_map={1: "spleen"})],
        BundleDraft(name="tiny", version="1", **texts),  # type: ignore[arg-type]  # the texts only
        tmp_path / "tiny",
    )
    with pytest.raises(NotStreamable, match="ZScoreNormalization"):
        load_predictor(bundle, organ_table, _STREAMING)
    load_predictor(bundle, organ_table, _WHOLE)
