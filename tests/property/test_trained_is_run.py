"""What training sees is what the node runs: the labels of a written RTSTRUCT, and the input of a network."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from pydicom import dcmread

from orgseg_node.core.body import find_body
from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.rasterise import rasterise
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.objects.rtstruct_reader import read_rtstruct
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.dicom.tps.tps_names import names_for
from orgseg_node.dicom.tps.tps_profile import GENERIC
from orgseg_node.inference.backends.network_view import view_for_network
from orgseg_node.inference.bundles.manifest import CANONICAL, Preprocessing
from orgseg_node.inference.engine.plans import read_network_plan
from orgseg_node.inference.preparing import prepare_ct
from orgseg_node.shipped import shipped_demo
from orgseg_training.datasets.case import Contents, SourceCase
from orgseg_training.experiment.config import load_experiment
from orgseg_training.experiment.prepare import crop_to_body
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.shipped import training_config
from tests.support.ct.objects import PROVENANCE, series_of
from tests.support.ct.phantom import AXIAL, FEET_FIRST, PRONE, PhantomOptions
from tests.support.models.tiny_nnunet import TinyModel, tiny_dataset, tiny_plans

pytestmark = pytest.mark.endurance

ORGANS = ("aorta", "eyeball_left", "liver", "kidney_right")
POSITIONS = st.sampled_from([(AXIAL, "HFS"), (FEET_FIRST, "FFS"), (PRONE, "HFP")])


@st.composite
def scans(draw: st.DrawFn) -> PhantomOptions:
    """Small scans of any spacing, place and patient position, without tilt."""
    orientation, position = draw(POSITIONS)
    return PhantomOptions(
        slices=draw(st.integers(3, 6)),
        rows=draw(st.integers(8, 20)),
        columns=draw(st.integers(8, 20)),
        pixel_spacing_mm=(draw(st.floats(0.4, 5.0)), draw(st.floats(0.4, 5.0))),
        slice_spacing_mm=draw(st.floats(0.8, 7.0)),
        centre_mm=tuple(draw(st.floats(-400.0, 400.0)) for _ in range(3)),
        orientation=orientation,
        patient_position=position,
    )


@given(scan=scans(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_written_rtstruct_is_read_back_as_the_labels_it_was_made_of(
    organ_table: OrganTable, scan: PhantomOptions, data: st.DataObject
) -> None:
    """Random maps have holes, islands, lone voxels, and organs that touch one another and the border."""
    shape = (scan.slices, scan.rows, scan.columns)
    labels = data.draw(arrays(np.uint8, shape, elements=st.integers(0, len(ORGANS)), fill=st.just(0)))
    labels[0, 0, 0] = 1  # an RTSTRUCT of nothing is refused
    organs = {number: organ_table[key] for number, key in enumerate(ORGANS, 1)}
    with tempfile.TemporaryDirectory() as folder:
        series = series_of(Path(folder), scan)
    written = LabelMap(grid=series.geometry, labels=labels, organs=organs)
    buffer = BytesIO()
    write_rtstruct(trace(written), series, PROVENANCE).save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    contours = read_rtstruct(dcmread(buffer), series)
    masks = {name: rasterise(found, series.geometry) for name, found in contours.items()}
    names = names_for(list(organs.values()), GENERIC)
    drawn = {number: organ for number, organ in organs.items() if (labels == number).any()}
    assert masks.keys() == {names[organ.key] for organ in drawn.values()}
    for number, organ in drawn.items():
        np.testing.assert_array_equal(masks[names[organ.key]], labels == number)


MODELS = {
    "as the CT": TinyModel(spacing_mm=(3.0, 4.0, 4.0)),
    "finer": TinyModel(spacing_mm=(2.0, 2.7, 3.1)),
    "coarser": TinyModel(spacing_mm=(5.0, 6.0, 6.0)),
    "thick slices": TinyModel(spacing_mm=(9.0, 2.5, 2.5), thick=True),
    "turned axes": TinyModel(spacing_mm=(3.0, 3.0, 3.0), transpose=(1, 0, 2)),
    "residual": TinyModel(spacing_mm=(3.0, 2.0, 2.0), residual=True),
}

SCANS = {
    "head first": PhantomOptions(),
    "feet first": PhantomOptions(orientation=FEET_FIRST, patient_position="FFS", centre_mm=(7.0, -3.0, 41.0)),
    "prone, thick": PhantomOptions(
        orientation=PRONE,
        patient_position="HFP",
        slice_spacing_mm=6.5,
        slices=12,
        centre_mm=(-11.0, 5.0, 0.0),
    ),
    "not square, noisy": PhantomOptions(
        pixel_spacing_mm=(3.3, 4.1), slice_spacing_mm=2.4, noise_hu=20.0, couch=False
    ),
}


def _trained_on(volume: Volume, model: TinyModel, root: Path) -> NDArray[np.float32]:
    """What nnU-Net trains on: the scan in the store, cut as the pipeline cuts it, preprocessed by nnU-Net."""
    workspace = Workspace(experiment=load_experiment(training_config("experiments/smoke.toml")), root=root)
    seen = np.ones(volume.grid.shape, np.bool_)
    contents = Contents(volume=volume, masks={"liver": seen})
    source = SourceCase(
        database="db", name="a", patient="a", annotated=frozenset({"liver"}), read=lambda: contents
    )
    workspace.store.ingest([source])
    (case,) = workspace.store.cases()
    crop_to_body(workspace, case)
    plans, configuration, dataset = _nnunet(model)
    image = [str(workspace.cropped(case.key))]
    data, _, _ = configuration.preprocessor_class(verbose=False).run_case(
        image, None, plans, configuration, dataset
    )
    return np.asarray(data[0])


def _run_on(volume: Volume, model: TinyModel) -> NDArray[np.float32]:
    """What the node gives its network."""
    margin = load_experiment(training_config("experiments/smoke.toml")).body_margin_mm
    asked = Preprocessing(outside_to_air=True, body_margin_mm=margin)
    seen = view_for_network(
        prepare_ct(volume, find_body(volume), asked),
        read_network_plan(*_nnunet(model)).preprocessing,
        CANONICAL,
    )
    assert seen is not None
    return seen.working.planes(0, seen.working.shape[0])


def _nnunet(model: TinyModel) -> tuple[PlansManager, Any, Mapping[str, Any]]:
    plans = PlansManager(tiny_plans(model))
    return plans, plans.get_configuration(model.configuration), tiny_dataset(model)


def _assert_same_input(volume: Volume, model: TinyModel, root: Path) -> None:
    trained, run = _trained_on(volume, model, root), _run_on(volume, model)
    assert trained.shape == run.shape
    assert trained.dtype == run.dtype == np.float32
    # Both sum in float64, in another order, and round to float32: only numbers that nearly cancel can differ.
    np.testing.assert_allclose(run, trained, rtol=0, atol=1e-6)
    assert np.count_nonzero(run != trained) <= 1e-4 * run.size


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
def test_training_and_node_give_a_network_the_same_input(
    scan: PhantomOptions, model: TinyModel, tmp_path: Path
) -> None:
    volume = read_volume(series_of(tmp_path / "ct", scan))
    _assert_same_input(volume, model, tmp_path / "work")


def test_not_a_bit_differs_where_nothing_is_resampled(tmp_path: Path) -> None:
    volume = read_volume(series_of(tmp_path / "ct", SCANS["feet first"]))
    model = MODELS["as the CT"]
    np.testing.assert_array_equal(_run_on(volume, model), _trained_on(volume, model, tmp_path / "work"))


def test_the_demonstration_ct_is_seen_alike(tmp_path: Path) -> None:
    volume = read_volume(read_series(shipped_demo() / "ct"))
    _assert_same_input(volume, MODELS["residual"], tmp_path)
