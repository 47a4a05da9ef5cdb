"""Another tool in a process of its own: reads a folder, returns its volumes or its exception.

    python -m benchmarks.series_zoo.other_tool_worker TOOL

reads one JSON line ``{"folder": ..., "out": ...}`` after the other and answers each with one JSON line. The
volumes are written to the file ``out``. Nothing else is written to standard output.
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

from benchmarks.series_zoo.assessment import ReadVolume
from tests.support.ct.zoo import Floats, organ

_LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def with_simpleitk(folder: Path) -> tuple[list[ReadVolume], float]:
    """Every series that GDCM finds in the folder, by ImageSeriesReader; multi-frame files by ReadImage."""
    import SimpleITK as sitk  # noqa: N813, PLC0415

    volumes = []
    for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
        image = reader.Execute()
        if image.GetDimension() == 4:
            if image.GetSize()[3] != 1:
                raise RuntimeError("an image of four dimensions")
            image = image[:, :, :, 0]
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        volumes.append(ReadVolume(hu=sitk.GetArrayFromImage(image), affine=affine))
    return volumes, 0.0


def with_dicom2nifti(folder: Path) -> tuple[list[ReadVolume], float]:
    """Every series that convert_directory writes; it only logs a series that it cannot convert."""
    import dicom2nifti  # noqa: PLC0415
    import nibabel  # noqa: PLC0415

    volumes = []
    with tempfile.TemporaryDirectory() as out:
        dicom2nifti.convert_directory(str(folder), out, compression=False, reorient=False)
        for path in sorted(Path(out).glob("*.nii")):
            image: Any = nibabel.load(path)
            values = np.asarray(image.get_fdata())
            phases = [values] if values.ndim == 3 else [values[..., n] for n in range(values.shape[3])]
            affine = _LPS_OF_RAS @ image.affine
            volumes += [ReadVolume(hu=phase.transpose(2, 1, 0), affine=affine) for phase in phases]
    return volumes, 0.0


def with_rt_utils(folder: Path) -> tuple[list[ReadVolume], float]:
    """The volume of its loader, and the largest error of its contours of the zoo's organ."""
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
        worst = max(worst, _contour_error_mm(points, *by_uid[str(image.ReferencedSOPInstanceUID)]))
    return [ReadVolume(hu=hu, affine=affine)], worst


def _vectors(image: Any) -> tuple[Floats, Floats, Floats]:
    orientation = np.array(image.ImageOrientationPatient, dtype=np.float64)
    return np.array(image.ImagePositionPatient, dtype=np.float64), orientation[:3], orientation[3:]


def _pixel_points(image: Any) -> Floats:
    position, row, column = _vectors(image)
    height, width = (float(v) for v in image.PixelSpacing)
    j, i = (axis[..., None] for axis in np.indices((image.Rows, image.Columns)))
    points: Floats = position + i * width * row + j * height * column
    return points


def _contour_error_mm(points: Floats, image: Any, mask: Any) -> float:
    """Distance of a contour from the plane of its image, or outside the mask it was drawn from.

    rt-utils draws through the centres of border pixels. The organ loses half a pixel, which is not a wrong
    position: a contour within the box of the pixel centres counts as right.
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


TOOLS: dict[str, Callable[[Path], tuple[list[ReadVolume], float]]] = {
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
        request = json.loads(line)
        try:
            volumes, error_mm = tool(Path(request["folder"]))
            arrays: dict[str, Any] = {}
            for n, volume in enumerate(volumes):
                arrays |= {f"hu_{n}": volume.hu, f"affine_{n}": volume.affine}
            np.savez(request["out"], **arrays)
            answer: dict[str, Any] = {"volumes": len(volumes), "contour_error_mm": error_mm}
            if not volumes:
                answer = {"error": "nothing read"}
        except Exception as error:  # noqa: BLE001  # any exception is an answer
            answer = {"error": type(error).__name__}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
