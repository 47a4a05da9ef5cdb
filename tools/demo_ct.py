"""Make the demonstration CT in ``orgseg_node/demo_data``: a patient of OpenKBP as a derived CT series.

The images are OpenKBP's (Babier et al., Med. Phys. 48, 2021; MIT): resampled, and set to air outside the
body, by their authors. So every image is marked DERIVED and SECONDARY, names its source, and has an invented
identity. Run ``python -m tools.demo_ct IMAGE LABELS TARGET`` with the NIfTI files of the test patient
OKBP_265; the same input gives the same bytes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tomli_w
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless

from orgseg_node.core.geometry import Grid
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_node.errors import MixedGeometry

ORGAN_KEYS = {
    1: "brainstem",
    2: "spinal_cord",
    3: "parotid_right",
    4: "parotid_left",
    5: "esophagus",
    6: "larynx",
    7: "mandible",
}

_INTERCEPT = -1024  # -1024 to 3071 HU fill the 12 stored bits exactly
_DERIVATION = (
    "Converted from the OpenKBP research data set (Babier et al., Med. Phys. 48, 2021; MIT licence): "
    "anonymous, resampled in plane and set to air outside the body by its authors. For demonstration only."
)
_ATTRIBUTION = """\
# Where the demonstration patient comes from

`ct/` and `reference_labels.nii.gz` are derived from patient {source} of the OpenKBP challenge data
(https://github.com/ababier/open-kbp):

> A. Babier, B. Zhang, R. Mahmood, K. L. Moore, T. G. Purdie, A. L. McNiven, T. C. Y. Chan:
> OpenKBP: The open-access knowledge-based planning grand challenge and dataset.
> Medical Physics 48 (2021), 5549-5561.

What was changed: the sparse tables were put on their voxel grid (HU = stored value - 1000), turned to DICOM
patient directions and written as CT images with ImageType DERIVED\\SECONDARY. Name, ID, dates and UIDs are
invented. The clinical contours are in `reference_labels.nii.gz`; `reference_labels.toml` names the numbers.
Outside the body the source is blank, and the in-plane grid is coarse: good for a demonstration, not for
anything clinical.

## Licence of the data

MIT License

Copyright (c) 2021 Aaron Babier

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Image:
    """An array (K, J, I) whose axes run along +z, +y, +x of LPS, and its grid."""

    grid: Grid
    values: NDArray[Any]


def make_demo_ct(image: Path, labels: Path, target: Path) -> None:
    """Write the demonstration CT, its clinical contours and their attribution.

    Parameters
    ----------
    image : NIfTI, HU, axes along the patient's axes in any order and direction
    labels : NIfTI on the same grid, numbered as `ORGAN_KEYS`
    target : folder; gets ``ct/``, ``reference_labels.nii.gz``, ``reference_labels.toml``, ``ATTRIBUTION.md``

    Raises
    ------
    MixedGeometry
        If the two files are not on one grid, or the grid is oblique to the patient.
    """
    ct, reference = _read(image), _read(labels)
    if ct.grid != reference.grid:
        raise MixedGeometry(f"{image.name} and {labels.name} are not on one grid.")
    folder = target / "ct"
    folder.mkdir(parents=True, exist_ok=True)
    source = image.name.split("_0000")[0]
    for old in folder.glob("*.dcm"):
        old.unlink()
    for k in range(ct.grid.shape[0]):
        dataset = _slice(ct, k, source)
        dataset.save_as(folder / f"ct{k + 1:03d}.dcm", enforce_file_format=True)
    nifti = nibabel.Nifti1Image(
        np.ascontiguousarray(reference.values.astype(np.uint8).transpose(2, 1, 0)), reference.grid.ras_affine
    )
    nifti.set_data_dtype(np.uint8)
    nibabel.save(nifti, target / "reference_labels.nii.gz")
    names = {"labels": {str(number): key for number, key in ORGAN_KEYS.items()}}
    (target / "reference_labels.toml").write_text(tomli_w.dumps(names), encoding="utf-8")
    (target / "ATTRIBUTION.md").write_text(_ATTRIBUTION.format(source=source), encoding="utf-8")


def _read(path: Path) -> _Image:
    """A NIfTI reoriented so that k, j and i run along +z, +y and +x of LPS; NIfTI coordinates are RAS."""
    nifti = nibabel.as_closest_canonical(nibabel.load(path))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ nifti.affine  # RAS to LPS: i and j now run along -x and -y
    values = np.asanyarray(nifti.dataobj)[::-1, ::-1, :]
    last_i, last_j = values.shape[0] - 1, values.shape[1] - 1
    origin = affine @ np.array([last_i, last_j, 0, 1.0])
    steps = np.abs(np.diag(affine)[:3])
    if not np.allclose(np.abs(affine[:3, :3]), np.diag(steps), atol=1e-3):
        raise MixedGeometry(f"The axes of {path.name} are oblique to the patient.")
    x, y, z = (round(float(v), 3) for v in origin[:3])
    dx, dy, dz = (round(float(v), 4) for v in steps)
    transposed = values.transpose(2, 1, 0)
    k, j, i = transposed.shape
    return _Image(grid=Grid(shape=(k, j, i), spacing_mm=(dz, dy, dx), origin_mm=(x, y, z)), values=transposed)


def _slice(ct: _Image, k: int, source: str) -> Dataset:
    """One CT image with every type 1 and type 2 attribute of PS3.3 A.3.3."""
    dataset = _identity(source)
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = derive_uid("demo", source, "image", str(k + 1))
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.DerivationDescription = _DERIVATION
    dataset.InstanceNumber = k + 1
    dataset.AcquisitionNumber = None
    dataset.KVP = None
    dataset.PatientPosition = "HFS"
    dataset.ContentDate, dataset.ContentTime = "20210101", "120000"
    _geometry(dataset, ct.grid, k)
    _pixels(dataset, ct.values[k])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    return dataset


def _identity(source: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "DEMO^Head Neck"
    dataset.PatientID = "ORGSEG-DEMO-1"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "By the data set's authors; name, ID, dates, UIDs are invented"
    dataset.StudyInstanceUID = derive_uid("demo", source, "study")
    dataset.StudyDate, dataset.StudyTime = "20210101", "120000"
    dataset.StudyID = "1"
    dataset.StudyDescription = "Demonstration, OpenKBP head and neck"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.Modality = "CT"
    dataset.BodyPartExamined = "HEADNECK"
    dataset.SeriesInstanceUID = derive_uid("demo", source, "series")
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = "Derived demonstration CT"
    dataset.FrameOfReferenceUID = derive_uid("demo", source, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "orgseg_node"
    dataset.ManufacturerModelName = "demonstration series"
    return dataset


def _geometry(dataset: Dataset, grid: Grid, k: int) -> None:
    x, y, z = grid.to_lps([[k, 0, 0]])[0]
    dz, dy, dx = grid.spacing_mm
    dataset.PixelSpacing = [dy, dx]
    dataset.SliceThickness = dz
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [round(float(x), 3), round(float(y), 3), round(float(z), 3)]
    dataset.SliceLocation = round(float(z), 3)


def _pixels(dataset: Dataset, hu: NDArray[Any]) -> None:
    stored = hu.astype(np.int32) - _INTERCEPT
    if stored.min() < 0 or stored.max() > 4095:
        raise ValueError(f"HU from {hu.min()} to {hu.max()} do not fit into 12 bits.")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = _INTERCEPT, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.LossyImageCompression = "00"
    dataset.PixelData = np.ascontiguousarray(stored.astype("<u2")).tobytes()
    dataset["PixelData"].VR = "OW"


if __name__ == "__main__":
    make_demo_ct(*(Path(argument) for argument in sys.argv[1:4]))
