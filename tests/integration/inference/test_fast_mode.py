"""The fast mode: OpenVINO against PyTorch, what is refused, and the calibration that allows it."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import LabelMap, Volume
from orgseg_node.errors import ConfigError, EnvironmentFault, FastModeMissing, InferenceFailed, NotCalibrated
from orgseg_node.inference.backends.calibrating import ModePredictors, measure_agreement, voxels_sha256
from orgseg_node.inference.backends.forward import EagerForward, MirroredForward
from orgseg_node.inference.backends.network import PartNetwork, open_network
from orgseg_node.inference.backends.openvino import (
    OpenVinoForward,
    installed_version,
    require_precision,
    supported_precisions,
)
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle, verify_bundle
from orgseg_node.inference.bundles.calibration import OrganAgreement, Precision
from orgseg_node.inference.bundles.manifest import MANIFEST
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.engine.plans import read_network_plan
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import (
    InferenceSettings,
    ModelIdentity,
    Prediction,
    ProgressCallback,
)
from tests.support.ct.phantom import build_ct_series
from tests.support.models.calibrations import calibrated
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.node.command_line import orgseg
from tests.support.processes.once import once

pytestmark = pytest.mark.endurance

_FAST = InferenceSettings(backend="fast", device="cpu", threads=1)
_PATCH = (16, 16, 16)
_TODAY = dt.date(2026, 1, 31)


def _bundle(folder: Path, model: TinyModel) -> ModelBundle:
    texts = {"title": "Tiny", "intended_use": "tests", "trained_on": "nothing", "licence": "none"}
    return export_trained(
        [PartDraft(folder=write_tiny(folder, model), label_map={1: "spleen", 2: "liver"})],
        BundleDraft(name="tiny", version="1", card="# Tiny", **texts),
        folder / "bundles" / "tiny",
    )


@pytest.fixture(scope="module")
def tiny() -> ModelBundle:
    """Two folds, mirrored along the slices; clear enough that few voxels lie on the edge."""
    return once("fast-tiny", lambda folder: _bundle(folder, TinyModel(folds=(0, 1), mirror_axes=(0,))))


@pytest.fixture(scope="module")
def network(tiny: ModelBundle) -> PartNetwork:
    return open_network(tiny, tiny.manifest.parts[0])


@pytest.fixture(scope="module")
def coarse() -> ModelBundle:
    """One network that sees the phantom in few tiles."""
    return once("fast-coarse", lambda folder: _bundle(folder, TinyModel(spacing_mm=(6.0, 8.0, 8.0))))


@pytest.fixture
def own_tiny(coarse: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelBundle:
    """A copy of that bundle, which a test may change and the command line finds."""
    shutil.copytree(coarse.path, tmp_path / "bundles" / "tiny")
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path / "bundles"))
    return open_bundle(tmp_path / "bundles" / "tiny")


def _fast(network: PartNetwork, precision: Precision = Precision.F32) -> OpenVinoForward:
    plan = read_network_plan(network.plans, network.configuration, network.dataset)
    return OpenVinoForward(network.network, network.states, plan, precision=precision, threads=1)


def _eager(network: PartNetwork) -> EagerForward:
    return EagerForward(network.network, network.states, torch.device("cpu"))


def _tiles(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn((1, 1, *_PATCH), generator=generator) for _ in range(count)]


def _ct() -> tuple[Volume, Body]:
    """Noise, and a patient who is an angle: the corner across lies in the cut around him and is not he."""
    grid = Grid(shape=(20, 36, 40), spacing_mm=(3.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))
    _, j, i = np.ogrid[:20, :36, :40]
    inside = np.broadcast_to((j < 8) | (i < 10), grid.shape).copy()
    hu = np.random.default_rng(5).normal(40, 60, size=grid.shape).astype(np.int16)
    return Volume(grid=grid, hu=hu), Body(
        mask=inside, box=Box.around(inside), effective_diameter_mm=40.0, findings=()
    )


def test_the_logits_are_pytorchs_of_every_fold_in_any_order(network: PartNetwork) -> None:
    fast, eager = _fast(network), _eager(network)
    assert (fast.folds, fast.device) == (2, torch.device("cpu"))
    for tile, fold in zip(_tiles(4), (0, 1, 1, 0), strict=True):
        before = tile.clone()
        torch.testing.assert_close(fast(tile, fold), eager(tile, fold), rtol=1e-4, atol=1e-3)
        assert (tile == before).all()
    first, second = (fast(before, fold) for fold in (0, 1))
    assert (first - second).abs().max() > 0.1


def test_the_result_belongs_to_the_caller(network: PartNetwork) -> None:
    fast = _fast(network)
    one, other = _tiles(2)
    kept = fast(one, 0)
    expected = kept.clone()
    fast(other, 0)
    assert (kept == expected).all()
    kept.zero_()
    assert (fast(one, 0) == expected).all()


def test_it_works_mirrored(network: PartNetwork) -> None:
    (tile,) = _tiles(1)
    with torch.inference_mode():
        fast, eager = (MirroredForward(forward, (0, 2)) for forward in (_fast(network), _eager(network)))
        torch.testing.assert_close(fast(tile, 1), eager(tile, 1), rtol=1e-4, atol=1e-3)


def test_it_computes_the_same_after_its_memory_was_released(network: PartNetwork) -> None:
    fast = _fast(network)
    (tile,) = _tiles(1)
    before = fast(tile, 1)
    fast.release_memory()
    assert (fast(tile, 1) == before).all()


def test_bfloat16_is_another_precision_where_the_cpu_has_it(network: PartNetwork) -> None:
    if Precision.BF16 not in supported_precisions():
        with pytest.raises(EnvironmentFault):
            _fast(network, Precision.BF16)
        return
    (tile,) = _tiles(1)
    rough, fine = (_fast(network, precision)(tile, 0) for precision in (Precision.BF16, Precision.F32))
    assert not torch.allclose(rough, fine, rtol=1e-4, atol=1e-3)
    assert ((rough - fine).abs().mean() / fine.abs().mean()).item() < 0.05


def test_a_network_that_openvino_cannot_read_is_a_coded_error(network: PartNetwork) -> None:
    class Odd(torch.nn.Module):
        def forward(self, tile: torch.Tensor) -> torch.Tensor:
            return torch.special.airy_ai(tile)

    plan = read_network_plan(network.plans, network.configuration, network.dataset)
    with pytest.raises(InferenceFailed, match="OpenVINO cannot compile the network"):
        OpenVinoForward(Odd(), [{}], plan, precision=Precision.F32, threads=1)


def test_a_precision_that_the_cpu_lacks_is_refused() -> None:
    with pytest.raises(EnvironmentFault, match="compute in bf16, which this device does not"):
        require_precision(Precision.BF16, (Precision.F32,))
    require_precision(Precision.F32, (Precision.F32,))
    assert Precision.F32 in supported_precisions()


def test_a_machine_without_openvino_is_told_how_to_install_it() -> None:
    with pytest.raises(FastModeMissing) as caught:
        installed_version("no-such-package-as-this")
    assert "pip install '.[fast]'" in caught.value.next_step


def test_openvino_is_imported_late_and_without_its_telemetry(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "import orgseg_node.inference.backends.streaming\n"
        "assert 'openvino' not in sys.modules\n"
        "from orgseg_node.inference.backends.openvino import supported_precisions\n"
        "supported_precisions()\n"
        "assert 'openvino' in sys.modules\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "intel").exists()


def test_the_fast_mode_is_refused_without_calibration(tiny: ModelBundle, organ_table: OrganTable) -> None:
    with pytest.raises(NotCalibrated, match="'tiny' has no calibration") as caught:
        load_predictor(tiny, organ_table, _FAST)
    assert "orgseg models calibrate" in caught.value.next_step


def test_the_fast_mode_is_refused_with_another_version_of_openvino(
    tiny: ModelBundle, organ_table: OrganTable, tmp_path: Path
) -> None:
    with pytest.raises(NotCalibrated, match=r"calibrated with openvino 2020\.1"):
        load_predictor(calibrated(tiny, tmp_path / "old", version="2020.1"), organ_table, _FAST)


def test_the_fast_mode_is_refused_where_an_organ_falls_short(
    tiny: ModelBundle, organ_table: OrganTable, tmp_path: Path
) -> None:
    poor = {key: OrganAgreement(dice=0.99, found_on=1, outside_ml=0.0) for key in ("spleen", "liver")}
    with pytest.raises(NotCalibrated, match=r"Dice of liver is 0\.990000, below 0\.9995"):
        load_predictor(calibrated(tiny, tmp_path / "poor", organs=poor), organ_table, _FAST)


def test_the_fast_mode_is_for_the_cpu() -> None:
    with pytest.raises(ConfigError, match="backend fast runs on the CPU"):
        InferenceSettings(backend="fast", device="cuda")


def test_it_says_what_it_ran_on(tiny: ModelBundle, organ_table: OrganTable, tmp_path: Path) -> None:
    bundle = calibrated(tiny, tmp_path / "good")
    found = load_predictor(bundle, organ_table, replace(_FAST, device="auto")).predict(
        *_ct(), lambda *_: None
    )
    assert found.device == f"cpu (1 threads), OpenVINO {installed_version()} f32"
    assert found.method.startswith("streaming, fast")
    assert found.models[0].sha256 == bundle.sha256


@pytest.mark.parametrize(
    ("asked", "outside_ml", "skipped"),
    [(None, 0.0, True), (None, 0.1, False), (None, None, False), (True, 0.1, True), (False, 0.0, False)],
)
def test_outside_of_the_patient_is_skipped_as_asked_or_where_calibration_found_nothing_there(
    asked: bool | None,  # noqa: FBT001
    outside_ml: float | None,
    skipped: bool,  # noqa: FBT001
    tiny: ModelBundle,
    organ_table: OrganTable,
    tmp_path: Path,
) -> None:
    if outside_ml is not None:
        organs = {
            key: OrganAgreement(dice=1.0, found_on=1, outside_ml=outside_ml) for key in ("spleen", "liver")
        }
        tiny = calibrated(tiny, tmp_path / "measured", organs=organs)
    settings = InferenceSettings(device="cpu", threads=1, skip_outside_body=asked)
    volume, body = _ct()
    found = load_predictor(tiny, organ_table, settings).predict(volume, body, lambda *_: None)
    far = np.zeros(volume.grid.shape, dtype=bool)
    far[:, 14:, 16:] = True  # more than 10 mm from the skin
    assert bool(found.label_map.labels[far].any()) is not skipped
    assert found.method == (
        "streaming, exact, " + ("outside of the body skipped" if skipped else "nothing skipped")
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Told:
    """Gives the labels that were prepared, by the first voxel of the CT."""

    table: OrganTable
    answers: Mapping[int, NDArray[np.uint8]]
    seconds: float

    @property
    def models(self) -> tuple[ModelIdentity, ...]:
        return ()

    def predict(self, volume: Volume, body: Body, on_progress: ProgressCallback) -> Prediction:
        on_progress(1.0, "prepared")
        keys = ("spleen", "liver", "heart")
        organs = {number: self.table[key] for number, key in enumerate(keys, 1)}
        labels = self.answers[int(volume.hu[0, 0, 0])]
        return Prediction(
            label_map=LabelMap(grid=volume.grid, labels=labels, organs=organs),
            models=(),
            method="prepared",
            device="cpu",
            timings_s={"network": self.seconds},
        )


def _patient(number: int) -> Volume:
    """A cylinder of water, wide enough to be a patient; the first voxel tells which."""
    grid = Grid(shape=(12, 60, 60), spacing_mm=(5.0, 5.0, 5.0), origin_mm=(0.0, 0.0, 0.0))
    _, j, i = np.ogrid[:12, :60, :60]
    inside = np.broadcast_to((j - 30) ** 2 + (i - 30) ** 2 < 15**2, grid.shape)
    hu = np.where(inside, 0, -1000).astype(np.int16)
    hu[0, 0, 0] = number
    return Volume(grid=grid, hu=hu)


def _labels(spleen: int, liver: int, outside: int = 0) -> NDArray[np.uint8]:
    labels = np.zeros((12, 60, 60), dtype=np.uint8)
    inside = labels[:, 22:38, 22:38].reshape(-1)
    inside[:spleen] = 1
    inside[spleen : spleen + liver] = 2
    labels[:, 22:38, 22:38] = inside.reshape(12, 16, 16)
    labels[5, 2, :outside] = 2
    labels[5, 30, 45] = 1  # just outside of the skin, which is near enough
    return labels


def test_the_lowest_dice_and_all_differences_are_kept(organ_table: OrganTable) -> None:
    exact = {-901: _labels(1000, 500, outside=8), -902: _labels(100, 0)}
    worse = {-901: _labels(999, 500, outside=8), -902: _labels(97, 0)}
    better = {-901: _labels(1000, 500, outside=8), -902: _labels(100, 0)}
    modes = ModePredictors(
        software="openvino",
        version="1",
        exact=_Told(table=organ_table, answers=exact, seconds=8.0),
        fast={
            Precision.BF16: _Told(table=organ_table, answers=worse, seconds=1.0),
            Precision.F32: _Told(table=organ_table, answers=better, seconds=2.0),
        },
    )
    progress: list[float] = []
    cts = [_patient(-901), _patient(-902), _patient(-901)]
    measured = measure_agreement(
        modes, cts, _TODAY, lambda part, what: progress.append(part) if what else None
    )
    rough, fine = measured.candidates
    organs = rough.calibration.organs
    assert organs["spleen"] == OrganAgreement(
        dice=0.984924, found_on=2, outside_ml=0.0
    )  # 196/199, not rounded up
    assert organs["liver"] == OrganAgreement(
        dice=0.998031, found_on=1, outside_ml=1.0
    )  # 8 voxels of 0.125 ml
    assert organs["heart"] == OrganAgreement(dice=1.0, found_on=0, outside_ml=0.0)
    assert rough.differing == {"spleen": 4, "liver": 2, "heart": 0}
    assert (measured.network_s, rough.network_s, fine.network_s) == (16.0, 2.0, 4.0)  # a CT counts once
    assert [ct.voxels for ct in rough.calibration.references] == [43200, 43200]
    assert (rough.calibration.date, rough.calibration.precision) == (_TODAY, Precision.BF16)
    assert measured.accepted is fine
    assert progress == pytest.approx([1 / 3, 2 / 3, 1.0] * 2)


def test_the_fastest_that_is_good_enough_is_taken_and_none_where_nothing_was_found(
    organ_table: OrganTable,
) -> None:
    same = _Told(
        table=organ_table,
        answers={-901: _labels(10, 10), -902: np.zeros((12, 60, 60), dtype=np.uint8)},
        seconds=1.0,
    )
    modes = ModePredictors(
        software="openvino", version="1", exact=same, fast={Precision.BF16: same, Precision.F32: same}
    )
    both = measure_agreement(modes, [_patient(-901)], _TODAY, lambda *_: None)
    assert both.accepted is both.candidates[0]
    assert measure_agreement(modes, [_patient(-902)], _TODAY, lambda *_: None).accepted is None
    assert measure_agreement(modes, [], _TODAY, lambda *_: None).accepted is None


def test_a_ct_is_known_by_its_voxels_and_where_they_are() -> None:
    ct = _patient(-901)
    assert voxels_sha256(ct) == voxels_sha256(_patient(-901))
    assert voxels_sha256(ct) != voxels_sha256(_patient(-902))
    moved = Volume(grid=replace(ct.grid, origin_mm=(1.0, 0.0, 0.0)), hu=ct.hu)
    assert voxels_sha256(ct) != voxels_sha256(moved)


def test_calibrate_allows_the_fast_mode(
    own_tiny: ModelBundle, ct_folder: Path, organ_table: OrganTable, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = orgseg(capsys, "models", "calibrate", "tiny", ct_folder, "--precision", "f32")
    assert answer.status == 0, answer.err
    assert "accepted tiny may run fast, in f32" in answer.out
    assert "spleen" in answer.out
    bundle = open_bundle(own_tiny.path)
    verify_bundle(bundle)
    assert bundle.sha256 in answer.out
    calibration = bundle.manifest.calibration
    assert calibration is not None
    assert (calibration.version, calibration.precision) == (installed_version(), Precision.F32)
    assert len(calibration.references) == 1
    fast, exact = (
        load_predictor(bundle, organ_table, settings).predict(*_ct(), lambda *_: None).label_map.labels
        for settings in (_FAST, InferenceSettings(device="cpu", threads=1))
    )
    assert np.count_nonzero(exact)
    assert np.count_nonzero(fast != exact) <= 0.001 * np.count_nonzero(exact)


def test_what_is_not_accepted_is_told_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ct_folder: Path
) -> None:
    blind = _bundle(
        tmp_path, TinyModel(gain=0.0, seed=2, spacing_mm=(6.0, 8.0, 8.0))
    )  # its logits are the same everywhere: background
    monkeypatch.setenv("ORGSEG_BUNDLES", str(blind.path.parent))
    before = (blind.path / MANIFEST).read_bytes()
    answer = orgseg(capsys, "models", "calibrate", "tiny", ct_folder, "--precision", "f32")
    assert answer.status == 1
    assert "not accepted in f32: no organ was found on any reference CT" in answer.err
    assert "none of these CTs shows: spleen, liver" in answer.err
    assert (blind.path / MANIFEST).read_bytes() == before
    verify_bundle(blind)


def test_auto_measures_every_precision_of_the_cpu(
    own_tiny: ModelBundle, ct_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    build_ct_series(second)
    answer = orgseg(capsys, "models", "calibrate", "tiny", ct_folder, second)
    assert all(f"network, {precision}:" in answer.out for precision in supported_precisions())
    assert answer.status == 0, answer.err


def test_an_unknown_bundle_and_a_folder_without_a_ct_are_coded_errors(
    own_tiny: ModelBundle, ct_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orgseg(capsys, "models", "calibrate", "nothing", ct_folder).code == "BUNDLE_UNKNOWN"
    (tmp_path / "empty").mkdir()
    assert orgseg(capsys, "models", "calibrate", "tiny", tmp_path / "empty").code == "INPUT_EMPTY"
    assert orgseg(capsys, "models", "calibrate", "tiny").status == 2
