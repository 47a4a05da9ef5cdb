"""The compiled mode: PyTorch's compiler against PyTorch, and the calibration that allows it, on a CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo

from orgseg_node.core.body import find_body
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.reading.reader import read_volume
from orgseg_node.dicom.reading.series import read_series
from orgseg_node.errors import InferenceFailed, NotCalibrated
from orgseg_node.inference.backends.compiled import CompiledForward, installed_version
from orgseg_node.inference.backends.forward import EagerForward, MirroredForward
from orgseg_node.inference.backends.network import PartNetwork, open_network
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle, verify_bundle
from orgseg_node.inference.bundles.calibration import Precision
from orgseg_node.inference.bundles.writing import BundleDraft, PartDraft, export_trained
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from tests.support.models.tiny_nnunet import TinyModel, write_tiny
from tests.support.node.command_line import orgseg
from tests.support.processes.once import once

pytestmark = pytest.mark.endurance

_CPU = torch.device("cpu")
_PATCH = (16, 16, 16)
_COMPILED, _EXACT = (InferenceSettings(backend=b, device="cpu", threads=1) for b in ("compiled", "exact"))


def _make(folder: Path) -> ModelBundle:
    """Two folds, mirrored along the slices, that see the phantom in few tiles."""
    model = TinyModel(folds=(0, 1), mirror_axes=(0,), spacing_mm=(6.0, 8.0, 8.0))
    texts = {"title": "Tiny", "intended_use": "tests", "trained_on": "nothing", "licence": "none"}
    return export_trained(
        [PartDraft(folder=write_tiny(folder, model), label_map={1: "spleen", 2: "liver"})],
        BundleDraft(name="tiny", version="1", card="# Tiny", **texts),
        folder / "bundles" / "tiny",
    )


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelBundle:
    """A bundle that a test may change and the command line finds."""
    shutil.copytree(once("compiled-tiny", _make).path, tmp_path / "bundles" / "tiny")
    monkeypatch.setenv("ORGSEG_BUNDLES", str(tmp_path / "bundles"))
    return open_bundle(tmp_path / "bundles" / "tiny")


def _network(bundle: ModelBundle) -> PartNetwork:
    return open_network(bundle, bundle.manifest.parts[0])


def test_the_logits_are_those_of_the_eager_pass_and_compiled_once_for_all_folds(tiny: ModelBundle) -> None:
    compiled_network, network = _network(tiny), _network(tiny)
    compiled = CompiledForward(compiled_network.network, compiled_network.states, _PATCH, _CPU)
    eager = EagerForward(network.network, network.states, _CPU)
    assert (compiled.folds, compiled.device) == (2, _CPU)
    generator = torch.Generator().manual_seed(3)
    with (
        torch.inference_mode(),
        torch._dynamo.config.patch(error_on_recompile=True),
    ):  # as the engine calls it
        tiles = [torch.randn((1, 1, *_PATCH), generator=generator) for _ in range(4)]
        kept = [compiled(tile, fold) for tile, fold in zip(tiles, (0, 1, 1, 0), strict=True)]
        mirrored = MirroredForward(compiled, (0, 2))(tiles[0], 1)
        other_fold = compiled(tiles[0], 1)
    for tile, fold, logits in zip(tiles, (0, 1, 1, 0), kept, strict=True):
        torch.testing.assert_close(logits, eager(tile, fold), rtol=1e-4, atol=1e-3)
    assert (kept[0] - other_fold).abs().max() > 0.1
    torch.testing.assert_close(mirrored, MirroredForward(eager, (0, 2))(tiles[0], 1), rtol=1e-4, atol=1e-3)


def test_compiled_programs_are_found_again_in_the_users_cache(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = _network(tiny)
    CompiledForward(network.network, network.states, (16, 16, 24), _CPU)
    programs = list((tmp_path / "cache" / "orgseg" / "compiled").rglob("*.so"))
    assert programs
    torch._dynamo.reset()
    CompiledForward(network.network, network.states, (16, 16, 24), _CPU)
    assert list((tmp_path / "cache" / "orgseg" / "compiled").rglob("*.so")) == programs


def test_more_networks_than_pytorch_compiles_by_itself() -> None:
    tile = torch.randn((1, 1, 4, 4, 4), generator=torch.Generator().manual_seed(3))
    for heads in range(2, 12):
        network = torch.nn.Conv3d(1, heads, 1).eval()
        compiled = CompiledForward(network, [network.state_dict()], (4, 4, 4), _CPU)
        assert compiled(tile, 0).shape == (heads, 4, 4, 4)


def test_a_network_that_cannot_be_compiled_is_a_coded_error() -> None:
    class Odd(torch.nn.Module):
        def forward(self, tile: torch.Tensor) -> torch.Tensor:
            return tile * float(str(tile.sum().item()))

    with pytest.raises(InferenceFailed, match="PyTorch cannot compile the network"):
        CompiledForward(Odd(), [{}], _PATCH, _CPU)


def test_calibrate_allows_the_compiled_mode_and_only_that(
    tiny: ModelBundle, ct_folder: Path, organ_table: OrganTable, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotCalibrated, match="'tiny' has no calibration") as caught:
        load_predictor(tiny, organ_table, _COMPILED)
    assert "--backend compiled" in caught.value.next_step
    answer = orgseg(
        capsys, "models", "calibrate", "tiny", ct_folder, "--backend", "compiled", "--device", "cpu"
    )
    assert answer.status == 0, answer.err
    assert "accepted tiny may run compiled, in f32" in answer.out
    bundle = open_bundle(tiny.path)
    verify_bundle(bundle)
    calibration = bundle.manifest.calibration
    assert calibration is not None
    assert (calibration.software, calibration.version) == ("torch.compile", installed_version(_CPU))
    assert calibration.precision == Precision.F32
    ct = read_volume(read_series(ct_folder))
    compiled, exact = (
        load_predictor(bundle, organ_table, settings).predict(ct, find_body(ct), lambda *_: None)
        for settings in (_COMPILED, _EXACT)
    )
    assert compiled.device == f"cpu (1 threads), torch.compile {installed_version(_CPU)} f32"
    assert compiled.method.startswith("streaming, compiled")
    labels, expected = compiled.label_map.labels, exact.label_map.labels
    assert np.count_nonzero(expected)
    assert np.count_nonzero(labels != expected) <= 0.001 * np.count_nonzero(expected)
    with pytest.raises(NotCalibrated, match=r"calibrated with torch\.compile"):
        load_predictor(bundle, organ_table, InferenceSettings(backend="fast", device="cpu"))


def test_calibrating_without_a_compiler_is_a_coded_error(
    tiny: ModelBundle, ct_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    answer = orgseg(capsys, "models", "calibrate", "tiny", ct_folder, "--backend", "compiled")
    assert answer.code == "ENVIRONMENT_COMPILER"
    assert open_bundle(tiny.path).sha256 == tiny.sha256


@pytest.mark.parametrize("options", [("--backend", "exact"), ("--backend", "compiled", "--guided")])
def test_what_cannot_be_calibrated_is_a_wrong_option(
    options: tuple[str, ...], tiny: ModelBundle, ct_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orgseg(capsys, "models", "calibrate", "tiny", ct_folder, *options).status == 2
