"""The export zip of nnU-Net: only plans, data set descriptions and checkpoints are taken out of it."""

from __future__ import annotations

import errno
import shutil
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Final

from orgseg_node.errors import DiskFull, ModelDamaged, ModelNotImportable
from orgseg_node.inference.bundles.nnunet.other_kinds import names_kind, not_a_zip

_SYMLINK: Final = 0o120000
_MAC: Final = "__MACOSX"


def unpack(archive: Path, target: Path, wanted: Collection[str], noted: Collection[str]) -> None:
    """Extract files of certain names from a zip, and nothing else.

    Parameters
    ----------
    archive : the zip, as nnU-Net, a file manager or Windows made it
    target : an empty folder
    wanted : names of files that are extracted
    noted : names of files of which it is enough that they are there; they become empty

    Raises
    ------
    ModelNotImportable
        If it is not a zip, or the path of a member leads outside the target.
    ModelDamaged
        If it cannot be read to its end.
    DiskFull
        If its content does not fit.
    """
    if not zipfile.is_zipfile(archive):
        kind = ModelDamaged if archive.suffix.lower() == ".zip" else ModelNotImportable
        raise kind(not_a_zip(archive))
    try:
        with zipfile.ZipFile(archive) as opened:
            named = [(_path(member), member) for member in opened.infolist() if not member.is_dir()]
            members = {path: member for path, member in named if _MAC not in path.parts}
            chosen = {path: member for path, member in members.items() if path.name in wanted}
            if not chosen:
                raise ModelNotImportable(names_kind(map(str, members)))
            if sum(member.file_size for member in chosen.values()) > shutil.disk_usage(target).free:
                raise DiskFull("The model's zip does not fit into the temporary folder.")
            for path, member in chosen.items():
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, (target / path).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    # RuntimeError: its encryption or method; OSError: paths that no file system holds
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise DiskFull("The model's zip does not fit into the temporary folder.") from error
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ModelDamaged(f"'{archive.name}' is not a readable zip: {reason[:200].rstrip('.')}.") from error
    for path in members:
        if path.name in noted:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).touch()


def _path(member: zipfile.ZipInfo) -> PurePosixPath:
    """The path of a member; some programs on Windows write it with backslashes.

    Raises
    ------
    ModelNotImportable
        If it leads outside the folder, or is a link.
    """
    path = PurePosixPath(member.filename.replace("\\", "/"))
    is_link = (member.external_attr >> 16) & 0o170000 == _SYMLINK
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]) or is_link:
        raise ModelNotImportable(
            "The zip contains a path that leads outside its folder; nothing was unpacked."
        )
    return path
