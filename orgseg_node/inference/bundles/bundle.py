"""A model bundle: a folder with ``manifest.toml``, a model card, plans and weights; read without torch.

::

    starter-head-neck/
      manifest.toml
      card.md
      parts/main/plans.json  dataset.json  fold_0.safetensors
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from orgseg_node.errors import (
    BundleError,
    BundleHashMismatch,
    BundleInvalid,
    BundleReplaced,
    UnknownBundle,
)
from orgseg_node.inference.bundles.manifest import MANIFEST, Manifest, Part, Preprocessing, parse_manifest
from orgseg_node.inference.predictor import ModelIdentity
from orgseg_node.shipped import shipped_bundles

__all__ = [
    "Manifest",
    "ModelBundle",
    "Part",
    "Preprocessing",
    "broken_bundles",
    "check_weights",
    "file_sha256",
    "find_bundle",
    "list_bundles",
    "open_bundle",
    "open_bundles",
    "require_versions",
    "verify_bundle",
]

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 16 << 20
"""A header has some 100 bytes for each tensor; the largest networks have a few thousand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundle:
    """A model bundle on disk.

    Attributes
    ----------
    path : its folder
    manifest : content of its ``manifest.toml``
    sha256 : hash of the manifest, which contains the hash of every other file: it identifies the model
    """

    path: Path
    manifest: Manifest
    sha256: str

    @property
    def identity(self) -> ModelIdentity:
        """The identity of the model, written into every object and report."""
        return ModelIdentity(
            name=self.manifest.name,
            version=self.manifest.version,
            sha256=self.sha256,
            intended_use=self.manifest.intended_use,
        )

    @property
    def card(self) -> str:
        """The model card, in Markdown."""
        return (self.path / self.manifest.card).read_text(encoding="utf-8")

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum((self.path / name).stat().st_size for name in self.manifest.files)


def open_bundle(path: Path) -> ModelBundle:
    """Open a bundle: the manifest is validated and every file must exist; the files are not hashed.

    Raises
    ------
    UnknownBundle
        If there is no bundle at this path.
    BundleInvalid
        If the manifest is invalid or files are missing; with all problems.
    """
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError:
        raise UnknownBundle(f"There is no {MANIFEST} in the folder '{path.name}'.") from None
    manifest = parse_manifest(content)
    missing = [name for name in manifest.files if not (path / name).is_file()]
    if missing:
        raise BundleInvalid(f"'{manifest.name}' lacks {_some(missing)}.")
    return ModelBundle(path=path, manifest=manifest, sha256=hashlib.sha256(content).hexdigest())


def find_bundle(name: str, folders: Sequence[Path]) -> ModelBundle:
    """The bundle of a name, from the given folders in order, then from the bundles shipped with the node.

    Raises
    ------
    UnknownBundle
        If no bundle has this name; with all names that exist.
    BundleInvalid
        If the folder of this name is an invalid bundle.
    """
    for folder in _bundle_folders(folders):
        try:
            bundle = open_bundle(folder)
        except BundleError:
            if folder.name == name:
                raise
            continue
        if bundle.manifest.name == name:
            return bundle
    known = ", ".join(sorted(bundle.manifest.name for bundle in list_bundles(folders))) or "none"
    raise UnknownBundle(f"'{name}' is not among the bundles: {known}.")


def open_bundles(names: Sequence[str], folders: Sequence[Path]) -> tuple[ModelBundle, ...]:
    """The bundles of these names, each once, in the order of the names.

    Raises
    ------
    UnknownBundle, BundleInvalid
        If there is no bundle of a name, or if it is invalid.
    """
    return tuple(find_bundle(name, folders) for name in dict.fromkeys(names))


def require_versions(bundles: Sequence[ModelBundle], hashes: Sequence[str]) -> None:
    """Refuse bundles that are not the versions that were chosen.

    Parameters
    ----------
    bundles : as they are installed now
    hashes : SHA-256 that each must have, in the same order; empty, or an empty text, where any is good

    Raises
    ------
    BundleReplaced
        With the first bundle that is another one.
    """
    for bundle, expected in zip(bundles, hashes, strict=False):
        if expected and bundle.sha256 != expected:
            raise BundleReplaced(
                f"'{bundle.manifest.name}' is installed as {bundle.sha256[:12]}, chosen was {expected[:12]}."
            )


def list_bundles(folders: Sequence[Path]) -> tuple[ModelBundle, ...]:
    """Every valid bundle of the given folders and of those shipped with the node; the first one of a name."""
    found: dict[str, ModelBundle] = {}
    for folder in _bundle_folders(folders):
        try:
            bundle = open_bundle(folder)
        except BundleError:
            continue
        found.setdefault(bundle.manifest.name, bundle)
    return tuple(found.values())


def broken_bundles(folders: Sequence[Path]) -> tuple[tuple[Path, BundleError], ...]:
    """Every bundle folder that is invalid and that `list_bundles` leaves out, with the reason."""
    broken: list[tuple[Path, BundleError]] = []
    for folder in _bundle_folders(folders):
        try:
            open_bundle(folder)
        except BundleError as error:
            broken.append((folder, error))
    return tuple(broken)


def verify_bundle(bundle: ModelBundle) -> None:
    """Hash every file again: each must be the one that was imported, and no file may have been added.

    Raises
    ------
    BundleHashMismatch
        With the files that changed, are missing or were added.
    """
    root = bundle.path
    wrong = [f"{MANIFEST} (changed)"] if _hash_or_none(root / MANIFEST) != bundle.sha256 else []
    for name, expected in bundle.manifest.files.items():
        actual = _hash_or_none(root / name)
        if actual != expected:
            wrong.append(f"{name} ({'missing' if actual is None else 'changed'})")
    present = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_symlink() or not p.is_dir()}
    wrong += [f"{name} (added)" for name in sorted(present - bundle.manifest.files.keys() - {MANIFEST})]
    if wrong:
        raise BundleHashMismatch(f"'{bundle.manifest.name}': {_some(wrong)}.")


def check_weights(path: Path) -> None:
    """Check the header of a safetensors file: first its length, before any is allocated, then the tensors.

    Raises
    ------
    BundleInvalid
        If it is longer than the file, or than any network needs; if its tensors do not fit into the file; or
        if the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        size = path.stat().st_size
    except OSError as error:
        raise BundleInvalid(f"{path.name} cannot be read: {error.strerror}.") from error
    if not 0 < length <= min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES):
        raise BundleInvalid(f"{path.name} states a header of {length} bytes, and has {size} bytes.")
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise BundleInvalid(f"{path.name} cannot be read: {error}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hash_or_none(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None


def _bundle_folders(folders: Sequence[Path]) -> Iterator[Path]:
    for parent in dict.fromkeys((*folders, shipped_bundles())):
        if parent.is_dir():
            yield from sorted(p.parent for p in parent.glob(f"[!.]*/{MANIFEST}"))


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
