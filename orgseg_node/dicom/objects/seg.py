"""Writes the DICOM Segmentation: the label map, with one segment for each organ.

highdicom builds the object (PS3.3 A.51, C.8.20); patient, study, times and UIDs are then set as in the RT
Structure Set, so that both objects agree and the same job gives the same bytes. Only slices with an organ are
stored. Each frame has the position of its own CT slice and refers to it, both for single-frame and
multi-frame CT. `prove_seg` reads the frames without highdicom.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from enum import StrEnum

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    RTStructureSetStorage,
    SegmentationStorage,
)
from pydicom.valuerep import DSfloat

from orgseg_node.core.organs import Organ
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.objects.object_header import (
    algorithm_item,
    code_item,
    file_meta,
    organ_category,
    organ_code,
    reference_item,
    set_equipment,
    set_patient_and_study,
    set_unreviewed,
    to_ascii,
)
from orgseg_node.dicom.objects.provenance import MANUFACTURER, MODEL_NAME, UNREVIEWED, Provenance
from orgseg_node.dicom.objects.seg_proof import SAME_POSITION_MM, occurring_labels, prove_seg
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_node.dicom.reading.files import slice_thickness
from orgseg_node.dicom.reading.patient_study import TYPE_2
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import NothingFound, ObjectInvalid

__all__ = ["LABEL_MAP_STORAGE", "SegKind", "is_alone", "prove_seg", "seg_alone", "tracking_uid", "write_seg"]

SERIES_NUMBER = 9002
LABEL = "AUTO_UNREVIEWED"  # Content Label is a code string (CS): no blanks

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""SOP class of Segmentation Type LABELMAP (Supplement 243); older archives do not support it."""

_PLACEHOLDER_UID = "2.25.{}"  # of slice k for highdicom: frames of one file share the UID of the file
_ALTERNATE = ("121326", "DCM", "Alternate SOP Class instance")  # CID 7205: the same content in another object


class SegKind(StrEnum):
    """How a Segmentation stores its voxels.

    ``BINARY`` is one bit for each voxel and organ, which every viewer can read. ``LABELMAP`` is the label map
    with lossless compression: a thirtieth of the size, but many archives do not support its new SOP class.
    """

    BINARY = "BINARY"
    LABELMAP = "LABELMAP"


_STORED_AS = {
    SegKind.BINARY: (str(SegmentationStorage), str(ExplicitVRLittleEndian)),
    SegKind.LABELMAP: (LABEL_MAP_STORAGE, str(RLELossless)),
}


def write_seg(
    label_map: LabelMap,
    series: CtSeries,
    provenance: Provenance,
    *,
    kind: SegKind = SegKind.BINARY,
    structure_set_uid: str | None = None,
) -> Dataset:
    """The Segmentation of a CT, ready to be saved or sent.

    Parameters
    ----------
    label_map : organs on the slices of the series; organs without a voxel give no segment
    series : the CT of the label map
    provenance : job, time and models; the same job gives the same bytes
    kind : how the voxels are stored
    structure_set_uid : SOP Instance UID of the RT Structure Set of the same label map, to refer to it

    Returns
    -------
    dataset in explicit VR little endian (BINARY) or RLE (LABELMAP); its segments are numbered 1, 2, 3 ...
    in the order of the labels that occur

    Raises
    ------
    NothingFound
        If no voxel belongs to an organ.
    ObjectInvalid
        If the label map is not on the slices of the series, or a label has no organ.
    """
    labels = list(occurring_labels(label_map))
    if not labels:
        raise NothingFound
    if label_map.grid.shape != (len(series.slices), series.rows, series.columns):
        raise ObjectInvalid("The label map is on another grid than that of the CT.")
    dataset = _built(label_map, labels, series, provenance, kind)
    set_patient_and_study(dataset, series)
    set_equipment(dataset, provenance)
    set_unreviewed(dataset, provenance)
    _set_random_attributes(dataset, provenance)
    _set_frame_geometry(dataset, series)
    # a LABELMAP also has its background, as segment 0
    segments = [segment for segment in dataset.SegmentSequence if segment.SegmentNumber != 0]
    for segment, label in zip(segments, labels, strict=True):
        _complete(segment, label_map.organs[label], provenance)
    if structure_set_uid is not None:
        other = reference_item(RTStructureSetStorage, structure_set_uid)
        other.PurposeOfReferenceCodeSequence = [code_item(*_ALTERNATE)]
        dataset.ReferencedInstanceSequence = [other]
    return dataset


def tracking_uid(organ: Organ, provenance: Provenance) -> str:
    """The UID by which the organ of a job is followed through its objects."""
    return derive_uid(provenance.uid_root, "SEG", "tracking", organ.key, organ.name)


def seg_alone(seg: Dataset, provenance: Provenance) -> Dataset:
    """The same Segmentation without its reference to an RT Structure Set, as another SOP instance.

    Parameters
    ----------
    seg : as written by `write_seg`; it is not changed
    provenance : as given to `write_seg`
    """
    dataset = deepcopy(seg)  # a shallow copy would share its elements
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(_uid_alone(seg, provenance))
    if "ReferencedInstanceSequence" in dataset:
        del dataset.ReferencedInstanceSequence
    return dataset


def is_alone(seg: Dataset, provenance: Provenance) -> bool:
    """Whether a Segmentation of a job is the one that `seg_alone` makes."""
    return str(seg.SOPInstanceUID) == _uid_alone(seg, provenance)


def _uid_alone(seg: Dataset, provenance: Provenance) -> str:
    kind = SegKind.LABELMAP if seg.SOPClassUID == LABEL_MAP_STORAGE else SegKind.BINARY
    return derive_uid(provenance.uid_root, "SEG", "instance", *_uid_suffix(kind), "alone")


def _built(
    label_map: LabelMap, labels: Sequence[int], series: CtSeries, provenance: Provenance, kind: SegKind
) -> Dataset:
    """The object as highdicom builds it."""
    sop_class_uid, syntax = _STORED_AS[kind]
    sop_instance_uid = derive_uid(provenance.uid_root, "SEG", "instance", *_uid_suffix(kind))
    dataset: Dataset = hd.seg.Segmentation(
        source_images=_source_images(series),
        pixel_array=_segment_numbers(label_map, labels),
        segmentation_type=hd.seg.SegmentationTypeValues(kind.value),
        segment_descriptions=[
            _segment(number, label_map.organs[label], provenance)
            for number, label in enumerate(labels, start=1)
        ],
        series_instance_uid=derive_uid(provenance.uid_root, "SEG", "series", *_uid_suffix(kind)),
        series_number=SERIES_NUMBER,
        sop_instance_uid=sop_instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=provenance.software_versions[0],
        device_serial_number=provenance.device_serial,
        content_description=UNREVIEWED,
        content_label=LABEL,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
    )
    dataset.file_meta = file_meta(sop_class_uid, sop_instance_uid, ExplicitVRLittleEndian)
    if syntax != ExplicitVRLittleEndian:
        # not by highdicom, which uses the encoder of GDCM: on frames of odd size it ends the process
        dataset.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    return dataset


def _uid_suffix(kind: SegKind) -> tuple[str, ...]:
    """An additional part from which the UIDs of LABELMAP derive: a job may write both kinds."""
    return () if kind is SegKind.BINARY else (kind.value,)


def _segment_numbers(label_map: LabelMap, labels: Sequence[int]) -> NDArray[np.uint8]:
    """(K, J, I) label map renumbered 1, 2, 3 ... as segments must be (PS3.3 C.8.20.2)."""
    numbers = np.zeros(256, dtype=np.uint8)
    numbers[list(labels)] = np.arange(1, len(labels) + 1)
    renumbered: NDArray[np.uint8] = numbers[label_map.labels]
    return renumbered


def _segment(number: int, organ: Organ, provenance: Provenance) -> hd.seg.SegmentDescription:
    category, kind = organ_category(organ), organ_code(organ)
    model = provenance.models[0]
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model.name[:64],
        family=hd.sr.CodedConcept.from_dataset(code_item("123109", "DCM", "Artificial Intelligence")),
        version=model.version[:64],
    )
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=to_ascii(organ.name),
        segmented_property_category=hd.sr.CodedConcept.from_dataset(category),
        segmented_property_type=hd.sr.CodedConcept.from_dataset(kind),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        # from key and name: a template may make two structures from one organ
        tracking_uid=tracking_uid(organ, provenance),
        tracking_id=to_ascii(organ.name),
        display_color=hd.color.CIELabColor.from_rgb(*organ.display),
    )


def _complete(segment: Dataset, organ: Organ, provenance: Provenance) -> None:
    """Attributes that highdicom's segment description cannot hold: the organ's side, and all models."""
    segment.SegmentedPropertyTypeCodeSequence = [organ_code(organ)]
    segment.SegmentationAlgorithmIdentificationSequence = [algorithm_item(provenance)]


def _source_images(series: CtSeries) -> list[Dataset]:
    """The source images for highdicom: a placeholder for each slice, all with the same orientation.

    Real headers repeat the orientation with different rounding, which highdicom refuses; a multi-frame file
    has one UID for all its slices. The true values of each slice are set afterwards. The patient's attributes
    are not given to highdicom: it checks names, birth dates and sexes strictly, and quotes them in warnings.
    """
    shared = Dataset()
    for keyword in TYPE_2:
        setattr(shared, keyword, "")
    shared.StudyInstanceUID = series.study_instance_uid
    shared.FrameOfReferenceUID = series.frame_of_reference_uid
    shared.SeriesInstanceUID = series.series_instance_uid
    shared.SOPClassUID = CTImageStorage
    shared.Modality = "CT"
    shared.Rows, shared.Columns = series.rows, series.columns
    shared.ImageOrientationPatient = _ds(series.orientation)
    shared.PixelSpacing = _ds(series.pixel_spacing_mm)
    shared.SliceThickness = _ds([slice_thickness(series.header) or series.grid.spacing_mm[0]])[0]
    images = []
    for k, ct_slice in enumerate(series.slices):
        image = Dataset()
        image.update(shared)
        image.SOPInstanceUID = _PLACEHOLDER_UID.format(k)
        image.ImagePositionPatient = _ds(ct_slice.position_mm)
        images.append(image)
    return images


def _set_frame_geometry(dataset: Dataset, series: CtSeries) -> None:
    """Set the reference of each frame to its CT slice, and that slice's orientation if these differ."""
    k_of_placeholder = {_PLACEHOLDER_UID.format(k): k for k in range(len(series.slices))}
    frames = dataset.PerFrameFunctionalGroupsSequence
    # before any is changed: in highdicom the frames of a slice share their items
    of_frame = [k_of_placeholder[_source(frame).ReferencedSOPInstanceUID] for frame in frames]
    is_common = _orientation_is_common(series)
    for frame, k in zip(frames, of_frame, strict=True):
        ct_slice, source = series.slices[k], _source(frame)
        source.update(reference_item(ct_slice.sop_class_uid, ct_slice.sop_instance_uid))
        if ct_slice.frame is not None:
            source.ReferencedFrameNumber = ct_slice.frame
        if not is_common:
            orientation = Dataset()
            orientation.ImageOrientationPatient = _ds(ct_slice.orientation)
            frame.PlaneOrientationSequence = [orientation]
    if not is_common:
        _remove_common_geometry(dataset)
    files = dict.fromkeys((one.sop_class_uid, one.sop_instance_uid) for one in series.slices)
    (referenced_series,) = dataset.ReferencedSeriesSequence
    referenced_series.ReferencedInstanceSequence = [reference_item(*file) for file in files]
    if "SourceImageSequence" in dataset:
        dataset.SourceImageSequence = [reference_item(*file) for file in files]


def _remove_common_geometry(dataset: Dataset) -> None:
    """Remove shared attributes that highdicom set because it assumes parallel planes."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    del shared.PlaneOrientationSequence
    (measures,) = shared.PixelMeasuresSequence
    for item, keyword in ((dataset, "DimensionOrganizationType"), (measures, "SpacingBetweenSlices")):
        if keyword in item:
            del item[keyword]


def _source(frame: Dataset) -> Dataset:
    source: Dataset = frame.DerivationImageSequence[0].SourceImageSequence[0]
    return source


def _orientation_is_common(series: CtSeries) -> bool:
    """Whether every pixel has the same position with the series' orientation as with its slice's own."""
    own = np.array([one.orientation for one in series.slices]).reshape(-1, 2, 3)
    row_mm, column_mm = series.pixel_spacing_mm
    size_mm = np.array([series.columns * column_mm, series.rows * row_mm])
    off = np.linalg.norm(own - np.reshape(series.orientation, (2, 3)), axis=2) * size_mm
    return bool(off.sum(axis=1).max() <= SAME_POSITION_MM)


def _ds(values: Sequence[float]) -> list[DSfloat]:
    """Decimal strings of at most 16 characters."""
    return [DSfloat(value, auto_format=True) for value in values]


def _set_random_attributes(dataset: Dataset, provenance: Provenance) -> None:
    """Replace the random UID and the current time of highdicom by those of the job."""
    dimensions = derive_uid(provenance.uid_root, "SEG", "dimensions")
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = dimensions
    dataset.ContentDate, dataset.ContentTime = provenance.date, provenance.time
