"""Wrapping the one-page report as an Encapsulated PDF, so that it lies beside the CT in the archive.

PS3.3 A.45.1. Who the patient is stands in the header, as in the other objects of the job.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from orgseg_node.dicom.objects.object_header import (
    code,
    file_meta,
    reference,
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
    pdf : the document, as it will come out again
    series : the CT it is about
    provenance : job, time and models; the same job gives the same bytes
    names_patient : whether the pages themselves say who the patient is
    sources : the objects it reports on, such as RT Structure Set and Segmentation

    Returns
    -------
    dataset in explicit VR little endian

    Raises
    ------
    ObjectInvalid
        If the bytes are no PDF.
    """
    if not pdf.startswith(b"%PDF-"):
        raise ObjectInvalid("What should be encapsulated is no PDF.")
    sop_instance_uid = derive_uid(provenance.job_id, "PDF", "instance")
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
    dataset.SeriesInstanceUID = derive_uid(provenance.job_id, "PDF", "series")
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = provenance.titled(DESCRIPTION)
    dataset.InstanceNumber = 1
    dataset.ConversionType = "SYN"  # made by a program, not scanned


def _set_document(dataset: Dataset, pdf: bytes, provenance: Provenance) -> None:
    """Encapsulated Document module (C.24.2)."""
    dataset.ContentDate, dataset.ContentTime = provenance.date, provenance.time
    dataset.AcquisitionDateTime = ""  # of an original on paper, which there is none of
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.DocumentTitle = TITLE
    dataset.ConceptNameCodeSequence = [code(*_REPORT)]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)


def _source(source: Dataset) -> Dataset:
    item = reference(source.SOPClassUID, source.SOPInstanceUID)
    item.PurposeOfReferenceCodeSequence = [code(*_SOURCES.get(source.Modality, _SOURCE))]
    return item
