"""Whatever the result of a run depends on besides the scan, as one hash: the name of its cache.

A result of older code would be reused after an update if only the number of the version counted, since code
changes between versions. So the sources that compute a result are hashed; that takes some milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import orgseg_node
import orgseg_training
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.core.organs import OrganTable
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_training.evaluation.scoring import Tolerances

_NODE: Final = ("contouring", "core", "inference")
_TRAINING: Final = ("datasets", "evaluation", "gate")
_LIBRARIES: Final = ("numpy", "scipy", "torch", "nnunetv2")


def run_key(
    bundle: ModelBundle,
    settings: InferenceSettings,
    protocol: Protocol,
    organs: OrganTable,
    tolerances: Tolerances,
) -> str:
    """The hash of everything that decides a result but the scan.

    Parameters
    ----------
    bundle : whose manifest may name fewer folds than its folder has
    settings : how the networks are run
    protocol : whose tidying is applied
    organs : the organ table; the rows of the organs of the bundle count
    tolerances : of the surface Dice
    """
    manifest = bundle.manifest
    content = {
        "code": _code(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "bundle": bundle.sha256,
        "folds": [part.folds for part in manifest.parts],
        "method": settings.method_description,
        "protocol": protocol.sha256,
        "organs": {key: asdict(organs[key]) for key in manifest.organs if key in organs},
        "tolerances": {key: tolerances.of(key) for key in manifest.organs},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def _code() -> str:
    found: dict[str, Path] = {}
    for package, folders in ((orgseg_node, _NODE), (orgseg_training, _TRAINING)):
        root = Path(package.__path__[0])
        found |= {f"{package.__name__}/{name}": root / name for name in folders}
    return code_hash(found)


def code_hash(folders: Mapping[str, Path]) -> str:
    """Hash of all Python files below some folders.

    Parameters
    ----------
    folders : by a name that is the same on every machine
    """
    total = hashlib.sha256()
    for name, folder in sorted(folders.items()):
        for relative, path in _files(folder):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{name}/{relative}\0{digest}\n".encode())
    return total.hexdigest()


def _files(folder: Path) -> Iterable[tuple[str, Path]]:
    return sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.py"))
