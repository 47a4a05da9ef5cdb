"""What the compiled mode needs, and what refuses it; compiling itself is tested in test_compiled_mode.py."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from orgseg_node.errors import CompilerMissing, ConfigError, EnvironmentFault, NotCalibrated
from orgseg_node.inference.backends.compiled import (
    SOFTWARE,
    _set_up_compiler,
    installed_version,
    require_compiler,
    supported_precisions,
)
from orgseg_node.inference.backends.context import calibrated_software
from orgseg_node.inference.backends.openvino import require_precision
from orgseg_node.inference.bundles.calibration import Precision, require_calibration
from orgseg_node.inference.predictor import InferenceSettings
from tests.support.models.calibrations import a_calibration

_CPU, _GPU = torch.device("cpu"), torch.device("cuda")


def test_a_calibration_names_pytorch_and_the_device() -> None:
    assert calibrated_software("compiled", _CPU) == ("torch.compile", installed_version(_CPU))
    assert calibrated_software("fast", _CPU)[0] == "openvino"


@pytest.mark.parametrize("version", ["2.6.0 on cpu", f"{torch.__version__} on NVIDIA H200", ""])
def test_a_calibration_of_another_pytorch_or_device_or_software_is_none(version: str) -> None:
    measured = a_calibration(software=SOFTWARE, version=version) if version else a_calibration()
    name = rf"calibrated with {measured.software}.*; torch\.compile .* on cpu with .* is installed"
    with pytest.raises(NotCalibrated, match=name):
        require_calibration("paper", measured, *calibrated_software("compiled", _CPU))


def test_a_calibration_of_the_compiled_mode_does_not_allow_the_fast_mode() -> None:
    measured = a_calibration(software=SOFTWARE, version=installed_version(_CPU))
    require_calibration("paper", measured, *calibrated_software("compiled", _CPU))
    with pytest.raises(NotCalibrated, match=r"calibrated with torch\.compile"):
        require_calibration("paper", measured, *calibrated_software("fast", _CPU))


def test_a_machine_without_a_compiler_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    require_compiler(_CPU)
    monkeypatch.setenv("PATH", "/nowhere")
    for refused in (lambda: require_compiler(_CPU), lambda: installed_version(_CPU)):
        with pytest.raises(CompilerMissing, match=r"no C\+\+ compiler") as caught:
            refused()
    assert caught.value.code == "ENVIRONMENT_COMPILER"
    assert "g++" in caught.value.next_step


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="triton is installed")
def test_a_gpu_needs_triton() -> None:
    with pytest.raises(CompilerMissing, match="triton is not installed"):
        require_compiler(_GPU)


def test_it_computes_in_the_precision_of_the_eager_pass() -> None:
    assert supported_precisions(_CPU) == (Precision.F32,)
    assert supported_precisions(_GPU) == (Precision.F16,)
    with pytest.raises(EnvironmentFault, match="calibrate the model with --precision f16"):
        require_precision(Precision.F32, supported_precisions(_GPU))


def test_it_needs_streaming_and_runs_on_any_device() -> None:
    assert InferenceSettings(backend="compiled", device="cuda").method_description == "streaming, compiled"
    with pytest.raises(ConfigError, match="backend compiled needs method streaming, not whole"):
        InferenceSettings(backend="compiled", method="whole")


def test_programs_are_kept_where_nobody_else_may_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variable = "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.setenv(variable, str(tmp_path / "chosen"))
    _set_up_compiler()
    assert os.environ[variable] == str(tmp_path / "chosen")
    monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _set_up_compiler()
    folder = Path(os.environ[variable])
    assert folder == tmp_path / "orgseg" / "compiled"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_without_a_cache_that_can_be_written_programs_go_into_a_folder_that_is_removed() -> None:
    code = (
        "import os; from orgseg_node.inference.backends.compiled import _set_up_compiler; _set_up_compiler();"
        "folder = os.environ['TORCHINDUCTOR_CACHE_DIR']; assert os.path.isdir(folder); print(folder)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    environment["XDG_CACHE_HOME"] = "/proc/nowhere"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    folder = Path(done.stdout.strip())
    assert folder.name.startswith("orgseg-compiled-")
    assert not folder.exists()


def test_a_compiler_with_options_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", f"{sys.executable} -m64")
    require_compiler(_CPU)
