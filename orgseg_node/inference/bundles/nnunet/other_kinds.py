"""What a file or folder is that is no trained model of nnU-Net v2, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

_LFS: Final = b"version https://git-lfs"
_HEAD_BYTES: Final = 512
_ARCHIVES: Final = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_CHECKPOINTS: Final = (".pth", ".pt", ".ckpt", ".model", ".safetensors")
_EXPORTED: Final = {".onnx": "ONNX", ".ts": "TorchScript"}
_AS_EXPORTED: Final = "It is a network exported as {}; give the folder of nnU-Net v2 of which it was made."
_NOTHING: Final = "There is no plans.json with fold_* folders beside it."
_KINDS: Final[Sequence[tuple[Callable[[PurePosixPath], bool], str]]] = (
    (
        lambda path: path.name == "plans.pkl" or path.suffix == ".model",
        "It is a model of nnU-Net v1 (plans.pkl); only those of v2 are run. Train it again with v2.",
    ),
    (
        lambda path: path.name == "metadata.json" and path.parent.name == "configs",
        "It is a MONAI bundle (configs/metadata.json); only models of nnU-Net v2 are run.",
    ),
    (lambda path: path.suffix == ".onnx", _AS_EXPORTED.format("ONNX")),
    (lambda path: path.suffix == ".ts" or path.name == "constants.pkl", _AS_EXPORTED.format("TorchScript")),
    (
        lambda path: path.name == "data.pkl",
        "It is a single checkpoint; give the folder with plans.json, dataset.json and fold_*.",
    ),
    (lambda path: path.name == "plans.json", "There is a plans.json, but no fold_* folder beside it."),
    (
        lambda path: "imagesTr" in path.parts,
        "It is a data set for training (imagesTr), not a trained model.",
    ),
    (lambda path: path.suffix == ".zip", "There is a zip in it, and no plans.json; give the zip itself."),
    (
        lambda path: path.name.startswith("checkpoint_"),
        "There is a checkpoint, but no plans.json; give the folder above, with plans.json and fold_*.",
    ),
)
"""Which file tells a kind, the surest first, and what to say of it."""


def file_problem(path: Path) -> str | None:
    """Why a file is not what its name says: empty, a pointer or a web page; None if nothing is seen."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        return f"{error.strerror}."
    if not head:
        return "It is empty: 0 bytes."
    if head.startswith(_LFS):
        return "It is the pointer of a Git LFS file, not the file: get it with 'git lfs pull'."
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "It is a web page, as a download leaves it that needed a sign-in."
    return None


def folder_kind(source: Path) -> str:
    """What a folder is in which there is no trained model of nnU-Net v2."""
    return names_kind(path.relative_to(source).as_posix() for path in source.rglob("*"))


def names_kind(names: Iterable[str]) -> str:
    """What holds files of these names, in which there is no trained model of nnU-Net v2.

    Parameters
    ----------
    names : paths of files with ``/``, of a folder or an archive
    """
    paths = [PurePosixPath(name) for name in names]
    return next((sentence for is_there, sentence in _KINDS if any(map(is_there, paths))), _NOTHING)


def not_a_zip(path: Path) -> str:
    """What a file is that is no zip."""
    if problem := file_problem(path):
        return f"'{path.name}': {problem}"
    suffix = path.suffix.lower()
    if suffix in _EXPORTED:
        return names_kind([path.name])
    if suffix in _CHECKPOINTS:
        return names_kind(["data.pkl"])
    if path.name in {"plans.json", "dataset.json"}:
        return f"'{path.name}' is one file of a model; give its folder."
    if suffix in _ARCHIVES:
        return f"'{path.name}' is another archive than a zip; unpack it and give the folder."
    return f"'{path.name}' is not a zip."
