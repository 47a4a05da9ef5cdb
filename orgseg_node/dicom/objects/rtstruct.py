"""Writes the RT Structure Set: contours on the original slices, marked automatic and not reviewed.

The profile of a planning system (`dicom.tps`) sets the details. The default is implicit VR little endian, in
which Contour Data may have any length; each contour still stays below 60 kB, so that an archive can re-encode
it in explicit VR. Points are in the plane of their slice, computed from that slice's own position and
orientation. Section numbers refer to DICOM PS3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage

from orgseg_node.core.contours import Contour, Holes, Structure, StructureSet
from orgseg_node.core.organs import Organ
from orgseg_node.dicom.objects.contour_data import CONTOUR_DATA, contour_text
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
from orgseg_node.dicom.objects.rtstruct_reader import prove, read_rtstruct
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_node.dicom.reading.series import CtSeries, CtSlice
from orgseg_node.dicom.tps.tps import GENERIC, EmptyRois, TpsProfile, names_for
from orgseg_node.errors import NothingFound, ObjectInvalid

__all__ = ["contour_text", "prove", "read_rtstruct", "write_rtstruct"]

SERIES_NUMBER = 9001
LABEL = "AUTO UNREVIEWED"  # at most 16 characters (SH)

_DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"  # the SOP class with which an RTSTRUCT refers to a study
_ALTERNATE = ("121326", "DCM", "Alternate SOP Class instance")  # CID 7205: the same content in another object
_SH, _ST = 16, 1024  # characters in a Short String, a Short Text (PS3.5 6.2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Writing:
    """The input for all parts of the object.

    Attributes
    ----------
    series, provenance, profile : as given to `write_rtstruct`
    names : ROI names for the planning system, by `Organ.key`
    segments : reference to the segment of an organ, by its label in the segmentation
    holes : how holes were traced
    warnings : what a person should know of an organ, by `Organ.key`
    """

    series: CtSeries
    provenance: Provenance
    profile: TpsProfile
    names: dict[str, str]
    segments: dict[str, Dataset]
    holes: Holes
    warnings: Mapping[str, str]


def write_rtstruct(
    structure_set: StructureSet,
    series: CtSeries,
    provenance: Provenance,
    profile: TpsProfile = GENERIC,
    segmentation: Dataset | None = None,
) -> FileDataset:
    """The RT Structure Set of a CT, ready to be saved or sent.

    Parameters
    ----------
    structure_set : contours in index coordinates of the series, traced with ``profile.tracing``
    series : the CT of the contours
    provenance : job, time and models; the same job gives the same bytes
    profile : the planning system; each profile other than the generic one makes another SOP instance, and so
        does the generic one without references to segments
    segmentation : a DICOM Segmentation of the same organs; each ROI then refers to its segment

    Returns
    -------
    dataset in the transfer syntax of the profile, with Contour Data (LPS mm) as text; the saved file is read
    as numbers

    Raises
    ------
    NothingFound
        If there is no structure.
    ObjectInvalid
        If the structures were traced on another grid than that of the series, or with another kind of holes
        than that of the profile, or if two of them have the same key.
    """
    if not structure_set.structures:
        raise NothingFound
    if structure_set.grid.shape != (len(series.slices), series.rows, series.columns):
        raise ObjectInvalid("The structures were traced on another grid than that of the CT.")
    if structure_set.holes is not profile.holes:
        raise ObjectInvalid("The structures were traced with another kind of holes than that of the profile.")
    structures = _listed(structure_set, profile)
    writing = _Writing(
        series=series,
        provenance=provenance,
        profile=profile,
        names=names_for(all_organs(structure_set), profile),
        segments=_segments(segmentation) if segmentation is not None else {},
        holes=structure_set.holes,
        warnings=structure_set.warnings,
    )
    dataset = _empty_object(provenance, profile)
    set_patient_and_study(dataset, series)
    set_equipment(dataset, provenance)
    set_unreviewed(dataset, provenance)
    _set_series_and_label(dataset, provenance, _warnings(structure_set, writing))
    if segmentation is not None:
        dataset.ReferencedInstanceSequence = [_alternate(segmentation)]
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(series)]
    rois = list(enumerate(structures, start=1))
    dataset.StructureSetROISequence = [_roi(number, s, writing) for number, s in rois]
    dataset.ROIContourSequence = [_roi_contour(number, s, writing) for number, s in rois]
    dataset.RTROIObservationsSequence = [_observation(number, s, writing) for number, s in rois]
    return dataset


def all_organs(structure_set: StructureSet) -> list[Organ]:
    """Every organ and region that was searched for, in an order that does not depend on the result."""
    organs = [*(structure.organ for structure in structure_set.structures), *structure_set.missing]
    return sorted(organs, key=lambda organ: organ.key)


def _listed(structure_set: StructureSet, profile: TpsProfile) -> Sequence[Structure]:
    if profile.empty_rois is EmptyRois.OMIT:
        return structure_set.structures
    empty = (Structure(organ=organ, label=None, contours=()) for organ in structure_set.missing)
    return [*structure_set.structures, *empty]


def _empty_object(provenance: Provenance, profile: TpsProfile) -> FileDataset:
    own = () if profile.name == GENERIC.name else (profile.name,)
    if not own and not profile.definition_source:
        own = ("alone",)
    sop_instance_uid = derive_uid(provenance.uid_root, "RTSTRUCT", "instance", *own)
    syntax = ImplicitVRLittleEndian if profile.implicit_vr else ExplicitVRLittleEndian
    meta = file_meta(RTStructureSetStorage, sop_instance_uid, syntax)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = sop_instance_uid
    return dataset


def _warnings(structure_set: StructureSet, writing: _Writing) -> str:
    """The warnings of all organs in one sentence each, or nothing."""
    names = {organ.key: writing.names.get(organ.key, organ.name) for organ in all_organs(structure_set)}
    return "".join(f"{names[key]}: {text}. " for key, text in writing.warnings.items() if key in names)


def _set_series_and_label(dataset: Dataset, provenance: Provenance, warnings: str) -> None:
    """RT Series (C.8.8.1), Structure Set (C.8.8.5) and Approval (C.8.8.16) modules."""
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = derive_uid(provenance.uid_root, "RTSTRUCT", "series")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.OperatorsName = ""
    dataset.InstanceNumber = 1
    dataset.StructureSetLabel = LABEL
    dataset.StructureSetName = "Automatic contours, not reviewed"
    dataset.StructureSetDescription = to_ascii(warnings + provenance.summary)[:_ST]
    dataset.StructureSetDate = provenance.date
    dataset.StructureSetTime = provenance.time
    dataset.ApprovalStatus = "UNAPPROVED"  # a person who reviews it adds review date, time and reviewer


def _alternate(segmentation: Dataset) -> Dataset:
    other = reference_item(segmentation.SOPClassUID, segmentation.SOPInstanceUID)
    other.PurposeOfReferenceCodeSequence = [code_item(*_ALTERNATE)]
    return other


def _segments(segmentation: Dataset) -> dict[str, Dataset]:
    """A reference to each segment, by its label."""
    found = {}
    for segment in segmentation.SegmentSequence:
        item = reference_item(segmentation.SOPClassUID, segmentation.SOPInstanceUID)
        item.ReferencedSegmentNumber = int(segment.SegmentNumber)
        found[str(segment.SegmentLabel)] = item
    return found


def _frame_of_reference(series: CtSeries) -> Dataset:
    referenced_series = Dataset()
    referenced_series.SeriesInstanceUID = series.series_instance_uid
    referenced_series.ContourImageSequence = _images(series.slices)
    study = Dataset()
    study.ReferencedSOPClassUID = _DETACHED_STUDY
    study.ReferencedSOPInstanceUID = series.study_instance_uid
    study.RTReferencedSeriesSequence = [referenced_series]
    frame = Dataset()
    frame.FrameOfReferenceUID = series.frame_of_reference_uid
    frame.RTReferencedStudySequence = [study]
    return frame


def _images(slices: Iterable[CtSlice]) -> list[Dataset]:
    """References to slices: one for each file, with frame numbers if a file has several."""
    items: dict[str, Dataset] = {}
    frames: dict[str, list[int]] = {}
    for ct_slice in slices:
        uid = ct_slice.sop_instance_uid
        items.setdefault(uid, reference_item(ct_slice.sop_class_uid, uid))
        if ct_slice.frame is not None:
            frames.setdefault(uid, []).append(ct_slice.frame)
    for uid, numbers in frames.items():
        items[uid].ReferencedFrameNumber = numbers if len(numbers) > 1 else numbers[0]
    return list(items.values())


def _roi(number: int, structure: Structure, writing: _Writing) -> Dataset:
    organ, profile = structure.organ, writing.profile
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = writing.series.frame_of_reference_uid
    roi.ROIName = writing.names[organ.key]
    if structure.derivation:
        roi.ROIDescription = to_ascii(structure.derivation)[:_ST]
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = UNREVIEWED
    if profile.definition_source and structure.label is not None and to_ascii(organ.name) in writing.segments:
        roi.DefinitionSourceSequence = [writing.segments[to_ascii(organ.name)]]
    if profile.algorithm:
        roi.ROIDerivationAlgorithmIdentificationSequence = [algorithm_item(writing.provenance)]
    if profile.roi_creator:
        roi.ROICreatorSequence = [_creator(writing.provenance)]
    return roi


def _creator(provenance: Provenance) -> Dataset:
    """The node as an Identified Person or Device (Table 10-18)."""
    item = Dataset()
    item.ObserverType = "DEV"
    item.DeviceUID = derive_uid(MODEL_NAME, "device", provenance.device_serial)
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = MODEL_NAME
    item.InstitutionName = provenance.institution
    item.InstitutionCodeSequence = []
    return item


def _roi_contour(number: int, structure: Structure, writing: _Writing) -> Dataset:
    roi = Dataset()
    roi.ReferencedROINumber = number
    roi.ROIDisplayColor = list(structure.organ.color)
    if writing.profile.source_series:
        source = Dataset()
        source.SeriesInstanceUID = writing.series.series_instance_uid
        roi.SourceSeriesSequence = [source]
    if structure.contours:
        # C.8.8.6.3: if one contour of an ROI is of type XOR, all of them must be
        is_xor = writing.holes is Holes.XOR and structure.has_holes
        kind = "CLOSEDPLANAR_XOR" if is_xor else "CLOSED_PLANAR"
        roi.ContourSequence = [
            _contour(index, contour, kind, writing)
            for index, contour in enumerate(structure.contours, start=1)
        ]
    return roi


def _contour(number: int, contour: Contour, kind: str, writing: _Writing) -> Dataset:
    item = Dataset()
    item.ContourNumber = number
    item.ContourImageSequence = _images([writing.series.slices[contour.k]])
    item.ContourGeometricType = kind
    item.NumberOfContourPoints = len(contour.points)
    # Set as text: otherwise pydicom makes an object of each number, which is ten times slower.
    text = contour_text(contour, writing.series, writing.profile.decimals)
    item[CONTOUR_DATA] = DataElement(CONTOUR_DATA, "DS", text, already_converted=True)
    return item


def _observation(number: int, structure: Structure, writing: _Writing) -> Dataset:
    organ = structure.organ
    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.ROIObservationLabel = writing.names[organ.key][:_SH]
    warning = writing.warnings.get(organ.key)
    observation.ROIObservationDescription = f"{UNREVIEWED}. {warning}" if warning else UNREVIEWED
    if writing.profile.codes and organ.code:
        observation.SegmentedPropertyCategoryCodeSequence = [organ_category(organ)]
        observation.RTROIIdentificationCodeSequence = [organ_code(organ)]
    observation.RTROIInterpretedType = writing.profile.interpreted_type(organ.interpreted_type)
    observation.ROIInterpreter = ""
    return observation
