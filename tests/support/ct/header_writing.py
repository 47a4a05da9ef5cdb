"""Values in headers that no library writes, and every object made from such a CT."""

from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.objects.pdf import write_pdf
from orgseg_node.dicom.objects.provenance import ModelVersion, Provenance
from orgseg_node.dicom.objects.rtstruct import prove, write_rtstruct
from orgseg_node.dicom.objects.seg import prove_seg, write_seg
from orgseg_node.dicom.objects.sr import write_report_sr
from orgseg_node.dicom.reading.series import CtSeries
from orgseg_node.dicom.tps.tps import GENERIC, require_valid
from tests.support.ct.phantom import label_map_of

PROVENANCE = Provenance(
    job_id="odd headers",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    models=(ModelVersion(name="model", version="1", sha256="0" * 64),),
)


def put(dataset: Dataset, keyword: str, value: str | bytes, vr: str | None = None) -> None:
    """Set exactly these bytes as the value of an attribute, whatever DICOM allows."""
    vr = vr or dictionary_VR(keyword)
    content = value.encode("latin-1") if isinstance(value, str) else value
    content += (b"\0" if vr == "UI" else b" ") * (len(content) % 2)
    dataset[Tag(keyword)] = RawDataElement(Tag(keyword), vr, len(content), content, 0, False, True)  # noqa: FBT003


def patch_vr(path: Path, keyword: str, vr: bytes) -> None:
    """Change the two bytes of a VR in a file with explicit VR little endian."""
    tag = Tag(keyword)
    content = path.read_bytes()
    at = content.index(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little"), 200)
    path.write_bytes(content[: at + 4] + vr + content[at + 6 :])


def all_objects(series: CtSeries, table: OrganTable) -> dict[str, Dataset]:
    """RTSTRUCT, SEG, SR and PDF of the phantom's organs, written, checked, and read again."""
    labels = label_map_of(series.geometry, table)  # type: ignore[arg-type]  # a stack serves as well
    seg = _again(write_seg(labels, series, PROVENANCE))
    prove_seg(seg, labels, series)
    structures = _again(write_rtstruct(trace(labels, GENERIC.tracing), series, PROVENANCE, GENERIC, seg))
    require_valid(structures, GENERIC)
    prove(structures, labels, series, (), GENERIC)
    report = _again(write_report_sr(labels, series, PROVENANCE, seg, series.findings))
    pages = _again(write_pdf(b"%PDF-1.7", series, PROVENANCE, sources=[structures, seg, report]))
    return {"RTSTRUCT": structures, "SEG": seg, "SR": report, "PDF": pages}


def _again(dataset: Dataset) -> Dataset:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)
