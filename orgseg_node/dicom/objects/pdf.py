"""Encodes the one-page report as an Encapsulated PDF (PS3.3 A.45.1), to be stored with the CT in the archive.

Patient attributes are in the header, as in the other objects of the job.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from orgseg_node.dicom.objects.object_header import (
    code_item,
    file_meta,
    reference_item,
    set_equipment,
    set_patient_and_study,
    set_unreviewed,
)
from orgseg_node.dicom.objects.provenance import Provenance
from orgseg_node.dicom.objects.uids import derive_uid
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid

SERIES_NUMBER = 9004
TITLE = "Automatic contours, not reviewed"
DESCRIPTION = "AUTO REPORT UNREVIEWED"

_SOURCES = {  # CID 7060, by modality
    "SEG": ("121324", "DCM", "Source image"),
    "SR": ("128225", "DCM", "Source report"),
}
_SOURCE = ("128224", "DCM", "Source measurement")
_REPORT = ("126000", "DCM", "Imaging Measurement Report")  # CID 7020


def write_pdf(
    pdf: bytes,
    series: CtSeries,
    provenance: Provenance,
    *,
    names_patient: bool = False,
    sources: Sequence[Dataset] = (),
) -> FileDataset:
    """A PDF as a DICOM object of the study, ready to be saved or sent.

    Parameters
    ----------
    pdf : the document; its bytes are not changed
    series : the CT that it reports on
    provenance : job, time and models; the same job gives the same bytes
    names_patient : whether the pages themselves identify the patient
    sources : the objects that it reports on, such as RT Structure Set and Segmentation; without them it is
        another SOP instance

    Returns
    -------
    dataset in explicit VR little endian

    Raises
    ------
    ObjectInvalid
        If the bytes are not a PDF.
    """
    if not pdf.startswith(b"%PDF-"):
        raise ObjectInvalid("The document to encapsulate is not a PDF.")
    alone = () if sources else ("alone",)
    sop_instance_uid = derive_uid(provenance.uid_root, "PDF", "instance", *alone)
    meta = file_meta(EncapsulatedPDFStorage, sop_instance_uid, ExplicitVRLittleEndian)
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = EncapsulatedPDFStorage
    dataset.SOPInstanceUID = sop_instance_uid
    set_patient_and_study(dataset, series, has_frame=False)
    set_equipment(dataset, provenance)
    set_unreviewed(dataset, provenance)
    _set_series(dataset, provenance)
    _set_document(dataset, pdf, provenance)
    dataset.BurnedInAnnotation = "YES" if names_patient else "NO"
    if sources:
        dataset.SourceInstanceSequence = [_source(source) for source in sources]
    return dataset


def _set_series(dataset: Dataset, provenance: Provenance) -> None:
    """Encapsulated Document Series (C.24.1) and SC Equipment (C.8.6.1) modules."""
    dataset.Modality = "DOC"
    dataset.SeriesInstanceUID = derive_uid(provenance.uid_root, "PDF", "series")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = provenance.series_description(DESCRIPTION)
    dataset.InstanceNumber = 1
    dataset.ConversionType = "SYN"  # synthesised by a program, not scanned


def _set_document(dataset: Dataset, pdf: bytes, provenance: Provenance) -> None:
    """Encapsulated Document module (C.24.2)."""
    dataset.ContentDate, dataset.ContentTime = provenance.date, provenance.time
    dataset.AcquisitionDateTime = ""  # of an original on paper; there is none
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.DocumentTitle = TITLE
    dataset.ConceptNameCodeSequence = [code_item(*_REPORT)]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)


def _source(source: Dataset) -> Dataset:
    item = reference_item(source.SOPClassUID, source.SOPInstanceUID)
    item.PurposeOfReferenceCodeSequence = [code_item(*_SOURCES.get(source.Modality, _SOURCE))]
    return item
