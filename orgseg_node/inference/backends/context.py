"""Context of every run of a network: device, threads, stdout, times, progress and errors with codes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import torch

from orgseg_node.errors import EnvironmentFault, InferenceFailed, OrgsegError, OutOfMemory
from orgseg_node.inference.backends import compiled, openvino
from orgseg_node.inference.predictor import Backend, Device, ProgressCallback


def choose_device(wanted: str) -> torch.device:
    """The device to run on: the first GPU if there is one, unless the settings ask for the CPU.

    Raises
    ------
    EnvironmentFault
        If the settings ask for a GPU and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == Device.CUDA and not available:
        raise EnvironmentFault("The configuration asks for a GPU (device = cuda), but torch finds none.")
    return torch.device("cuda", 0) if available and wanted != Device.CPU else torch.device("cpu")


def describe_device(device: torch.device, threads: int | None) -> str:
    """The device and its name or number of threads, for reports."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({threads or torch.get_num_threads()} threads)"


def calibrated_software(backend: str, device: torch.device) -> tuple[str, str]:
    """The software that a calibration must name if a bundle is to run by it, and its version on this machine.

    Parameters
    ----------
    backend : ``fast`` or ``compiled``
    device : that it runs on

    Raises
    ------
    FastModeMissing, CompilerMissing
        If it is not installed.
    """
    if backend == Backend.COMPILED:
        return compiled.SOFTWARE, compiled.installed_version(device)
    return openvino.SOFTWARE, openvino.installed_version()


def network_progress(on_progress: ProgressCallback, number: int, count: int, prefix: str) -> ProgressCallback:
    """The progress callback of one network, which reports its progress as part of the whole run.

    Parameters
    ----------
    on_progress : callback of the whole run
    number : which network, from 0
    count : number of networks
    prefix : put before each text
    """
    return lambda part, text: on_progress((number + part) / count, f"{prefix}{text}")


def describe_time_left(seconds: float) -> str:
    """The time left, as the end of a progress text; empty if less than half a second."""
    if seconds < 0.5:
        return ""
    if seconds < 90:
        return f", about {seconds:.0f} s left"
    minutes = seconds / 60
    return f", about {minutes:.0f} min left" if minutes < 90 else f", about {minutes / 60:.1f} h left"


@contextlib.contextmanager
def timed(timings: dict[str, float], step: str) -> Iterator[None]:
    """Add the seconds that pass inside to those of a step."""
    started = time.perf_counter()
    yield
    timings[step] += time.perf_counter() - started


@contextlib.contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Set the number of threads of torch inside; None for as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def prints_to_stderr(on_progress: ProgressCallback) -> Iterator[ProgressCallback]:
    """Redirect what nnU-Net prints to stderr; the callback that is returned still has the real stdout."""
    stdout = sys.stdout

    def callback(part: float, text: str) -> None:
        with contextlib.redirect_stdout(stdout):
            on_progress(part, text)

    with contextlib.redirect_stdout(sys.stderr):
        yield callback


@contextlib.contextmanager
def coded_errors() -> Iterator[None]:
    """Translate whatever the network raises inside into an error with a code."""
    try:
        yield
    except OrgsegError:
        raise
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory from error
    except RuntimeError as error:
        if "memory" in str(error).lower():  # torch's CPU allocator raises a plain RuntimeError
            raise OutOfMemory from error
        raise InferenceFailed(f"{type(error).__name__}: {error}") from error
    except (
        ValueError,
        IndexError,
        AssertionError,
        KeyError,
        TypeError,
        AttributeError,
        ImportError,
    ) as error:
        raise InferenceFailed(f"{type(error).__name__}: {error}") from error
