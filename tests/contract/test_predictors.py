"""The contract of a predictor, tested on a fake, the streaming engine, and nnU-Net whole and in chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Volume
from orgseg_node.errors import BodyNotFound
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.manifest import Preprocessing
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.chunks import split_into_chunks
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.merging import MergedPredictor
from orgseg_node.inference.predictor import InferenceSettings, Predictor
from tests.support.models.calibrations import calibrated
from tests.support.models.threshold_predictor import ThresholdPredictor
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.processes.once import once

_TITLE = {
    "title": "Tiny",
    "intended_use": "tests only",
    "trained_on": "nothing",
    "licence": "none",
    "card": "# Tiny",
}
_WHOLE = InferenceSettings(method="whole", device="cpu", threads=1)


@pytest.fixture(scope="module")
def tiny_bundle() -> ModelBundle:
    """Two tiny networks: one finds spleen and liver, one the heart; 5 mm around the body is kept."""
    return once("predictors", _bundle)


def _bundle(folder: Path) -> ModelBundle:
    first = write_tiny(folder, TinyModel())
    second = write_tiny(folder, TinyModel(labels={"heart": 1}, dataset_name="Dataset902_Heart", seed=3))
    return export_trained(
        [
            PartDraft(
                folder=first, label_map={1: "spleen", 2: "liver"}, priority={"spleen": 0.9, "liver": 0.8}
            ),
            PartDraft(folder=second, label_map={1: "heart"}, priority={"heart": 0.85}),
        ],
        BundleDraft(
            name="tiny",
            version="1",
            preprocessing=Preprocessing(outside_to_air=True, body_margin_mm=5.0),
            **_TITLE,  # type: ignore[arg-type]  # the texts only
        ),
        folder / "tiny",
        trusted=False,
    )


def _case(axes: Grid | None = None) -> tuple[Volume, Body]:
    rng = np.random.default_rng(5)
    grid = axes or Grid(shape=(24, 40, 44), spacing_mm=(3.0, 2.0, 2.0), origin_mm=(-40.0, -45.0, 10.0))
    hu = (gaussian_filter(rng.normal(size=grid.shape), 2) * 3000).astype(np.int16)
    _, j, i = np.ogrid[:24, :40, :44]
    inside = np.broadcast_to(((j - 20) / 14) ** 2 + ((i - 22) / 16) ** 2 < 1, grid.shape).copy()
    hu[~inside] = -1000
    return Volume(grid=grid, hu=hu), Body(
        mask=inside, box=Box.around(inside), effective_diameter_mm=60.0, findings=()
    )


class PredictorContract:
    """The contract of a predictor; a subclass provides the predictor as fixture ``predictor``."""

    def test_the_labels_are_on_the_grid_of_the_ct(self, predictor: Predictor) -> None:
        volume, body = _case()
        found = predictor.predict(volume, body, lambda *_: None).label_map
        assert found.grid == volume.grid
        assert set(np.unique(found.labels)) - {0} <= set(found.organs)

    def test_organs_are_rows_of_the_organ_table(self, predictor: Predictor, organ_table: OrganTable) -> None:
        found = predictor.predict(*_case(), lambda *_: None).label_map
        assert found.organs
        assert all(organ_table[organ.key] is organ for organ in found.organs.values())

    def test_the_same_ct_gives_the_same_labels(self, predictor: Predictor) -> None:
        first, second = (predictor.predict(*_case(), lambda *_: None).label_map for _ in range(2))
        assert (first.labels == second.labels).all()

    def test_nothing_is_found_far_outside_the_patient(self, predictor: Predictor) -> None:
        volume, body = _case()
        labels = predictor.predict(volume, body, lambda *_: None).label_map.labels
        around = Box.around(body.mask, margin=(3, 3, 3))
        labels[around.slices] = 0
        assert not labels.any()

    def test_the_ct_and_the_body_are_not_changed(self, predictor: Predictor) -> None:
        volume, body = _case()
        hu, mask = volume.hu.copy(), body.mask.copy()
        predictor.predict(volume, body, lambda *_: None)
        assert (volume.hu == hu).all()
        assert (body.mask == mask).all()

    def test_progress_grows_to_one(self, predictor: Predictor) -> None:
        fractions: list[float] = []
        predictor.predict(*_case(), lambda part, what: fractions.append(part) if what else None)
        assert fractions == sorted(fractions)
        assert fractions[0] > 0
        assert fractions[-1] == pytest.approx(1.0)

    def test_stdout_is_free_for_the_callback(
        self, predictor: Predictor, capsys: pytest.CaptureFixture[str]
    ) -> None:
        predictor.predict(*_case(), lambda *_: print("heard"))  # noqa: T201  # what a child process does
        assert set(capsys.readouterr().out.split()) == {"heard"}

    def test_it_reports_models_method_device_and_times(self, predictor: Predictor) -> None:
        found = predictor.predict(*_case(), lambda *_: None)
        assert found.models == predictor.models
        assert all(len(model.sha256) == 64 and model.intended_use for model in found.models)
        assert found.method
        assert found.device
        assert found.timings_s


class TestThresholds(PredictorContract):
    """The fake that tests of other packages use."""

    @pytest.fixture
    def predictor(self, organ_table: OrganTable) -> Predictor:
        return ThresholdPredictor(organs=organ_table)


class TestMerged(PredictorContract):
    """Two bundles as one."""

    @pytest.fixture
    def predictor(self, organ_table: OrganTable, tiny_bundle: ModelBundle) -> Predictor:
        tiny = load_predictor(tiny_bundle, organ_table, InferenceSettings(device="cpu", threads=1))
        return MergedPredictor(predictors=(tiny, ThresholdPredictor(organs=organ_table)), organs=organ_table)


class _NetworkContract(PredictorContract):
    def test_a_case_without_a_patient_is_refused(self, predictor: Predictor) -> None:
        volume, body = _case()
        empty = Body(mask=np.zeros_like(body.mask), box=body.box, effective_diameter_mm=0.0, findings=())
        with pytest.raises(BodyNotFound):
            predictor.predict(volume, empty, lambda *_: None)

    def test_the_patient_position_does_not_matter(self, predictor: Predictor) -> None:
        volume, body = _case()
        expected = predictor.predict(volume, body, lambda *_: None).label_map.labels
        assert np.unique(expected).size == 4
        far = volume.grid.to_lps([(23, 0, 43)])[0]
        turned = Volume(  # feet first: slices to the feet, columns to the right
            grid=Grid(
                shape=volume.grid.shape,
                spacing_mm=volume.grid.spacing_mm,
                origin_mm=(float(far[0]), float(far[1]), float(far[2])),
                axes=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
            ),
            hu=np.ascontiguousarray(volume.hu[::-1, :, ::-1]),
        )
        mask = np.ascontiguousarray(body.mask[::-1, :, ::-1])
        turned_body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=60.0, findings=())
        found = predictor.predict(turned, turned_body, lambda *_: None).label_map.labels
        assert (found[::-1, :, ::-1] == expected).all()


class TestStreaming(_NetworkContract):
    """The engine, as the node runs it."""

    @pytest.fixture
    def predictor(self, organ_table: OrganTable, tiny_bundle: ModelBundle) -> Predictor:
        return load_predictor(tiny_bundle, organ_table, InferenceSettings(device="cpu", threads=1))


class TestStreamingFast(_NetworkContract):
    """The engine with OpenVINO."""

    @pytest.fixture
    def predictor(self, organ_table: OrganTable, tiny_bundle: ModelBundle, tmp_path: Path) -> Predictor:
        settings = InferenceSettings(backend="fast", device="cpu", threads=1)
        return load_predictor(calibrated(tiny_bundle, tmp_path / "tiny"), organ_table, settings)


class TestNnunetWhole(_NetworkContract):
    """nnU-Net on the whole body."""

    @pytest.fixture
    def predictor(self, organ_table: OrganTable, tiny_bundle: ModelBundle) -> Predictor:
        return load_predictor(tiny_bundle, organ_table, _WHOLE)


class TestNnunetChunked(_NetworkContract):
    """nnU-Net in the study's chunks."""

    @pytest.fixture
    def predictor(self, organ_table: OrganTable, tiny_bundle: ModelBundle) -> Predictor:
        settings = InferenceSettings(
            method="chunked", chunk_mm=40.0, overlap_mm=12.0, device="cpu", threads=1
        )
        return load_predictor(tiny_bundle, organ_table, settings)


def test_a_chunk_longer_than_the_patient_gives_the_labels_of_the_whole(
    tiny_bundle: ModelBundle, organ_table: OrganTable, tmp_path: Path
) -> None:
    whole, chunked = (
        load_predictor(tiny_bundle, organ_table, settings).predict(*_case(), lambda *_: None).label_map.labels
        for settings in (
            _WHOLE,
            InferenceSettings(method="chunked", chunk_mm=500.0, device="cpu", threads=1),
        )
    )
    assert (whole == chunked).all()


@pytest.mark.parametrize("overlap_mm", [0.0, 12.0])
def test_chunks_are_contoured_alone_and_each_slice_comes_from_one_of_them(
    overlap_mm: float, tiny_bundle: ModelBundle, organ_table: OrganTable
) -> None:
    volume, body = _case()
    settings = InferenceSettings(
        method="chunked", chunk_mm=40.0, overlap_mm=overlap_mm, device="cpu", threads=1
    )
    found = load_predictor(tiny_bundle, organ_table, settings).predict(volume, body, lambda *_: None)
    alone = load_predictor(tiny_bundle, organ_table, _WHOLE)
    chunks = split_into_chunks(24, 3.0, 40.0, overlap_mm)
    assert len(chunks) > 1
    expected = np.zeros(volume.grid.shape, dtype=np.uint8)
    for chunk in chunks:
        box = Box(start=(chunk.start, 0, 0), stop=(chunk.stop, *volume.grid.shape[1:]))
        mask = body.mask[box.slices]
        part = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=60.0, findings=())
        labels = alone.predict(volume.crop(box), part, lambda *_: None).label_map.labels
        kept = slice(chunk.keep_start, chunk.keep_stop)
        expected[kept] = labels[chunk.keep_start - chunk.start : chunk.keep_stop - chunk.start]
    assert (found.label_map.labels == expected).all()
