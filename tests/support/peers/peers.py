"""Independent programs that judge the objects: dciodvfy and plastimatch."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import SimpleITK
from pydicom import dcmread

from orgseg_node.core.metrics import dice
from orgseg_node.core.volume import Mask
from orgseg_node.dicom.reading.series import read_series


def _require(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def dciodvfy_errors(path: Path) -> list[str]:
    """What dciodvfy calls an error in an object."""
    _require("dciodvfy")
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    assert done.stderr.strip() or done.stdout.strip(), "dciodvfy says at least which IOD it saw"
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def plastimatch_masks(rtstruct: Path, ct: Path, scratch: Path) -> dict[str, Mask]:
    """What plastimatch reads from an RTSTRUCT: masks by structure name, each (K, J, I) on the CT."""
    _require("plastimatch")
    command = ["plastimatch", "convert", "--input", str(rtstruct), "--referenced-ct", str(ct)]
    command += ["--output-prefix", str(scratch), "--prefix-format", "mha"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    files = sorted(scratch.glob("*.mha"))
    return {path.stem: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) > 0 for path in files}


def agreement_with_plastimatch(result: Path, ct: Path, scratch: Path) -> dict[str, float]:
    """Dice of plastimatch's masks with ``labels.nii.gz`` for each organ found, by structure name.

    Parameters
    ----------
    result : folder that ``orgseg segment`` wrote
    ct : folder with the CT it was made from
    scratch : folder for the masks
    """
    plain = _uncompressed(ct, scratch / "ct")
    masks = plastimatch_masks(result / "RTSTRUCT.dcm", plain, scratch / "masks")
    image = SimpleITK.ReadImage(str(result / "labels.nii.gz"))
    labels = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(image, "LPS"))
    organs = json.loads((result / "report.json").read_text(encoding="utf-8"))["organs"]
    return {row["name"]: dice(masks[row["name"]], labels == row["label"]) for row in organs if row["voxels"]}


def _uncompressed(ct: Path, folder: Path) -> Path:
    """The slices of a series in one flat folder without compression, which plastimatch reads all of."""
    folder.mkdir(parents=True)
    series = read_series(ct)
    for number, each in enumerate(series.slices):
        dataset = dcmread(each.path)
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            dataset.decompress()
        dataset.StudyInstanceUID = series.study_instance_uid  # without UIDs plastimatch sees no image
        dataset.SeriesInstanceUID = series.series_instance_uid
        dataset.SOPInstanceUID = each.sop_instance_uid
        dataset.save_as(folder / f"{number:04d}.dcm")
    return folder


def unpacked(source: Path, folder: Path) -> Path:
    """A folder with the files of a collected series, unpacked where it is packed."""
    archive = source / "ct.tar.gz"
    if not archive.exists():
        return source
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder
