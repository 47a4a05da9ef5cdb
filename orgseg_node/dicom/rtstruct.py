"""Writing the RT Structure Set: contours on the original slices, marked automatic and not reviewed.

Written in implicit VR little endian, in which Contour Data may be of any length; each contour still stays
below 60 kB, so that an archive may re-encode it in explicit VR. Points lie in the plane of the slice they
belong to, computed from that slice's own position. Sections refer to DICOM PS3.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from pydicom.valuerep import format_number_as_ds

from orgseg_node.core.contours import Contour, Structure, StructureSet
from orgseg_node.core.geometry import FloatArray
from orgseg_node.core.loops import SLACK
from orgseg_node.dicom.object_header import (
    algorithm_item,
    file_meta,
    organ_category,
    organ_code,
    set_equipment,
    set_patient_and_study,
    set_unreviewed,
)
from orgseg_node.dicom.provenance import UNREVIEWED, Provenance
from orgseg_node.dicom.rtstruct_reader import prove, read_rtstruct
from orgseg_node.dicom.series import CtSeries, CtSlice
from orgseg_node.dicom.uids import derive_uid
from orgseg_node.errors import NothingFound, ObjectInvalid

__all__ = ["prove", "read_rtstruct", "write_rtstruct"]

SERIES_NUMBER = 9001
LABEL = "AUTO UNREVIEWED"  # at most 16 characters (SH)

_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"  # the class by which an RTSTRUCT refers to a study
_CONTOUR_DATA = Tag("ContourData")
_DS = 16  # characters in a Decimal String (PS3.5 6.2)
_FLAT_MM = 0.005  # a slice whose z changes less than this from corner to corner is axial


def write_rtstruct(structure_set: StructureSet, series: CtSeries, provenance: Provenance) -> FileDataset:
    """The RT Structure Set of a CT, ready to be saved or sent.

    Parameters
    ----------
    structure_set : contours in index coordinates of the series
    series : the CT they belong to
    provenance : job, time and models; the same job gives the same bytes

    Returns
    -------
    dataset in implicit VR little endian. Contour Data is held as text; who reads the saved file gets numbers

    Raises
    ------
    NothingFound
        If there is no structure.
    ObjectInvalid
        If the structures were traced on another grid than that of the series.
    """
    if not structure_set.structures:
        raise NothingFound
    if structure_set.grid.shape != (len(series.slices), series.rows, series.columns):
        raise ObjectInvalid("The structures were traced on another grid than that of the CT.")
    sop_instance_uid = derive_uid(provenance.job_id, "RTSTRUCT", "instance")
    meta = file_meta(RTStructureSetStorage, sop_instance_uid, ImplicitVRLittleEndian)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = sop_instance_uid
    set_patient_and_study(dataset, series)
    set_equipment(dataset, provenance)
    set_unreviewed(dataset, provenance)
    _set_series_and_label(dataset, provenance)
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(series)]
    rois = list(enumerate(structure_set.structures, start=1))
    dataset.StructureSetROISequence = [_roi(number, s, series, provenance) for number, s in rois]
    dataset.ROIContourSequence = [_roi_contour(number, s, series) for number, s in rois]
    dataset.RTROIObservationsSequence = [_observation(number, s) for number, s in rois]
    return dataset


def _set_series_and_label(dataset: Dataset, provenance: Provenance) -> None:
    """RT Series (C.8.8.1), Structure Set (C.8.8.5) and Approval (C.8.8.16) modules."""
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = derive_uid(provenance.job_id, "RTSTRUCT", "series")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.OperatorsName = ""
    dataset.InstanceNumber = 1
    dataset.StructureSetLabel = LABEL
    dataset.StructureSetName = "Automatic contours, not reviewed"
    dataset.StructureSetDescription = provenance.summary[:1024]
    dataset.StructureSetDate = provenance.date
    dataset.StructureSetTime = provenance.time
    dataset.ApprovalStatus = "UNAPPROVED"  # review date, time and reviewer are for a person to add


def _frame_of_reference(series: CtSeries) -> Dataset:
    referenced_series = Dataset()
    referenced_series.SeriesInstanceUID = series.series_instance_uid
    referenced_series.ContourImageSequence = [_image(ct_slice) for ct_slice in series.slices]
    study = Dataset()
    study.ReferencedSOPClassUID = _DETACHED_STUDY
    study.ReferencedSOPInstanceUID = series.study_instance_uid
    study.RTReferencedSeriesSequence = [referenced_series]
    frame = Dataset()
    frame.FrameOfReferenceUID = series.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _image(ct_slice: CtSlice) -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = ct_slice.sop_class_uid
    image.ReferencedSOPInstanceUID = ct_slice.sop_instance_uid
    return image


def _roi(number: int, structure: Structure, series: CtSeries, provenance: Provenance) -> Dataset:
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = series.frame_of_reference_uid
    roi.ROIName = structure.organ.name
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = UNREVIEWED
    roi.ROIDerivationAlgorithmIdentificationSequence = [algorithm_item(provenance)]
    return roi


def _roi_contour(number: int, structure: Structure, series: CtSeries) -> Dataset:
    roi = Dataset()
    roi.ReferencedROINumber = number
    roi.ROIDisplayColor = list(structure.organ.color)
    roi.ContourSequence = [
        _contour(index, contour, series) for index, contour in enumerate(structure.contours, start=1)
    ]
    return roi


def _contour(number: int, contour: Contour, series: CtSeries) -> Dataset:
    item = Dataset()
    item.ContourNumber = number
    item.ContourImageSequence = [_image(series.slices[contour.k])]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(contour.points)
    # As finished text: pydicom would otherwise make an object of each number, ten times slower.
    text = contour_text(contour, series)
    item[_CONTOUR_DATA] = DataElement(_CONTOUR_DATA, "DS", text, already_converted=True)
    return item


def _observation(number: int, structure: Structure) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.ROIObservationLabel = structure.organ.name
    observation.ROIObservationDescription = UNREVIEWED
    observation.SegmentedPropertyCategoryCodeSequence = [organ_category(structure.organ)]
    observation.RTROIIdentificationCodeSequence = [organ_code(structure.organ)]
    observation.RTROIInterpretedType = structure.organ.interpreted_type
    observation.ROIInterpreter = ""
    return observation


def contour_text(contour: Contour, series: CtSeries) -> str:
    """Contour Data (3006,0050) of a contour: x, y and z of each point in LPS mm as decimal strings.

    A point (i, j) of slice k lies at ``IPP_k + i PixelSpacing[1] IOP[0:3] + j PixelSpacing[0] IOP[3:6]``
    (C.7.6.2.1.1). On an axial slice z is the text of the slice's own Image Position (Patient). There are as
    many decimals as it takes for no voxel to change sides.

    Parameters
    ----------
    contour : index coordinates
    series : the CT; the position is that of its slice ``contour.k``

    Returns
    -------
    decimal strings of at most 16 characters, joined by backslashes
    """
    ct_slice = series.slices[contour.k]
    spacing = np.asarray(series.pixel_spacing_mm)
    in_plane = contour.points * spacing[::-1]
    points = np.asarray(ct_slice.position_mm) + in_plane @ np.asarray(series.orientation).reshape(2, 3)
    is_axial = _is_axial(series)
    decimals = _decimals(float(spacing.min()), is_axial=is_axial)
    if not is_axial:
        return _joined(points, f"%.{decimals}f\\%.{decimals}f\\%.{decimals}f", decimals)
    z = ct_slice.position_ds[2]
    z = z if len(z) <= _DS else format_number_as_ds(ct_slice.position_mm[2])
    return _joined(points[:, :2], f"%.{decimals}f\\%.{decimals}f\\{z}", decimals)


def _joined(values: FloatArray, pattern: str, decimals: int) -> str:
    rounded: Sequence[float] = (np.round(values, decimals) + 0.0).ravel().tolist()  # + 0.0: no "-0.00"
    return "\\".join([pattern] * len(values)) % tuple(rounded)


def _is_axial(series: CtSeries) -> bool:
    row_z, column_z = series.orientation[2], series.orientation[5]
    height, width = series.pixel_spacing_mm
    return abs(row_z) * width * series.columns + abs(column_z) * height * series.rows < _FLAT_MM


def _decimals(pixel_mm: float, *, is_axial: bool) -> int:
    """Two decimals (0.01 mm), three for oblique planes, more where pixels are so small that it matters."""
    decimals = 2 if is_axial else 3
    while 0.5 * 10.0**-decimals * 3**0.5 >= SLACK * pixel_mm:
        decimals += 1
    return decimals
