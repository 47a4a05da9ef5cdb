"""The forward pass of a network by OpenVINO: several times faster on a CPU, with nearly the same numbers.

The differences depend on the network, so a bundle is run this way only after calibration. OpenVINO is an
optional dependency (``pip install '.[fast]'``) and is imported on first use. Its package sends
telemetry to its vendor when it is imported; here it is imported without the telemetry.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import torch

from orgseg_node.errors import EnvironmentFault, FastModeMissing, InferenceFailed
from orgseg_node.inference.backends.openvino_cache import cache_folder, cache_key, load_or_convert
from orgseg_node.inference.bundles.calibration import Precision
from orgseg_node.inference.engine.plans import NetworkPlan

SOFTWARE: Final = "openvino"
_TELEMETRY: Final = "openvino_telemetry"
_DEVICE: Final = "CPU"


def installed_version(package: str = SOFTWARE) -> str:
    """The version of OpenVINO on this machine, without importing it.

    Raises
    ------
    FastModeMissing
        If it is not installed.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise FastModeMissing from None


def supported_precisions() -> tuple[Precision, ...]:
    """The precisions in which OpenVINO computes natively on this CPU, the fastest first.

    Raises
    ------
    FastModeMissing
        If OpenVINO is not installed.
    """
    supported = _openvino().Core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    return (Precision.BF16, Precision.F32) if "BF16" in supported else (Precision.F32,)


def require_precision(precision: Precision, supported: Collection[Precision]) -> None:
    """Refuse a precision that a device does not support: OpenVINO would silently use another one.

    Raises
    ------
    EnvironmentFault
        If the device does not support it.
    """
    if precision not in supported:
        raise EnvironmentFault(
            f"The fast mode must compute in {precision}, which this device does not support; "
            f"calibrate the model with --precision {' or '.join(supported)}."
        )


class OpenVinoForward:
    """The networks of an ensemble, compiled by OpenVINO for tiles of one size.

    Parameters
    ----------
    network : in evaluation mode
    states : the weights of each fold
    plan : of the networks, for the size of their tiles
    precision : in which it computes; tiles and logits are float32 in any case
    threads : CPU threads, at least 1

    Raises
    ------
    FastModeMissing
        If OpenVINO is not installed.
    EnvironmentFault
        If the CPU does not support this precision.
    InferenceFailed
        If OpenVINO cannot compile the network.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        states: Sequence[Mapping[str, torch.Tensor]],
        plan: NetworkPlan,
        *,
        precision: Precision,
        threads: int,
    ) -> None:
        require_precision(precision, supported_precisions())
        self._tensor = _openvino().Tensor
        options = {
            "INFERENCE_PRECISION_HINT": str(precision),
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",  # one tile at a time, on all threads
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
        }
        self._compiled = [_compile(network, state, plan, options) for state in states]
        self._requests = [compiled.create_infer_request() for compiled in self._compiled]
        self._shape = tuple(int(n) for n in self._compiled[0].output(0).shape)
        self._last_fold = 0

    @property
    def folds(self) -> int:
        """Number of networks in the ensemble."""
        return len(self._compiled)

    @property
    def device(self) -> torch.device:
        """The device of the tiles and of the logits."""
        return torch.device("cpu")

    def release_memory(self) -> None:
        """Return the memory that is only needed while tiles are computed."""
        self._compiled[self._last_fold].release_memory()

    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        """Logits of a tile; see `Forward`. OpenVINO writes them directly into the tensor that is returned."""
        if fold != self._last_fold:  # networks of an ensemble do not share memory, so only one keeps it
            self.release_memory()
            self._last_fold = fold
        logits = torch.empty(self._shape)
        request = self._requests[fold]
        request.set_input_tensor(self._tensor(tile.numpy(), shared_memory=True))
        request.set_output_tensor(self._tensor(logits.numpy(), shared_memory=True))
        request.infer()
        return logits[0]


def _compile(
    network: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    plan: NetworkPlan,
    options: Mapping[str, Any],
) -> Any:
    """A network with its weights, ready for tiles of one size.

    The network is traced with a small tile, because tracing a full tile takes longer than computing many
    tiles. The convolutions are the same for every size of tile.
    """
    openvino = _openvino()

    def convert() -> Any:
        network.load_state_dict(state, assign=True)
        with torch.no_grad(), _ignore_torch_warnings():
            tile = torch.zeros((1, 1, *plan.smallest_tile))
            # without torch's own check: the calibration checks more
            traced = torch.jit.trace(network, tile, check_trace=False)  # type: ignore[no-untyped-call]
            return openvino.convert_model(traced, input=[1, 1, *plan.patch])

    versions = (installed_version(), torch.__version__)
    try:
        key = cache_key(network, state, plan.patch, versions)
        converted = load_or_convert(cache_folder(), key, openvino, convert)
        return openvino.Core().compile_model(converted, _DEVICE, dict(options))
    except MemoryError:
        raise
    except Exception as error:  # its converter raises error types without a common base
        raise InferenceFailed(f"OpenVINO cannot compile the network: {type(error).__name__}.") from error


@contextlib.contextmanager
def _ignore_torch_warnings() -> Iterator[None]:
    """Ignore torch's warnings about tracing, and about checks of shapes in traced layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _openvino() -> Any:
    """The package, imported as if its telemetry package were not installed."""
    try:
        with _hide_module(_TELEMETRY):
            import openvino  # noqa: PLC0415  # optional, and heavy
    except ImportError as error:
        raise FastModeMissing from error
    return openvino


@contextlib.contextmanager
def _hide_module(module: str) -> Iterator[None]:
    """Make a module appear not to be installed, unless it was imported before."""
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # Python's marker of a module that cannot be imported
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]
