"""Awkward files of real scanners and planning systems, one by one: right, or refused.

Right means: every slice's place, every HU and every contour is what plain pydicom finds in the files. Nothing
of the node takes part in saying what is true.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from benchmarks.series_zoo.assess_node import assess_node
from benchmarks.series_zoo.assessment import Outcome
from orgseg_node.core.metrics import dice
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.rasterise import rasterise
from orgseg_node.dicom.objects.rtstruct import read_rtstruct
from orgseg_node.dicom.reading.reader import read_slices
from orgseg_node.dicom.reading.series import choose, files_in, read_series, survey
from orgseg_node.errors import InputError, ObjectInvalid
from tests.support.ct.zoo import Floats, Mask, Plane, Stack

pytestmark = [pytest.mark.shared_data, pytest.mark.endurance]

SMALL = "dicom_small"
_CT = "1.2.840.10008.5.1.4.1.1.2"


def _folder(shared_data: Path, name: str, scratch: Path) -> Path:
    """A folder of the collected data; a packed series is unpacked."""
    packed = shared_data / name / "ct.tar.gz"
    if not packed.exists():
        return shared_data / name
    with tarfile.open(packed) as archive:
        archive.extractall(scratch, filter="data")
    return scratch


def _images(folder: Path) -> Iterator[FileDataset]:
    """The CT images of a folder, read by pydicom; some carry their UIDs in the file meta header only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            dataset = dcmread(path)
            if dataset.file_meta.get("MediaStorageSOPClassUID") == _CT:
                yield dataset


def _plane(image: FileDataset) -> Plane:
    """What the header and the pixels of an image say, by the text of the standard."""
    orientation = np.array([float(v) for v in image.ImageOrientationPatient])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stored = image.pixel_array.astype(np.float64)
    hu = stored * float(image.RescaleSlope) + float(image.RescaleIntercept)
    hu = np.maximum(hu, -1024)
    if "PixelPaddingValue" in image:
        hu[stored == image.PixelPaddingValue] = -1024
    height, width = (float(v) for v in image.PixelSpacing)
    return Plane(
        keys=frozenset({(str(image.file_meta.MediaStorageSOPInstanceUID), None)}),
        position_mm=np.array([float(v) for v in image.ImagePositionPatient]),
        row=orientation[:3],
        column=orientation[3:],
        spacing_mm=(height, width),
        hu=hu,
    )


def _stack(folder: Path) -> Stack:
    """All CT images of a folder, and a place in their middle for the organ that is drawn."""
    planes = tuple(map(_plane, _images(folder)))
    middle = np.mean([plane.points_mm[plane.hu.shape[0] // 2, plane.hu.shape[1] // 2] for plane in planes], 0)
    x, y, z = (float(v) for v in middle)
    return Stack(planes=planes, field=None, patient_name=b"", organ_mm=(x, y, z))


@pytest.mark.parametrize(
    ("name", "slices", "steps_mm", "padded"),
    [
        pytest.param(
            "dicom/dcm_qa_ct_ge_tilt", 28, {4.22: 13, 1.14: 1, 7.38: 13}, True, id="GE head, tilted"
        ),
        pytest.param("dicom/pycerr_hn_pt1", 90, {3.0: 89}, False, id="511 x 511 matrix"),
        pytest.param("dicom/CRLM-CT-1004", 41, {5.0: 40}, True, id="padding -3024"),
        pytest.param(f"{SMALL}/dcmqi_liver_seg/ct", 3, {1.0: 2}, True, id="GE liver, feet first"),
        pytest.param(f"{SMALL}/dcmqi_liver_seg", 3, {1.0: 2}, True, id="GE liver with its SEG beside it"),
        pytest.param(f"{SMALL}/totalsegmentator_ct_j2k", 20, {2.0: 19}, False, id="JPEG 2000, no UIDs"),
    ],
)
def test_real_series_are_read_pixel_by_pixel_and_contoured_on_their_own_slices(
    shared_data: Path,
    tmp_path: Path,
    organ_table: OrganTable,
    name: str,
    slices: int,
    steps_mm: dict[float, int],
    padded: bool,  # noqa: FBT001  # a parameter of the table above
) -> None:
    folder = _folder(shared_data, name, tmp_path)
    stack = _stack(folder)
    heights = sorted(float(plane.position_mm[2]) for plane in stack.planes)
    assert Counter(round(float(step), 2) for step in np.diff(heights)) == steps_mm
    assert padded == any("PixelPaddingValue" in image for image in _images(folder))
    assessment = assess_node(folder, [stack], organ_table["liver"])
    assert assessment.outcome is Outcome.EXACT, assessment.note
    assert len(stack.planes) == slices


def test_the_tilted_head_is_known_as_tilted_and_uneven(shared_data: Path, tmp_path: Path) -> None:
    series = read_series(_folder(shared_data, "dicom/dcm_qa_ct_ge_tilt", tmp_path))
    assert not series.is_regular
    assert {f.code for f in series.findings} == {"SERIES_GANTRY_TILT", "SERIES_SPACING_CHANGES"}
    # the slices are inclined by 18.5 degrees while the table moves along z
    normal = np.asarray(series.stack.axes[0])
    moved = series.slices[-1].position_mm[2] - series.slices[0].position_mm[2]
    assert np.degrees(np.arccos(normal[2])) == pytest.approx(18.5, abs=0.01)
    assert np.ptp(series.stack.heights_mm) == pytest.approx(moved * np.cos(np.radians(18.5)), abs=0.02)


def test_padding_of_minus_3024_is_air_and_no_other_value_is_touched(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = _folder(shared_data, "dicom/CRLM-CT-1004", tmp_path)
    image = next(iter(_images(folder)))
    assert image.PixelPaddingValue + float(image.RescaleIntercept) == -3024
    series = read_series(folder)
    k = [one.sop_instance_uid for one in series.slices].index(str(image.SOPInstanceUID))
    read = read_slices(series)[k]
    outside = image.pixel_array == image.PixelPaddingValue
    assert outside.any()
    assert (read[outside] == -1024).all()
    assert read.min() == -1024


@pytest.mark.parametrize(
    ("name", "code"),
    [
        pytest.param(
            "philips_localizer_and_secondary_captures", "INPUT_NO_IMAGES", id="localizer and captures"
        ),
        pytest.param("dicompyler_rt", "INPUT_TOO_FEW_SLICES", id="one slice, RTSTRUCT and RTPLAN"),
        pytest.param("rt_utils_phantom", "INPUT_TOO_FEW_SLICES", id="two slices and three RTSTRUCTs"),
        pytest.param("enhanced_multiframe/eCT_Supplemental.dcm", "INPUT_HU_RANGE", id="perfusion maps"),
        pytest.param(
            "enhanced_multiframe/legacy_converted_24x38x3/image",
            "INPUT_HU_RANGE",
            id="stored values without HU",
        ),
        pytest.param(
            "enhanced_multiframe/legacy_converted_24x38x3/multiframe",
            "INPUT_HU_RANGE",
            id="the same, legacy converted",
        ),
    ],
)
def test_what_is_no_ct_volume_is_refused(shared_data: Path, name: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        read_slices(read_series(shared_data / SMALL / name))
    assert caught.value.code == code


def test_each_localizer_capture_and_directory_is_set_aside_by_its_reason(shared_data: Path) -> None:
    inventory = survey(files_in(shared_data / SMALL / "philips_localizer_and_secondary_captures"))
    reasons = {item.path.name: item.reason.name for item in inventory.aside}
    assert reasons == {
        "S1000_DIRFILE": "OTHER_OBJECT",
        "S1000_I10": "LOCALIZER",
        "S4010_DIRFILE": "OTHER_OBJECT",
    } | {f"S4010_I{n}0": "CAPTURE" for n in range(1, 7)}
    assert not inventory.accepted
    assert not inventory.refused


def test_the_legacy_converted_file_is_read_like_its_single_slices_once_both_say_hu(
    shared_data: Path, tmp_path: Path
) -> None:
    """Only Rescale Type keeps them from being CT; with it set, frames and slices must be the same picture."""
    source = shared_data / SMALL / "enhanced_multiframe" / "legacy_converted_24x38x3"
    volumes, places = [], []
    for part in ("image", "multiframe"):
        shutil.copytree(source / part, tmp_path / part)
        for path in (tmp_path / part).iterdir():
            path.chmod(0o600)
            _say_hu(path)
        series = read_series(tmp_path / part)
        volumes.append(read_slices(series))
        places.append([one.position_mm for one in series.slices])
    single = sorted(_images(tmp_path / "image"), key=lambda image: float(image.ImagePositionPatient[2]))
    truth = np.array([_plane(image).hu for image in single])
    assert np.array_equal(volumes[0], truth)
    assert np.array_equal(volumes[1], truth)
    assert places[0] == places[1] == [tuple(map(float, image.ImagePositionPatient)) for image in single]


def _say_hu(path: Path) -> None:
    """HU as the rescale type of every picture, and 1024 lower: there is no air in this crop."""
    dataset = dcmread(path)
    targets: list[Dataset] = [dataset]
    if "PerFrameFunctionalGroupsSequence" in dataset:
        groups = [*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence]
        targets = [
            g.PixelValueTransformationSequence[0] for g in groups if "PixelValueTransformationSequence" in g
        ]
    for target in targets:
        target.RescaleType, target.RescaleIntercept = "HU", -1024
    dataset.save_as(path)


_LOSSLESS = (
    "CTImage.dcm",
    "BigEndianExplicitTransferSyntax",
    "DeflatedExplicitVRLittleEndianTransferSyntax",
    "JPEG2000LosslessOnlyTransferSyntax",
    "JPEGLSLosslessTransferSyntax",
    "JPEGProcess14SV1TransferSyntax",
    "JPEGProcess14TransferSyntax",
    "LittleEndianExplicitTransferSyntax",
    "LittleEndianImplicitTransferSyntax",
    "RLELosslessTransferSyntax",
)
_LOSSY = (
    "JPEG2000TransferSyntax",
    "JPEGLSLossyTransferSyntax",
    "JPEGProcess10_12TransferSyntax",
    "JPEGProcess1TransferSyntax",
    "JPEGProcess2_4TransferSyntax",
    "JPEGProcess6_8TransferSyntax",
)


def _version(shared_data: Path, syntax: str) -> Path:
    folder = shared_data / SMALL / "transfer_syntaxes"
    if syntax == "CTImage.dcm":
        return folder / syntax
    (path,) = folder.glob(f"CTImage.dcm_{syntax}_*")
    return path


def test_each_of_the_16_versions_of_one_slice_is_judged_here(shared_data: Path) -> None:
    stated = {_version(shared_data, syntax) for syntax in (*_LOSSLESS, *_LOSSY)}
    assert stated == set((shared_data / SMALL / "transfer_syntaxes").iterdir())
    assert len(stated) == 16


@pytest.mark.parametrize("syntax", _LOSSLESS)
def test_a_lossless_version_has_the_hu_of_the_uncompressed_slice(
    shared_data: Path, tmp_path: Path, syntax: str
) -> None:
    """One slice is no series, so three copies of it are put above each other, their pixels untouched."""
    truth = _plane(dcmread(_version(shared_data, "CTImage.dcm"))).hu
    path = _version(shared_data, syntax)
    with pytest.raises(InputError, match="INPUT_TOO_FEW_SLICES"):
        choose(survey([path]))
    for k in range(3):
        dataset = dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.{k}")
        dataset.ImagePositionPatient = [-7, -9, 2 * k]
        dataset.save_as(tmp_path / f"{k}")
    read = read_slices(read_series(tmp_path))
    assert all(np.array_equal(plane, truth) for plane in read)


@pytest.mark.parametrize("syntax", _LOSSY)
def test_a_lossy_version_is_refused_as_lossy(shared_data: Path, syntax: str) -> None:
    (refusal,) = survey([_version(shared_data, syntax)]).refused
    assert refusal.error.code == "INPUT_LOSSY"


_REFERENCE = {"Lung L": (2, 0.98), "Lung R": (3, 0.98), "Spinal cord": (1, 0.8)}
"""Label in the patient's other structure set, and the Dice that two drawings of it should at least reach."""


def test_contours_whose_references_do_not_exist_land_on_the_slices_in_whose_planes_they_lie(
    shared_data: Path, tmp_path: Path
) -> None:
    """A structure set of CMS XiO: it names another frame of reference, and 134 images that do not exist.

    As it is it is refused: nothing says that the two frames are one. Whoever knows that they are says so by
    the UID, and every contour must be where it was drawn.
    """
    place = shared_data / "dicom" / "LUNG1-001"
    packed = place / "rtstruct_xio_mismatched_refs.dcm.gz"
    dataset = dcmread(BytesIO(gzip.decompress(packed.read_bytes())))
    series = read_series(_folder(shared_data, "dicom/LUNG1-001", tmp_path))
    referenced = _referenced(dataset)
    assert len(referenced) == len(series.slices) == 134
    assert not set(referenced) & {one.sop_instance_uid for one in series.slices}
    with pytest.raises(ObjectInvalid, match="another frame of reference"):
        read_rtstruct(dataset, series)
    for roi in dataset.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = series.frame_of_reference_uid
    found = read_rtstruct(dataset, series)
    assert {name for name, contours in found.items() if contours} == {
        "Patient", "GTV-1", "PTV-1", "CTV-1", "1,SUV_primair", "Spinal cord", "Lung L", "Lung R"
    }  # fmt: skip
    planes = {float(image.ImagePositionPatient[2]): _geometry(image) for image in _images(tmp_path)}
    heights = sorted(planes)
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.StructureSetROISequence}
    labels = _labels(place / "labels.nii.gz")
    for roi in dataset.ROIContourSequence:
        name = names[int(roi.ReferencedROINumber)]
        if not found.get(name):
            continue
        truth = np.zeros((len(heights), 512, 512), dtype=np.bool_)
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
            k = int(np.argmin(np.abs(np.asarray(heights) - points[0, 2])))
            assert abs(heights[k] - points[0, 2]) < 0.01
            truth[k] ^= _filled(points[:, :2], planes[heights[k]])
        read = rasterise(found[name], series.grid)
        # a vertex that lies on a pixel's centre to the last bit may fall to either side
        assert (read ^ truth).sum() <= 1e-5 * truth.sum(), name
        if name in _REFERENCE:
            label, least = _REFERENCE[name]
            assert dice(read, labels == label) > least, name


def _referenced(dataset: Dataset) -> list[str]:
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    return [str(image.ReferencedSOPInstanceUID) for image in series.ContourImageSequence]


def _geometry(image: FileDataset) -> tuple[Floats, float]:
    assert [float(v) for v in image.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    return np.array([float(v) for v in image.ImagePositionPatient[:2]]), float(image.PixelSpacing[0])


def _filled(points: Floats, geometry: tuple[Floats, float]) -> Mask:
    start, pixel_mm = geometry
    corners = (points - start) / pixel_mm
    low = np.floor(corners.min(axis=0)).astype(int)
    high = np.ceil(corners.max(axis=0)).astype(int) + 1
    i, j = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    inside = Polygon(np.vstack([corners, corners[:1]])).contains_points(np.stack([i.ravel(), j.ravel()], 1))
    mask = np.zeros((512, 512), dtype=np.bool_)
    mask[low[1] : high[1], low[0] : high[0]] = inside.reshape(i.shape)
    return mask


def _labels(path: Path) -> NDArray[np.uint8]:
    """(K, J, I) labels, k to the head, j to the back, i to the left."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    ras = np.asarray(image.dataobj).astype(np.uint8)
    return ras[::-1, ::-1].transpose(2, 1, 0)
