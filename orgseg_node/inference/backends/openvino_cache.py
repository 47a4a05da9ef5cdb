"""Networks as OpenVINO reads them, kept on disk from run to run.

A network is traced and converted before OpenVINO can compile it, which takes longer than many tiles. Every
job of the node is a process of its own, so what was converted is kept in the user's cache folder, under a
name that follows from the weights, the layers, the size of the tiles and the versions of all that took part.
What is found there is used only if it is what was written. The folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from orgseg_node.core.geometry import Shape
from orgseg_node.durable import atomic_folder
from orgseg_node.errors import StorageError

_FORMAT: Final = "1"
_FILES: Final = ("network.xml", "network.bin")
_SUM: Final = "sha256"


def cache_folder() -> Path | None:
    """Where converted networks are kept (XDG Base Directory); None for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given and Path(given).is_absolute():
        return Path(given) / "orgseg" / "networks"
    try:
        return Path.home() / ".cache" / "orgseg" / "networks"
    except RuntimeError:
        return None


def name_of(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], patch: Shape, versions: tuple[str, ...]
) -> str:
    """The name under which a converted network is kept: it changes with everything the conversion rests on.

    Parameters
    ----------
    network : its layers
    state : its weights
    patch : size of a tile
    versions : of the software that converts
    """
    whole = hashlib.sha256("\n".join((_FORMAT, *versions, repr(patch), repr(network))).encode())
    for key, tensor in sorted(state.items()):
        whole.update(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def kept(folder: Path | None, name: str, openvino: Any, convert: Callable[[], Any]) -> Any:
    """A converted network from the folder, or converted now and put there.

    A folder that cannot be read or written only costs time.

    Parameters
    ----------
    folder : see `cache_folder`
    name : see `name_of`
    openvino : the package
    convert : gives the network in OpenVINO's form
    """
    if folder is None:
        return convert()
    place = folder / name
    with contextlib.suppress(OSError, RuntimeError):
        if _is_sound(place):
            return openvino.Core().read_model(place / _FILES[0])
    converted = convert()
    with contextlib.suppress(StorageError, RuntimeError):
        _keep(converted, place, openvino)
    return converted


def _keep(converted: Any, place: Path, openvino: Any) -> None:
    """Write a network beside its place and move it there as a whole; who comes second leaves the first."""
    with atomic_folder(place, 0o700) as scratch:
        openvino.save_model(converted, scratch / _FILES[0], compress_to_fp16=False)
        (scratch / _SUM).write_text(_sum_of(scratch), encoding="ascii")
        if place.exists() and not _is_sound(place):
            shutil.rmtree(place)


def _is_sound(place: Path) -> bool:
    try:
        return (place / _SUM).read_text(encoding="ascii") == _sum_of(place)
    except OSError:
        return False


def _sum_of(place: Path) -> str:
    whole = hashlib.sha256()
    for file in _FILES:
        with (place / file).open("rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()
