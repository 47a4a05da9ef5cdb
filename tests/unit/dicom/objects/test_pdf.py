"""The Encapsulated PDF holds the document byte for byte, and says what it is and of whom."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.objects.pdf import write_pdf
from orgseg_node.dicom.objects.seg import write_seg
from orgseg_node.dicom.objects.sr import write_report_sr
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.errors import ObjectInvalid
from tests.support.ct.objects import PROVENANCE, SMALL, awkward_label_map, series_of

PDF = b"%PDF-1.4\n%%EOF\n"  # of odd length


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("pdf", [PDF, PDF + b"\n"])
def test_the_document_comes_out_as_it_went_in(series: CtSeries, pdf: bytes) -> None:
    written = dcmread(BytesIO(_bytes(write_pdf(pdf, series, PROVENANCE))))
    assert written.EncapsulatedDocument[: written.EncapsulatedDocumentLength] == pdf
    assert len(written.EncapsulatedDocument) % 2 == 0
    assert written.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert written.SOPClassUID.name == "Encapsulated PDF Storage"


def test_it_says_what_it_is_and_that_nobody_reviewed_it(series: CtSeries) -> None:
    written = write_pdf(PDF, series, PROVENANCE)
    assert written.DocumentTitle == "Automatic contours, not reviewed"
    assert written.SeriesDescription == "AUTO REPORT UNREVIEWED"
    assert written.VerificationFlag == "UNVERIFIED"
    assert written.ContentQualification == "RESEARCH"
    assert written.Modality == "DOC"
    assert (written.ContentDate, written.ContentTime) == ("20240506", "070809")
    assert "FrameOfReferenceUID" not in written


@pytest.mark.parametrize(("names_patient", "expected"), [(False, "NO"), (True, "YES")])
def test_it_says_whether_the_page_names_the_patient(
    series: CtSeries, expected: str, *, names_patient: bool
) -> None:
    assert write_pdf(PDF, series, PROVENANCE, names_patient=names_patient).BurnedInAnnotation == expected


def test_patient_and_study_are_those_of_the_ct(tmp_path: Path) -> None:
    options = replace(SMALL, character_set="ISO_IR 100", patient_name="\u00c5str\u00f6m^Lotta")
    series = series_of(tmp_path, options)
    written = dcmread(BytesIO(_bytes(write_pdf(PDF, series, PROVENANCE))))
    assert str(written.PatientName) == options.patient_name
    assert written.StudyInstanceUID == series.study_instance_uid
    assert written.SeriesInstanceUID != series.series_instance_uid


def test_it_refers_to_what_it_reports_on(series: CtSeries, organ_table: OrganTable) -> None:
    label_map = awkward_label_map(series.grid, organ_table)
    seg = write_seg(label_map, series, PROVENANCE)
    report = write_report_sr(label_map, series, PROVENANCE, seg)
    written = write_pdf(PDF, series, PROVENANCE, sources=[seg, report])
    assert [item.ReferencedSOPInstanceUID for item in written.SourceInstanceSequence] == [
        seg.SOPInstanceUID,
        report.SOPInstanceUID,
    ]
    purposes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in written.SourceInstanceSequence]
    assert purposes == ["121324", "128225"]


def test_same_job_gives_the_same_bytes_and_another_job_another_object(series: CtSeries) -> None:
    written = write_pdf(PDF, series, PROVENANCE)
    assert _bytes(write_pdf(PDF, series, PROVENANCE)) == _bytes(written)
    other = write_pdf(PDF, series, replace(PROVENANCE, job_id="job-2"))
    assert other.SOPInstanceUID != written.SOPInstanceUID


def test_what_is_no_pdf_is_refused(series: CtSeries) -> None:
    with pytest.raises(ObjectInvalid, match="not a PDF"):
        write_pdf(b"\x89PNG", series, PROVENANCE)
