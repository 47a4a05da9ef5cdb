"""A bundle run for some of its organs: the labels of the full run, and what was left out is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Volume
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.loading import load_predictor, open_predictor
from orgseg_node.inference.predictor import InferenceSettings, Prediction
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.processes.once import once

pytestmark = pytest.mark.endurance

_ORGANS = {
    "Dataset910_A": {1: "spleen", 2: "liver"},
    "Dataset911_B": {1: "heart"},
    "Dataset912_C": {1: "aorta"},
    "Dataset913_D": {1: "stomach", 2: "pancreas"},
}
_STREAMING = InferenceSettings(device="cpu", threads=1, skip_outside_body=False)


def _make(folder: Path, names: tuple[str, ...], name: str) -> ModelBundle:
    parts = [
        PartDraft(
            folder=write_tiny(
                folder,
                TinyModel(
                    labels={key: n for n, key in _ORGANS[dataset].items()},
                    dataset_name=dataset,
                    seed=seed,
                    folds=(0, 1) if seed == 0 else (0,),
                    patch=(12, 16, 16),
                ),
            ),
            label_map=_ORGANS[dataset],
        )
        for seed, dataset in enumerate(names)
    ]
    texts = dict.fromkeys(("title", "intended_use", "trained_on", "licence", "card"), "x")
    draft = BundleDraft(name=name, version="1", **texts)  # type: ignore[arg-type]  # the texts only
    return export_trained(parts, draft, folder / name)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return once("subset-bundle", lambda folder: _make(folder, tuple(_ORGANS), "subset"))


@pytest.fixture(scope="module")
def case() -> tuple[Volume, Body]:
    grid = Grid(shape=(22, 34, 30), spacing_mm=(2.5, 1.5, 1.5), origin_mm=(-20.0, -30.0, 5.0))
    noise = gaussian_filter(np.random.default_rng(1).normal(size=grid.shape), 3)
    mask = np.ones(grid.shape, dtype=bool)
    body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=100.0, findings=())
    return Volume(grid=grid, hu=(noise * 6000).astype(np.int16)), body


def _ranked(bundle: ModelBundle, priorities: dict[str, float]) -> ModelBundle:
    parts = tuple(
        replace(part, priorities={key: priorities[key] for key in part.labels.values()})
        for part in bundle.manifest.parts
    )
    return replace(bundle, manifest=replace(bundle.manifest, parts=parts))


def _predict(
    bundle: ModelBundle,
    case: tuple[Volume, Body],
    table: OrganTable,
    settings: InferenceSettings = _STREAMING,
    requested: set[str] | None = None,
) -> Prediction:
    return load_predictor(bundle, table, settings, requested).predict(*case, lambda *_: None)


def _masks(found: Prediction) -> dict[str, np.ndarray]:
    labels = found.label_map.labels
    return {organ.key: labels == number for number, organ in found.label_map.organs.items()}


@pytest.mark.parametrize("seed", range(6))
def test_requested_organs_are_those_of_the_full_run_to_the_voxel(
    seed: int, bundle: ModelBundle, case: tuple[Volume, Body], organ_table: OrganTable
) -> None:
    rng = np.random.default_rng(seed)
    keys = list(bundle.manifest.organs)
    ranked = _ranked(bundle, dict(zip(keys, rng.permutation(len(keys)).astype(float), strict=True)))
    requested = set(rng.choice(keys, size=int(rng.integers(1, 4)), replace=False).tolist())
    full = _predict(ranked, case, organ_table)
    part = _predict(ranked, case, organ_table, requested=requested | {"brain"})
    assert set(_masks(part)) == requested
    assert set(part.not_searched) == set(keys) - requested
    for key, mask in _masks(part).items():
        assert (mask == _masks(full)[key]).all()
        assert mask.any()
    kept = [row for row in full.disagreement if row.organ in requested]
    assert list(part.disagreement) == kept


def test_a_network_that_can_take_no_voxel_is_not_run(
    bundle: ModelBundle, case: tuple[Volume, Body], organ_table: OrganTable
) -> None:
    best = _ranked(bundle, {key: float(key == "heart") for key in bundle.manifest.organs})
    steps: set[str] = set()
    predictor = load_predictor(best, organ_table, _STREAMING, {"heart"})
    found = predictor.predict(*case, lambda _, text: steps.add(text.split(",")[0]))
    assert "1 of 4 networks" in found.method
    assert any("Dataset911_B" in text for text in steps)
    assert not any("Dataset910_A" in text or "Dataset913_D" in text for text in steps)


def test_nnunets_own_predictor_gives_the_same_organs(
    bundle: ModelBundle, case: tuple[Volume, Body], organ_table: OrganTable
) -> None:
    whole = InferenceSettings(method="whole", device="cpu", threads=1)
    part = _predict(bundle, case, organ_table, whole, {"liver", "aorta"})
    streamed = _predict(bundle, case, organ_table, requested={"liver", "aorta"})
    assert (part.label_map.labels == streamed.label_map.labels).all()
    assert part.label_map.organs == streamed.label_map.organs


def test_organs_of_several_bundles_are_those_of_the_full_run(
    tmp_path: Path, case: tuple[Volume, Body], organ_table: OrganTable
) -> None:
    first = _make(tmp_path / "1", ("Dataset910_A", "Dataset911_B"), "first")
    second = _make(tmp_path / "2", ("Dataset912_C", "Dataset913_D"), "second")
    full = open_predictor((first, second), _STREAMING).predict(*case, lambda *_: None)
    for requested in ({"aorta"}, {"heart", "stomach"}, {"spleen"}):
        found = open_predictor((first, second), _STREAMING, requested).predict(*case, lambda *_: None)
        assert set(_masks(found)) == requested
        assert set(found.not_searched) == set(_masks(full)) - requested
        for key, mask in _masks(found).items():
            assert (mask == _masks(full)[key]).all()
