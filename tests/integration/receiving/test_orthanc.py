"""An archive keeps every object and shows it as it is: Orthanc, by C-STORE and by REST.

Orthanc before 1.12 does not know label map segmentations; it is configured to accept unknown SOP classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.multival import MultiValue

from orgseg_node.contouring.report_pdf import render_report_pdf
from orgseg_node.core.checks import check_labels
from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.objects.pdf import write_pdf
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.objects.seg import SegKind, write_seg
from orgseg_node.dicom.objects.sr import write_report_sr
from orgseg_node.node.config.node_config import Destination
from orgseg_node.node.dimse.storage_scu import DicomSender
from tests.support.ct.objects import PROVENANCE, awkward_label_map, series_of
from tests.support.ct.phantom import PhantomOptions
from tests.support.peers.orthanc import AE_TITLE, Orthanc, orthanc

pytestmark = pytest.mark.peer

OBJECTS = ("RTSTRUCT", "SEG", "SEG_LABELMAP", "SR", "PDF")
PATIENTS = {
    "ISO_IR 100": "\u00c5str\u00f6m^Lotta",
    "ISO_IR 144": "\u0418\u0432\u0430\u043d\u043e\u0432^\u0418\u0432\u0430\u043d",
    "ISO_IR 192": "\u738b^\u5c0f\u6771",
}
_LONGEST_SHOWN = 256
_BINARY = {"OB", "OW", "OB or OW", "UN"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="module", params=PATIENTS)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, organ_table: OrganTable
) -> Mapping[str, Path]:
    """Every object of a job, for a patient whose name needs the character set."""
    folder = tmp_path_factory.mktemp("objects")
    study = {"study": request.param, "series": request.param, "frame": request.param}
    options = PhantomOptions(
        slices=8,
        rows=41,
        columns=43,
        character_set=request.param,
        patient_name=PATIENTS[request.param],
        patient_id=request.param,
        **study,
    )
    return _write(folder, options, organ_table)


def _write(folder: Path, options: PhantomOptions, organ_table: OrganTable) -> Mapping[str, Path]:
    series = series_of(folder / "ct", options)
    provenance = replace(PROVENANCE, job_id=f"job {options.study}")
    label_map = awkward_label_map(series.grid, organ_table)
    rtstruct = write_rtstruct(trace(label_map), series, provenance)
    seg, compact = (
        write_seg(label_map, series, provenance, kind=kind, structure_set_uid=rtstruct.SOPInstanceUID)
        for kind in SegKind
    )
    report = write_report_sr(label_map, series, provenance, seg, check_labels(label_map))
    page = write_pdf(render_report_pdf(_report(), None), series, provenance, sources=[rtstruct, seg, report])
    paths = {}
    for name, dataset in zip(OBJECTS, (rtstruct, seg, compact, report, page), strict=True):
        paths[name] = folder / f"{name}.dcm"
        dataset.save_as(paths[name], enforce_file_format=True)
    return paths


def _report() -> dict[str, Any]:
    return {
        "job_id": "job",
        "created": PROVENANCE.created.isoformat(),
        "organs": [],
        "findings": [],
        "models": [],
        "method": "streaming",
        "device": "cpu",
        "versions": {"orgseg_node": "1"},
    }


def _text(element: DataElement) -> str:
    """An element's value as Orthanc writes it: values joined by backslashes, numbers as in the file."""
    values = element.value if isinstance(element.value, (MultiValue, list)) else [element.value]
    return "\\".join(_one(value, element.VR) for value in values)


def _one(value: Any, vr: str) -> str:
    if vr == "AT":
        return f"{value.group:04x},{value.element:04x}"
    return str(
        getattr(value, "original_string", value) if vr in {"DS", "IS"} else "" if value is None else value
    )


def _is_same(shown: str | None, element: DataElement) -> bool:
    if shown is None:  # it shows no value longer than this
        return len(_text(element)) > _LONGEST_SHOWN
    if element.VR == "FD":
        return float(shown) == element.value
    return shown == _text(element)


def _differences(shown: Mapping[str, Any], dataset: Dataset, path: str = "") -> list[str]:
    """Where the archive's tags say something else than the header, down to the innermost items."""
    found = []
    for element in dataset:
        name = f"{path}{element.keyword}"
        if element.keyword not in shown:
            found.append(f"{name} is not shown")
        elif element.VR == "SQ":
            items = shown[element.keyword]
            if len(items) != len(element.value):
                found.append(f"{name} has {len(items)} items")
            for number, (one, item) in enumerate(zip(items, element.value, strict=False), start=1):
                found += _differences(one, item, f"{name}[{number}].")
        elif element.VR not in _BINARY and not _is_same(shown[element.keyword], element):
            found.append(f"{name} is {shown[element.keyword]!r}, not {_text(element)!r}")
    return found


@pytest.mark.parametrize("name", OBJECTS)
def test_what_was_sent_is_kept_and_shown_as_it_is(
    name: str, saved: Mapping[str, Path], archive: Orthanc
) -> None:
    sent = dcmread(saved[name])
    destination = Destination(ae_title=AE_TITLE, host="127.0.0.1", port=archive.dicom_port)
    assert DicomSender().send(destination, "ORGSEG", saved[name]).status == 0
    instance = archive.find(sent.SOPInstanceUID)
    kept = dcmread(BytesIO(archive.get(f"/instances/{instance}/file")))
    assert kept == sent
    assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert str(kept.PatientName) == PATIENTS[str(sent.SpecificCharacterSet)]
    tags = archive.ask(f"/instances/{instance}/simplified-tags")
    assert _differences(tags, sent) == []


@pytest.mark.parametrize("name", OBJECTS)
def test_what_was_uploaded_comes_back_byte_for_byte(
    name: str, saved: Mapping[str, Path], archive: Orthanc
) -> None:
    data = saved[name].read_bytes()
    instance = archive.upload(data)
    assert archive.get(f"/instances/{instance}/file") == data


def test_all_objects_lie_in_the_study_of_the_ct(saved: Mapping[str, Path], archive: Orthanc) -> None:
    studies = set()
    for path in saved.values():
        archive.upload(path.read_bytes())
        instance = archive.find(dcmread(path).SOPInstanceUID)
        studies.add(archive.ask(f"/instances/{instance}/study")["MainDicomTags"]["StudyInstanceUID"])
    assert studies == {dcmread(saved["RTSTRUCT"]).StudyInstanceUID}


def test_the_page_can_be_taken_out_as_a_pdf(saved: Mapping[str, Path], archive: Orthanc) -> None:
    instance = archive.upload(saved["PDF"].read_bytes())
    assert archive.get(f"/instances/{instance}/pdf").startswith(b"%PDF-")


def test_the_frames_of_the_label_map_can_be_decoded(saved: Mapping[str, Path], archive: Orthanc) -> None:
    path = saved["SEG_LABELMAP"]
    instance = archive.upload(path.read_bytes())
    frames = dcmread(path).pixel_array
    assert len(archive.ask(f"/instances/{instance}/frames")) == len(frames)
    for number, frame in enumerate(frames):
        picture = matplotlib.image.imread(
            BytesIO(archive.get(f"/instances/{instance}/frames/{number}/image-uint8")), format="png"
        )
        assert np.array_equal(np.rint(picture * 255), frame)
