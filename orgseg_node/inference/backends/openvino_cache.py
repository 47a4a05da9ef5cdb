"""A cache on disk of networks that were converted for OpenVINO.

A network is traced and converted before OpenVINO can compile it, which takes longer than many tiles. Every
job of the node is a process of its own, so converted networks are stored in the user's cache folder, under a
key that depends on the weights, the layers, the size of the tiles and the versions of the software. A stored
network is used only if its checksum is right. The folder may be deleted at any time.
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
_CHECKSUM: Final = "sha256"


def cache_folder(name: str = "networks") -> Path | None:
    """Folder of a cache (XDG Base Directory); None for a user without a home folder."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given and Path(given).is_absolute():
        return Path(given) / "orgseg" / name
    try:
        return Path.home() / ".cache" / "orgseg" / name
    except RuntimeError:
        return None


def cache_key(
    network: torch.nn.Module, state: Mapping[str, torch.Tensor], patch: Shape, versions: tuple[str, ...]
) -> str:
    """The key of a converted network, which changes with everything that the conversion depends on.

    Parameters
    ----------
    network : its layers
    state : its weights
    patch : shape of a tile in voxels
    versions : of the software that converts
    """
    digest = hashlib.sha256("\n".join((_FORMAT, *versions, repr(patch), repr(network))).encode())
    for key, tensor in sorted(state.items()):
        digest.update(f"\n{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_or_convert(folder: Path | None, key: str, openvino: Any, convert: Callable[[], Any]) -> Any:
    """The converted network from the cache; if it is not there, it is converted and stored.

    A folder that cannot be read or written only costs time.

    Parameters
    ----------
    folder : see `cache_folder`
    key : see `cache_key`
    openvino : the Python package
    convert : converts the network and returns it as OpenVINO's model
    """
    if folder is None:
        return convert()
    target = folder / key
    with contextlib.suppress(OSError, RuntimeError):
        if _is_intact(target):
            return openvino.Core().read_model(target / _FILES[0])
    converted = convert()
    with contextlib.suppress(StorageError, RuntimeError):
        _store(converted, target, openvino)
    return converted


def _store(converted: Any, target: Path, openvino: Any) -> None:
    """Write a network to a temporary folder and rename it; of two writers at once the first one wins."""
    with atomic_folder(target, 0o700) as temporary:
        openvino.save_model(converted, temporary / _FILES[0], compress_to_fp16=False)
        (temporary / _CHECKSUM).write_text(_checksum(temporary), encoding="ascii")
        if target.exists() and not _is_intact(target):
            shutil.rmtree(target)


def _is_intact(target: Path) -> bool:
    try:
        return (target / _CHECKSUM).read_text(encoding="ascii") == _checksum(target)
    except OSError:
        return False


def _checksum(target: Path) -> str:
    digest = hashlib.sha256()
    for file in _FILES:
        with (target / file).open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
