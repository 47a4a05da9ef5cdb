"""Attributes that all objects of the node share: patient, study, equipment, file meta information."""

from __future__ import annotations

import unicodedata

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID

from orgseg_node.core.organs import Organ, Side
from orgseg_node.dicom.objects.provenance import MANUFACTURER, MODEL_NAME, Provenance
from orgseg_node.dicom.objects.uids import IMPLEMENTATION_UID
from orgseg_node.dicom.reading.patient_study import POSITION_REFERENCE, TYPE_2, TYPE_3, patient_study
from orgseg_node.dicom.reading.series import CtSeries

_SIDES = {Side.LEFT: ("7771000", "Left"), Side.RIGHT: ("24028007", "Right")}


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence (PS3.3 Table 8.8-1).

    Parameters
    ----------
    value, scheme, meaning : Code Value, Coding Scheme Designator and Code Meaning, such as ``123109``,
        ``DCM`` and ``Artificial Intelligence``
    """
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def organ_code(organ: Organ) -> Dataset:
    """The code of an organ: SNOMED CT with the side as modifier, and the FMA ID as an equivalent code."""
    item = code_item(organ.code, "SCT", organ.meaning)
    if organ.fma:
        item.EquivalentCodeSequence = [code_item(organ.fma, "FMA", organ.meaning)]
    if organ.side is not None:
        value, meaning = _SIDES[organ.side]
        item.SegmentedPropertyTypeModifierCodeSequence = [code_item(value, "SCT", meaning)]
    return item


def organ_category(organ: Organ) -> Dataset:
    """The category of an organ (CID 7150)."""
    return code_item(organ.category, "SCT", organ.category_meaning)


def to_ascii(text: str) -> str:
    """Text in ASCII on one line, which every character set of DICOM contains; other characters become ``?``.

    The patient's name determines the character set of an object. Text from other sources, such as the names
    in a clinic's template, has to fit into it.
    """
    text = text.replace("\u00df", "ss").replace("\u00b1", "+-").replace("\\", "/")
    letters = unicodedata.normalize("NFKD", " ".join(text.split()))
    return "".join(c for c in letters if not unicodedata.combining(c)).encode("ascii", "replace").decode()


def reference_item(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """A reference to another object (PS3.3 Table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def set_patient_and_study(dataset: Dataset, series: CtSeries, *, has_frame: bool = True) -> None:
    """Copy the patient and study attributes of the CT, element by element.

    The text keeps its encoding: Specific Character Set (0008,0005) is copied too, and the node's own text is
    ASCII, which every character set of DICOM contains.

    Parameters
    ----------
    dataset : to write into; its patient and study attributes are replaced
    series : the CT
    has_frame : whether the object has a frame of reference; reports have none
    """
    copied = {element.keyword: element for element in patient_study(series.header).elements}
    reference = copied.pop(POSITION_REFERENCE, None)
    for keyword in ("SpecificCharacterSet", *TYPE_2, *TYPE_3):
        tag = Tag(keyword)
        if tag in dataset:
            del dataset[tag]
        if keyword in copied:
            dataset[tag] = copied[keyword]
        elif keyword in TYPE_2:
            setattr(dataset, keyword, "")
    if dataset.get("PatientIdentityRemoved") == "YES" and not _has_deidentification_method(dataset):
        # PS3.3 C.7.1.1 requires the method together with YES; real anonymised CT often lack it
        dataset.DeidentificationMethod = "Not stated in the source images"
    dataset.StudyInstanceUID = series.study_instance_uid
    if has_frame:
        dataset.FrameOfReferenceUID = series.frame_of_reference_uid
        dataset.PositionReferenceIndicator = "" if reference is None else reference.value


def _has_deidentification_method(dataset: Dataset) -> bool:
    return bool(dataset.get("DeidentificationMethod") or dataset.get("DeidentificationMethodCodeSequence"))


def set_equipment(dataset: Dataset, provenance: Provenance) -> None:
    """Set the node, not the scanner, as the equipment, with its software and models."""
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.DeviceSerialNumber = provenance.device_serial
    dataset.SoftwareVersions = provenance.software_versions
    if provenance.institution:
        dataset.InstitutionName = provenance.institution
    dataset.ContributingEquipmentSequence = [_contributing_equipment(provenance)]


def set_unreviewed(dataset: Dataset, provenance: Provenance) -> None:
    """Set the time of creation, and that no person has reviewed the object (PS3.3 C.12.1)."""
    dataset.ContentQualification = "RESEARCH"
    dataset.InstanceCreationDate = dataset.SeriesDate = provenance.date
    dataset.InstanceCreationTime = dataset.SeriesTime = provenance.time
    dataset.SeriesDescription = provenance.series_description("AUTO CONTOURS UNREVIEWED")


def algorithm_item(provenance: Provenance) -> Dataset:
    """The Algorithm Identification item (PS3.3 Table 10-19); only one is allowed, also for several models."""
    models = provenance.models
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [code_item("123109", "DCM", "Artificial Intelligence")]
    item.AlgorithmName = " + ".join(model.name for model in models)[:64]
    item.AlgorithmVersion = " + ".join(model.version for model in models)[:64]
    item.AlgorithmSource = MANUFACTURER
    item.AlgorithmParameters = "; ".join(_parameters(provenance))
    return item


def _parameters(provenance: Provenance) -> list[str]:
    models = [f"{m.name} {m.version} sha256={m.sha256}" for m in provenance.models]
    return [*models, provenance.guidance] if provenance.guidance else models


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> FileMetaDataset:
    """File meta information (PS3.10 7.1) with the node as the implementation.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid : of the object
    transfer_syntax_uid : in which it is encoded
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = "ORGSEG_NODE"
    return meta


def _contributing_equipment(provenance: Provenance) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item("109102", "DCM", "Processing Equipment")]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = MODEL_NAME
    item.DeviceSerialNumber = provenance.device_serial
    item.SoftwareVersions = provenance.software_versions
    item.ContributionDateTime = provenance.created.strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = provenance.summary[:1024]
    if provenance.institution:
        item.InstitutionName = provenance.institution
    return item
