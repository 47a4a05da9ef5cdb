"""The network's forward pass by OpenVINO: several times as fast on a CPU, and nearly the same numbers.

How nearly depends on the network, so a bundle is run this way only after calibration. OpenVINO is an optional
part (``pip install 'orgseg-node[fast]'``) and is imported when it is first needed. Imported without care it
reports to its maker over the internet that it was; here it is imported without its telemetry.
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
from orgseg_node.inference.backends.openvino_cache import cache_folder, kept, name_of
from orgseg_node.inference.bundles.calibration import Precision
from orgseg_node.inference.engine.plans import Rules

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


def precisions() -> tuple[Precision, ...]:
    """In what numbers OpenVINO computes natively on this CPU, the fastest first.

    Raises
    ------
    FastModeMissing
        If OpenVINO is not installed.
    """
    able = _openvino().Core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    return (Precision.BF16, Precision.F32) if "BF16" in able else (Precision.F32,)


def refuse_precision(precision: Precision, able: Collection[Precision]) -> None:
    """Refuse numbers that this CPU does not compute in: OpenVINO would without_pydicom_warnings take others.

    Raises
    ------
    EnvironmentFault
        If it does not.
    """
    if precision not in able:
        raise EnvironmentFault(
            f"The fast mode is to compute in {precision}, which this CPU does not; "
            f"calibrate the model with --precision {Precision.F32}."
        )


class OpenVinoForward:
    """The networks of an ensemble, compiled by OpenVINO for tiles of one size.

    Parameters
    ----------
    network : in evaluation mode
    states : the weights of each fold
    rules : of the networks, for the size of their tiles
    precision : in what numbers it computes; tiles and logits are 32 bits in any case
    threads : CPU threads, at least 1

    Raises
    ------
    FastModeMissing
        If OpenVINO is not installed.
    EnvironmentFault
        If the CPU does not compute in this precision.
    InferenceFailed
        If OpenVINO cannot compile the network.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        states: Sequence[Mapping[str, torch.Tensor]],
        rules: Rules,
        *,
        precision: Precision,
        threads: int,
    ) -> None:
        refuse_precision(precision, precisions())
        self._tensor = _openvino().Tensor
        options = {
            "INFERENCE_PRECISION_HINT": str(precision),
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",  # one tile at a time, by all threads
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
        }
        self._compiled = [_compile(network, state, rules, options) for state in states]
        self._requests = [compiled.create_infer_request() for compiled in self._compiled]
        self._shape = tuple(int(n) for n in self._compiled[0].output(0).shape)
        self._last = 0

    @property
    def folds(self) -> int:
        """Number of networks in the ensemble."""
        return len(self._compiled)

    @property
    def device(self) -> torch.device:
        """Where tiles must lie and logits will lie."""
        return torch.device("cpu")

    def rest(self) -> None:
        """Give back the memory that is only needed while tiles are computed."""
        self._compiled[self._last].release_memory()

    def __call__(self, tile: torch.Tensor, fold: int) -> torch.Tensor:
        """Logits of a tile; see `Forward`. OpenVINO writes them straight into the tensor that is returned."""
        if fold != self._last:  # networks of an ensemble do not share their memory, so only one may hold it
            self.rest()
            self._last = fold
        logits = torch.empty(self._shape)
        request = self._requests[fold]
        request.set_input_tensor(self._tensor(tile.numpy(), shared_memory=True))
        request.set_output_tensor(self._tensor(logits.numpy(), shared_memory=True))
        request.infer()
        return logits[0]


def _compile(
    network: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    rules: Rules,
    options: Mapping[str, Any],
) -> Any:
    """A network with its weights, ready for tiles of one size.

    Tracing runs the network, which with a whole tile would take longer than many tiles do later. A
    convolution is the same operation for tiles of every size.
    """
    openvino = _openvino()

    def convert() -> Any:
        network.load_state_dict(state, assign=True)
        with torch.no_grad(), _torch_silenced():
            tile = torch.zeros((1, 1, *rules.smallest_tile))
            # torch would run it again to compare; calibration compares more
            traced = torch.jit.trace(network, tile, check_trace=False)  # type: ignore[no-untyped-call]
            return openvino.convert_model(traced, input=[1, 1, *rules.patch])

    versions = (installed_version(), torch.__version__)
    try:
        name = name_of(network, state, rules.patch, versions)
        converted = kept(cache_folder(), name, openvino, convert)
        return openvino.Core().compile_model(converted, _DEVICE, dict(options))
    except MemoryError:
        raise
    except Exception as error:  # its front end raises kinds of its own that share no base
        raise InferenceFailed(f"OpenVINO cannot compile the network: {type(error).__name__}.") from error


@contextlib.contextmanager
def _torch_silenced() -> Iterator[None]:
    """OpenVINO reads networks by tracing; torch warns of tracing itself and of checks of shapes in layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _openvino() -> Any:
    """The package, imported as if its telemetry were not installed."""
    try:
        with _without(_TELEMETRY):
            import openvino  # noqa: PLC0415  # optional, and heavy
    except ImportError as error:
        raise FastModeMissing from error
    return openvino


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Let a module be as if it were not installed, unless it was imported before."""
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # Python's own mark for what cannot be imported
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]
