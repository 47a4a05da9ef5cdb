"""The forward pass of a network compiled by PyTorch (torch.compile).

Normalisation and activation between the convolutions are fused. The numbers are nearly those of the eager
pass; the differences depend on the network and on the device, so a bundle is run this way only after
calibration with the same PyTorch on the same kind of device.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch

from orgseg_node.core.geometry import Shape
from orgseg_node.errors import CompilerMissing, InferenceFailed
from orgseg_node.inference.backends.forward import EagerForward
from orgseg_node.inference.backends.openvino_cache import cache_folder
from orgseg_node.inference.bundles.calibration import Precision

SOFTWARE: Final = "torch.compile"
_CACHE: Final = "TORCHINDUCTOR_CACHE_DIR"
_NETWORKS: Final = 1000  # networks and sizes of tiles that a process may compile; PyTorch would stop at 8


def installed_version(device: torch.device) -> str:
    """The version of PyTorch and the kind of device, to which the rounding of a compiled network belongs.

    Raises
    ------
    CompilerMissing
        If PyTorch cannot compile for this device.
    """
    require_compiler(device)
    capability = f"cpu with {torch.backends.cpu.get_cpu_capability()}"
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else capability
    return f"{torch.__version__} on {kind}"


def require_compiler(device: torch.device) -> None:
    """Refuse a machine on which PyTorch cannot compile for a device.

    Raises
    ------
    CompilerMissing
        If a compiler is missing.
    """
    if device.type != "cuda":
        if shutil.which(_program("CXX", "g++")) is None:
            raise CompilerMissing("PyTorch cannot compile: this machine has no C++ compiler.")
        return
    if importlib.util.find_spec("triton") is None:
        raise CompilerMissing("PyTorch cannot compile for a GPU: the package triton is not installed.")
    if not any(shutil.which(name) for name in (_program("CC", "gcc"), "clang")):
        raise CompilerMissing("PyTorch cannot compile for a GPU: this machine has no C compiler.")


def _program(variable: str, default: str) -> str:
    """The program of a compiler's command, which may have options."""
    return next(iter(shlex.split(os.environ.get(variable, ""))), default)


def supported_precisions(device: torch.device) -> tuple[Precision, ...]:
    """The precisions of a compiled network: on a GPU that of the eager pass with autocast, else float32."""
    return (Precision.F16,) if device.type == "cuda" else (Precision.F32,)


class CompiledForward(EagerForward):
    """The networks of an ensemble, compiled once for tiles of one size; else as the eager pass.

    Parameters
    ----------
    network : in evaluation mode
    states : the weights of each fold
    patch : shape of a tile in voxels
    device : the device to run on

    Raises
    ------
    CompilerMissing
        If PyTorch cannot compile for this device.
    InferenceFailed
        If PyTorch cannot compile the network.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        states: Sequence[Mapping[str, torch.Tensor]],
        patch: Shape,
        device: torch.device,
    ) -> None:
        require_compiler(device)
        _set_up_compiler()
        super().__init__(network, states, device)
        self._compute = torch.compile(self._network, fullgraph=True, dynamic=False)
        try:
            with torch.inference_mode(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch's, about its own parts
                self(torch.zeros((1, 1, *patch), device=device), 0)  # compiled now, not at the first tile
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # its parts raise error types without a common base
            raise InferenceFailed(f"PyTorch cannot compile the network: {type(error).__name__}.") from error


def _set_up_compiler() -> None:
    """Allow many networks, and keep programs in the user's cache; to PyTorch's, in /tmp, others may write."""
    import torch._dynamo  # noqa: PLC0415  # takes seconds
    import torch._inductor.config  # noqa: PLC0415
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # noqa: PLC0415

    torch._dynamo.config.recompile_limit = _NETWORKS  # noqa: SLF001  # no public name
    torch._dynamo.config.accumulated_recompile_limit = _NETWORKS  # noqa: SLF001
    torch._inductor.config.cpp_cache_precompile_headers = False  # noqa: SLF001  # always in /tmp
    if os.environ.get(_CACHE, default_cache_dir()) != default_cache_dir():  # PyTorch itself sets it on import
        return
    os.environ[_CACHE] = str(_usable_cache() or _temporary_cache())


def _usable_cache() -> Path | None:
    """The user's cache; None without one that can be written, which only costs time."""
    folder = cache_folder("compiled")
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _temporary_cache() -> str:
    """A folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="orgseg-compiled-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
