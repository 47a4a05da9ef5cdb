"""Writing the DICOM Segmentation: the label map itself, one binary segment for each organ.

highdicom builds the object (PS3.3 A.51, C.8.20); patient, study, times and UIDs are then set as in the
RT Structure Set, so that both objects say the same and the same job gives the same bytes. Only slices that
hold an organ are stored. `prove_seg` reads the frames without highdicom.
"""

from __future__ import annotations

from io import BytesIO

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage
from pydicom.valuerep import DSfloat

from orgseg_node.core.organs import Organ
from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.object_header import (
    TYPE_2,
    algorithm_item,
    code,
    file_meta,
    organ_category,
    organ_code,
    set_equipment,
    set_patient_and_study,
    set_unreviewed,
)
from orgseg_node.dicom.provenance import MANUFACTURER, MODEL_NAME, UNREVIEWED, Provenance
from orgseg_node.dicom.rtstruct_reader import check_same_grid
from orgseg_node.dicom.series import CtSeries
from orgseg_node.dicom.uids import derive_uid
from orgseg_node.errors import NothingFound, ObjectInvalid, ProofFailed

SERIES_NUMBER = 9002
LABEL = "AUTO_UNREVIEWED"  # Content Label is a code string: no blank

_SAME_PLACE_MM = 0.01


def write_seg(label_map: LabelMap, series: CtSeries, provenance: Provenance) -> Dataset:
    """The Segmentation of a CT, ready to be saved or sent.

    Parameters
    ----------
    label_map : organs on the voxels of the series; organs without a voxel give no segment
    series : the CT they belong to
    provenance : job, time and models; the same job gives the same bytes

    Returns
    -------
    dataset in explicit VR little endian, Segmentation Type BINARY

    Raises
    ------
    NothingFound
        If no voxel belongs to an organ.
    ObjectInvalid
        If the label map does not lie on the slices of the series, or a label has no organ.
    """
    labels = list(_voxel_counts(label_map))
    if not labels:
        raise NothingFound
    if label_map.grid.shape != (len(series.slices), series.rows, series.columns):
        raise ObjectInvalid("The label map lies on another grid than that of the CT.")
    sop_instance_uid = derive_uid(provenance.job_id, "SEG", "instance")
    dataset = hd.seg.Segmentation(
        source_images=_source_images(series),
        pixel_array=_segment_numbers(label_map, labels),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _segment(number, label_map.organs[label], provenance)
            for number, label in enumerate(labels, start=1)
        ],
        series_instance_uid=derive_uid(provenance.job_id, "SEG", "series"),
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
    dataset.file_meta = file_meta(SegmentationStorage, sop_instance_uid, ExplicitVRLittleEndian)
    set_patient_and_study(dataset, series)
    set_equipment(dataset, provenance)
    set_unreviewed(dataset, provenance)
    _set_what_highdicom_draws(dataset, provenance)
    for segment, label in zip(dataset.SegmentSequence, labels, strict=True):
        _complete(segment, label_map.organs[label], provenance)
    return dataset


def prove_seg(dataset: Dataset, label_map: LabelMap, series: CtSeries) -> None:
    """Show that a Segmentation, saved and read again, is the label map to the voxel.

    Parameters
    ----------
    dataset : what `write_seg` gave
    label_map : what it must say
    series : the CT of both

    Raises
    ------
    ProofFailed
        Naming the organs that differ, are missing or are too many, or lie on the wrong slice.
    """
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    check_same_grid(label_map, series)
    reread = dcmread(buffer)
    counts = _voxel_counts(label_map)
    label_of_name = {label_map.organs[label].name: label for label in counts}
    name_of_number = {int(s.SegmentNumber): str(s.SegmentLabel) for s in reread.SegmentSequence}
    wrong = label_of_name.keys() ^ set(name_of_number.values())
    stored = dict.fromkeys(label_of_name, 0)
    k_of_uid = {ct_slice.sop_instance_uid: k for k, ct_slice in enumerate(series.slices)}
    for index in range(len(reread.PerFrameFunctionalGroupsSequence)):
        identification = _group(reread, index, "SegmentIdentificationSequence")
        name = name_of_number.get(identification.ReferencedSegmentNumber)
        if name is None or name in wrong:
            continue
        source = _group(reread, index, "DerivationImageSequence").SourceImageSequence[0]
        k = k_of_uid.get(source.ReferencedSOPInstanceUID)
        position = _group(reread, index, "PlanePositionSequence").ImagePositionPatient
        mask = _frame(reread, index)
        stored[name] += int(mask.sum())
        if (
            k is None
            or not np.allclose(position, series.slices[k].position_mm, rtol=0, atol=_SAME_PLACE_MM)
            or not np.array_equal(mask, label_map.labels[k] == label_of_name[name])
        ):
            wrong.add(name)
    wrong |= {name for name, label in label_of_name.items() if stored[name] != counts[label]}
    if wrong:
        raise ProofFailed(f"SEG differs in: {', '.join(sorted(wrong))}.")


def _voxel_counts(label_map: LabelMap) -> dict[int, int]:
    """Voxels of each label that occurs; slice by slice, because counting all at once copies them as int64."""
    counts = sum(np.bincount(plane.ravel(), minlength=256) for plane in label_map.labels)
    occurring = [label for label in np.flatnonzero(counts).tolist() if label != 0]
    unknown = [label for label in occurring if label not in label_map.organs]
    if unknown:
        raise ObjectInvalid(f"Labels {unknown} occur but belong to no organ.")
    return {label: int(np.take(counts, label)) for label in occurring}


def _segment_numbers(label_map: LabelMap, labels: list[int]) -> NDArray[np.uint8]:
    """(K, J, I) label map renumbered 1, 2, 3 ... as segments must be (PS3.3 C.8.20.2)."""
    numbers = np.zeros(256, dtype=np.uint8)
    numbers[labels] = np.arange(1, len(labels) + 1)
    renumbered: NDArray[np.uint8] = numbers[label_map.labels]
    return renumbered


def _segment(number: int, organ: Organ, provenance: Provenance) -> hd.seg.SegmentDescription:
    category, kind = organ_category(organ), organ_code(organ)
    model = provenance.models[0]
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model.name[:64],
        family=hd.sr.CodedConcept.from_dataset(code("123109", "DCM", "Artificial Intelligence")),
        version=model.version[:64],
    )
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=organ.name,
        segmented_property_category=hd.sr.CodedConcept.from_dataset(category),
        segmented_property_type=hd.sr.CodedConcept.from_dataset(kind),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=derive_uid(provenance.job_id, "SEG", "tracking", organ.key),
        tracking_id=organ.name,
        display_color=hd.color.CIELabColor.from_rgb(*organ.display),
    )


def _complete(segment: Dataset, organ: Organ, provenance: Provenance) -> None:
    """What highdicom's segment description cannot hold: the side of the organ, and all about the models."""
    segment.SegmentedPropertyTypeCodeSequence = [organ_code(organ)]
    segment.SegmentationAlgorithmIdentificationSequence = [algorithm_item(provenance)]


def _source_images(series: CtSeries) -> list[Dataset]:
    """What highdicom must know of the CT: made from the sorted series, with one orientation for all slices.

    Real headers repeat the orientation with different roundings, which highdicom refuses. It never sees the
    patient: it judges names, birth dates and sexes as strictly as the standard, and quotes them in warnings.
    """
    shared = Dataset()
    for keyword in TYPE_2:
        setattr(shared, keyword, "")
    shared.StudyInstanceUID = series.study_instance_uid
    shared.FrameOfReferenceUID = series.frame_of_reference_uid
    shared.SeriesInstanceUID = series.series_instance_uid
    shared.Modality = "CT"
    shared.Rows, shared.Columns = series.rows, series.columns
    shared.ImageOrientationPatient = [DSfloat(v, auto_format=True) for v in series.orientation]
    shared.PixelSpacing = [DSfloat(v, auto_format=True) for v in series.pixel_spacing_mm]
    shared.SliceThickness = series.header.get("SliceThickness") or DSfloat(
        series.grid.spacing_mm[0], auto_format=True
    )
    images = []
    for ct_slice in series.slices:
        image = Dataset()
        image.update(shared)
        image.SOPClassUID = ct_slice.sop_class_uid
        image.SOPInstanceUID = ct_slice.sop_instance_uid
        image.ImagePositionPatient = [DSfloat(v, auto_format=True) for v in ct_slice.position_mm]
        images.append(image)
    return images


def _set_what_highdicom_draws(dataset: Dataset, provenance: Provenance) -> None:
    """Replace the random UID and the clock's times by those of the job."""
    dimensions = derive_uid(provenance.job_id, "SEG", "dimensions")
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = dimensions
    dataset.ContentDate, dataset.ContentTime = provenance.date, provenance.time


def _frame(dataset: Dataset, index: int) -> NDArray[np.bool_]:
    """One frame of bit-packed Pixel Data (PS3.5 8.1.1: lowest bit first, frames without padding)."""
    size = dataset.Rows * dataset.Columns
    first = index * size
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)[first // 8 : (first + size + 7) // 8]
    bits = np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + size]
    return bits.reshape(dataset.Rows, dataset.Columns).view(np.bool_)


def _group(dataset: Dataset, index: int, keyword: str) -> Dataset:
    """A functional group of a frame: its own, or that of all frames (PS3.3 C.7.6.16)."""
    own = dataset.PerFrameFunctionalGroupsSequence[index]
    groups = own if keyword in own else dataset.SharedFunctionalGroupsSequence[0]
    item: Dataset = groups[keyword][0]
    return item
