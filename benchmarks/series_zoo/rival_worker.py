"""One rival in a process of its own: a folder in, its volumes or its exception out.

    python -m benchmarks.series_zoo.rival_worker TOOL

reads one JSON line ``{"folder": ..., "out": ...}`` after the other and answers each with one JSON line. The
volumes go into the file ``out``. Nothing else ever reaches standard output.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.series_zoo.verdict import Picture
from tests.support.ct.zoo import Floats, organ

_LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def with_simpleitk(folder: Path) -> tuple[list[Picture], float]:
    """Every series that GDCM finds in the folder, by ImageSeriesReader; multi-frame files by ReadImage."""
    import SimpleITK as sitk  # noqa: N813, PLC0415

    pictures = []
    for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
        image = reader.Execute()
        if image.GetDimension() == 4:
            if image.GetSize()[3] != 1:
                raise RuntimeError("a picture of four dimensions")
            image = image[:, :, :, 0]
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        pictures.append(Picture(hu=sitk.GetArrayFromImage(image), affine=affine))
    return pictures, 0.0


def with_dicom2nifti(folder: Path) -> tuple[list[Picture], float]:
    """Every series that convert_directory writes; one that it cannot convert is only logged by it."""
    import dicom2nifti  # noqa: PLC0415
    import nibabel  # noqa: PLC0415

    pictures = []
    with tempfile.TemporaryDirectory() as out:
        dicom2nifti.convert_directory(str(folder), out, compression=False, reorient=False)
        for path in sorted(Path(out).glob("*.nii")):
            image: Any = nibabel.load(path)
            values = np.asarray(image.get_fdata())
            phases = [values] if values.ndim == 3 else [values[..., n] for n in range(values.shape[3])]
            affine = _LPS_OF_RAS @ image.affine
            pictures += [Picture(hu=phase.transpose(2, 1, 0), affine=affine) for phase in phases]
    return pictures, 0.0


def with_rt_utils(folder: Path) -> tuple[list[Picture], float]:
    """What its loader takes as the volume, and how far its contours of the zoo's organ lie off."""
    from rt_utils import RTStructBuilder, image_helper  # noqa: PLC0415

    structures = RTStructBuilder.create_new(dicom_series_path=str(folder))
    slices = structures.series_data
    affine = image_helper.get_pixel_to_patient_transformation_matrix(slices).astype(np.float64)
    hu = np.array([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    masks = np.array([organ(_pixel_points(s)) for s in slices])
    structures.add_roi(mask=np.moveaxis(masks, 0, 2), name="organ")
    by_uid = {str(s.SOPInstanceUID): (s, mask) for s, mask in zip(slices, masks, strict=True)}
    worst = 0.0
    for contour in structures.ds.ROIContourSequence[0].ContourSequence:
        image = contour.ContourImageSequence[0]
        points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
        worst = max(worst, _off_mm(points, *by_uid[str(image.ReferencedSOPInstanceUID)]))
    return [Picture(hu=hu, affine=affine)], worst


def _vectors(image: Any) -> tuple[Floats, Floats, Floats]:
    orientation = np.array(image.ImageOrientationPatient, dtype=np.float64)
    return np.array(image.ImagePositionPatient, dtype=np.float64), orientation[:3], orientation[3:]


def _pixel_points(image: Any) -> Floats:
    position, row, column = _vectors(image)
    height, width = (float(v) for v in image.PixelSpacing)
    j, i = (axis[..., None] for axis in np.indices((image.Rows, image.Columns)))
    points: Floats = position + i * width * row + j * height * column
    return points


def _off_mm(points: Floats, image: Any, mask: Any) -> float:
    """How far a contour lies off the plane of its image, or beyond the mask it was drawn from.

    rt-utils draws through the centres of border pixels. That costs the organ half a pixel, which is another
    matter than a wrong place: within the box of the pixels' centres a contour counts as right.
    """
    position, row, column = _vectors(image)
    offset = points - position
    height, width = (float(v) for v in image.PixelSpacing)
    j, i = np.nonzero(mask)
    beyond = [
        np.max([i.min() * width - (offset @ row), (offset @ row) - i.max() * width]),
        np.max([j.min() * height - (offset @ column), (offset @ column) - j.max() * height]),
    ]
    return float(max(np.abs(offset @ np.cross(row, column)).max(), *beyond))


TOOLS: dict[str, Callable[[Path], tuple[list[Picture], float]]] = {
    "SimpleITK": with_simpleitk,
    "dicom2nifti": with_dicom2nifti,
    "rt-utils": with_rt_utils,
}


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    tool = TOOLS[sys.argv[1]]
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        order = json.loads(line)
        try:
            pictures, off_mm = tool(Path(order["folder"]))
            arrays: dict[str, Any] = {}
            for n, picture in enumerate(pictures):
                arrays |= {f"hu_{n}": picture.hu, f"affine_{n}": picture.affine}
            np.savez(order["out"], **arrays)
            answer: dict[str, Any] = {"pictures": len(pictures), "off_mm": off_mm}
            if not pictures:
                answer = {"error": "nothing read"}
        except Exception as error:  # noqa: BLE001  # whatever it raises is its answer
            answer = {"error": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
