"""Rules of an RT Structure Set beyond the required attributes (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8).

Each rule reads only the object. Patient and study attributes, which are copied from the CT, are not checked
here. The rules of contours are in `dicom.objects.contour_rules`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from orgseg_node.dicom.objects.contour_data import CONTOUR_DATA
from orgseg_node.dicom.objects.contour_rules import ImageKeys, broken_contours, image_keys
from orgseg_node.dicom.reading.files import whole_text
from orgseg_node.dicom.tps.tps_profile import EmptyRois, TpsProfile

_LENGTHS: Final = {
    "AE": 16,
    "CS": 16,
    "DS": 16,
    "IS": 12,
    "SH": 16,
    "LO": 64,
    "ST": 1024,
    "LT": 10240,
    "UI": 64,
}
_FROM_THE_CT: Final = frozenset(  # patient and study attributes, copied unchanged
    {
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "IssuerOfPatientID",
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
        "StudyID",
        "StudyDescription",
        "AccessionNumber",
        "ReferringPhysicianName",
        "PositionReferenceIndicator",
        "SpecificCharacterSet",
    }
)
_REVIEW: Final = ("ReviewDate", "ReviewTime", "ReviewerName")
_SWITCHED: Final = {  # profile field: sequence of items for each ROI, and the sequence in them that it allows
    "source_series": ("ROIContourSequence", "SourceSeriesSequence"),
    "roi_creator": ("StructureSetROISequence", "ROICreatorSequence"),
    "definition_source": ("StructureSetROISequence", "DefinitionSourceSequence"),
    "algorithm": ("StructureSetROISequence", "ROIDerivationAlgorithmIdentificationSequence"),
    "codes": ("RTROIObservationsSequence", "RTROIIdentificationCodeSequence"),
}


def broken_rules(dataset: Dataset, profile: TpsProfile) -> Iterator[str]:
    """One sentence for each rule that an RT Structure Set breaks, or limit of its profile that it exceeds."""
    if dataset.get("SOPClassUID") != RTStructureSetStorage:
        yield "the object is not an RT Structure Set"
        return
    yield from _status(dataset, profile)
    yield from _texts(dataset)
    yield from _names(dataset, profile)
    yield from _numbers(dataset)
    yield from _places(dataset)
    yield from _observations(dataset, profile)
    yield from _switched(dataset, profile)
    yield from _contours(dataset, profile)


def _status(dataset: Dataset, profile: TpsProfile) -> Iterator[str]:
    meta = getattr(dataset, "file_meta", Dataset())
    if (meta.get("TransferSyntaxUID") == ImplicitVRLittleEndian) is not profile.implicit_vr:
        yield f"the transfer syntax is not {'implicit' if profile.implicit_vr else 'explicit'} VR"
    if dataset.get("ApprovalStatus") != "UNAPPROVED":
        yield "ApprovalStatus is not UNAPPROVED"
    for keyword in _REVIEW:
        if keyword in dataset:
            yield f"{keyword} is set although no person has reviewed the object"


def _texts(dataset: Dataset, where: str = "") -> Iterator[str]:
    """Values that are longer than their VR allows (PS3.5 6.2), in all sequences."""
    for tag in dataset.keys():  # noqa: SIM118  # its elements would be decoded, Contour Data too
        if tag == CONTOUR_DATA or keyword_for_tag(tag) in _FROM_THE_CT:
            continue
        element = dataset[tag]
        if element.VR == "SQ":
            for number, item in enumerate(element.value or (), start=1):
                yield from _texts(item, f"{where}{element.keyword}[{number}].")
        elif element.VR in _LENGTHS:
            values = element.value if element.VM > 1 else [element.value]
            longest = max((len(str(value)) for value in values if value is not None), default=0)
            if longest > _LENGTHS[element.VR]:
                yield f"{where}{element.keyword} has {longest} characters, more than {_LENGTHS[element.VR]}"


def _names(dataset: Dataset, profile: TpsProfile) -> Iterator[str]:
    names = [whole_text(roi, "ROIName") for roi in _items(dataset, "StructureSetROISequence")]
    for number, name in enumerate(names, start=1):
        if not name:
            yield f"ROI {number} has no name"
        if len(name) > profile.max_name:
            yield f"the name of ROI {number} has {len(name)} characters, more than {profile.max_name}"
        if set(name) - set(profile.characters):
            yield f"the name of ROI {number} contains characters that {profile.name} may not accept"
    compared = [name.casefold() if profile.unique_without_case else name for name in names]
    for name, count in Counter(compared).items():
        if count > 1:
            yield f"{count} ROIs have the name {name}"


def _numbers(dataset: Dataset) -> Iterator[str]:
    rois = [roi.get("ROINumber") for roi in _items(dataset, "StructureSetROISequence")]
    if not rois:
        yield "there is no ROI"
    if len(set(rois)) < len(rois):
        yield "two ROIs have the same number"
    for sequence in ("ROIContourSequence", "RTROIObservationsSequence"):
        referenced = [item.get("ReferencedROINumber") for item in _items(dataset, sequence)]
        for number in referenced:
            if number not in rois:
                yield f"{sequence} refers to ROI {number}, which does not exist"
        if len(set(referenced)) < len(referenced):
            yield f"{sequence} refers twice to one ROI"
        for number in rois:
            if number not in referenced:
                yield f"{sequence} has no item for ROI {number}"
    observations = [item.get("ObservationNumber") for item in _items(dataset, "RTROIObservationsSequence")]
    if len(set(observations)) < len(observations):
        yield "two observations have the same number"


def _places(dataset: Dataset) -> Iterator[str]:
    frames = {
        item.get("FrameOfReferenceUID") for item in _items(dataset, "ReferencedFrameOfReferenceSequence")
    }
    if frames != {dataset.get("FrameOfReferenceUID")}:
        yield "the referenced frames of reference are not the one of the object"
    for roi in _items(dataset, "StructureSetROISequence"):
        if roi.get("ReferencedFrameOfReferenceUID") not in frames:
            yield f"ROI {roi.get('ROINumber')} is in a frame of reference that is not listed"
    for study in _studies(dataset):
        if study.get("ReferencedSOPInstanceUID") != dataset.get("StudyInstanceUID"):
            yield "the object refers to images of another study than its own"


def _observations(dataset: Dataset, profile: TpsProfile) -> Iterator[str]:
    observations = _items(dataset, "RTROIObservationsSequence")
    kinds = [whole_text(item, "RTROIInterpretedType") for item in observations]
    for observation, kind in zip(observations, kinds, strict=True):
        if kind and kind not in profile.types:
            number = observation.get("ReferencedROINumber")
            yield f"{profile.name} may not accept the type {kind} of ROI {number}"
    if kinds.count("EXTERNAL") > 1:
        yield "more than one ROI is the outline of the patient (EXTERNAL)"
    for roi in _items(dataset, "ROIContourSequence"):
        color = roi.get("ROIDisplayColor")
        if color is not None and (len(color) != 3 or not all(0 <= int(value) <= 255 for value in color)):
            yield f"the colour of ROI {roi.get('ReferencedROINumber')} is not three numbers up to 255"


def _switched(dataset: Dataset, profile: TpsProfile) -> Iterator[str]:
    for switch, (sequence, keyword) in _SWITCHED.items():
        if not getattr(profile, switch) and any(keyword in item for item in _items(dataset, sequence)):
            yield f"{keyword} is present, which {profile.name} excludes"


def _contours(dataset: Dataset, profile: TpsProfile) -> Iterator[str]:
    listed: ImageKeys = set()
    for study in _studies(dataset):
        for series in _items(study, "RTReferencedSeriesSequence"):
            for image in _items(series, "ContourImageSequence"):
                listed |= image_keys(image)
    for roi in _items(dataset, "ROIContourSequence"):
        number = roi.get("ReferencedROINumber")
        contours = _items(roi, "ContourSequence")
        if not contours and profile.empty_rois is EmptyRois.OMIT:
            yield f"ROI {number} has no contours"
        for problem in broken_contours(contours, listed, profile):
            yield f"ROI {number}: {problem}"


def _studies(dataset: Dataset) -> Iterator[Dataset]:
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        yield from _items(frame, "RTReferencedStudySequence")


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or ())
