"""Writes a dataset in another transfer syntax."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.uid import UID, ExplicitVRBigEndian


def recode(dataset: pydicom.Dataset, path: Path, syntax: str) -> None:
    """Write an uncompressed little endian CT to a file in a transfer syntax."""
    uid = UID(syntax)
    if uid.is_compressed and uid.is_encapsulated:
        dataset.compress(uid, generate_instance_uid=False)
    elif uid == ExplicitVRBigEndian:
        dataset.PixelData = dataset.pixel_array.byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = uid
    pydicom.dcmwrite(
        path, dataset, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian, overwrite=True
    )
