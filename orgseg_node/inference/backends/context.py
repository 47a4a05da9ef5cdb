"""What every run of a network is wrapped in: errors with codes, threads, a quiet stdout, times."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import torch

from orgseg_node.errors import EnvironmentFault, InferenceFailed, OrgsegError, OutOfMemory
from orgseg_node.inference.predictor import Device, Progress

Told = Callable[[float, str], None]
"""Called with the part done of one network, and what there is to say."""


def choose_device(wanted: str) -> torch.device:
    """The device to run on: the first GPU where there is one, unless the CPU is asked for.

    Raises
    ------
    EnvironmentFault
        If a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == Device.CUDA and not available:
        raise EnvironmentFault("A GPU (device = cuda) is asked for, but torch finds none.")
    return torch.device("cuda", 0) if available and wanted != Device.CPU else torch.device("cpu")


def device_said(device: torch.device, threads: int | None) -> str:
    """What runs the network, in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({threads or torch.get_num_threads()} threads)"


def portion(progress: Progress, number: int, count: int, what: str) -> Told:
    """The progress of one network, as part of the whole."""
    return lambda part, said: progress((number + part) / count, f"{what}{said}")


def left_said(seconds: float) -> str:
    """How long it takes yet, as the end of a progress text; nothing where it is done."""
    if seconds < 0.5:
        return ""
    if seconds < 90:
        return f", about {seconds:.0f} s left"
    minutes = seconds / 60
    return f", about {minutes:.0f} min left" if minutes < 90 else f", about {minutes / 60:.1f} h left"


@contextlib.contextmanager
def timed(timings: dict[str, float], step: str) -> Iterator[None]:
    """Add the seconds that pass to a step's."""
    started = time.perf_counter()
    yield
    timings[step] += time.perf_counter() - started


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads; as many as before where none are named."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quiet(progress: Progress) -> Iterator[Progress]:
    """nnU-Net prints; what it prints goes to stderr, while the listener still has the real stdout."""
    stdout = sys.stdout

    def said(part: float, what: str) -> None:
        with contextlib.redirect_stdout(stdout):
            progress(part, what)

    with contextlib.redirect_stdout(sys.stderr):
        yield said


@contextlib.contextmanager
def failures_said() -> Iterator[None]:
    """Turn whatever the network raises into a coded error."""
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
