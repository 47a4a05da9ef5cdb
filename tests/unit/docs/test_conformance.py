"""The conformance statement agrees with the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from orgseg_node.dicom.objects.seg import SegKind, write_seg
from orgseg_node.dicom.objects.sr import write_report_sr
from orgseg_node.dicom.reading.image_kind import SUPPORTED_SYNTAXES
from orgseg_node.dicom.tps.tps import PROFILES
from orgseg_node.errors import InputError
from orgseg_node.node.dimse.c_store import STORAGE_CLASSES, SYNTAXES
from tests.support.ct.objects import PROVENANCE, awkward_label_map, series_of
from tools.docs.conformance import conformance
from tools.docs.created_objects import Attribute, created_objects

DOCS = Path(__file__).resolve().parents[3] / "docs" / "conformance.md"


@pytest.fixture(scope="module")
def statement() -> str:
    return conformance()


@pytest.fixture(scope="module")
def objects() -> dict[str, tuple[Attribute, ...]]:
    return created_objects()


def test_the_committed_statement_is_up_to_date(statement: str) -> None:
    assert DOCS.read_text(encoding="utf-8") == statement, "run 'make docs'"


def test_the_sections_of_the_standard_are_there(statement: str) -> None:
    wanted = ["Overview", "Introduction", "Networking", "Media interchange", "Support of character sets"]
    wanted += ["Security", "Annexes", "Association acceptance", "Association initiation", "Error codes"]
    assert [title for title in wanted if f" {title}\n" not in statement] == []


def test_all_that_is_received_and_all_codes_and_profiles_are_named(statement: str) -> None:
    wanted = [*STORAGE_CLASSES, *SYNTAXES, *(f"| `{error.code}` |" for error in InputError.__subclasses__())]
    assert [text for text in (*wanted, *PROFILES) if text not in statement] == []
    assert len(SYNTAXES) == len(SUPPORTED_SYNTAXES) - 1, "all but JPEG 2000, which may be lossy"


def _by_path(attributes: tuple[Attribute, ...]) -> dict[str, Attribute]:
    return {" > ".join(each.path): each for each in attributes}


def test_causes_are_found(objects: dict[str, tuple[Attribute, ...]]) -> None:
    found = _by_path(objects["RT Structure Set"])
    causes = {path: (found[path].presence, found[path].source) for path in found}
    assert causes["PatientID"] == ("VNAP", "CT")
    assert causes["StudyDescription"] == ("ANAP", "CT")
    assert causes["SOPInstanceUID"] == ("ALWAYS", "job")
    assert causes["InstitutionName"] == ("ANAP", "job"), "only where a site gives its name"
    assert causes["StructureSetROISequence > ROIName"] == ("ALWAYS", "result")
    assert causes["ApprovalStatus"] == ("ALWAYS", "fixed: `UNAPPROVED`")
    assert causes["OperatorsName"] == ("VNAP", "empty")
    assert causes["ROIContourSequence > ContourSequence > ContourData"][1] == "CT and result"


def _paths(dataset: Dataset, above: str = "") -> set[str]:
    found = set()
    for element in dataset:
        path = f"{above}{element.keyword}"
        found.add(path)
        for item in element.value if element.VR == "SQ" else ():
            is_nested = element.keyword == "ContentSequence" and above
            found |= _paths(item, above if is_nested else f"{path} > ")
    return found


def test_objects_hold_no_attribute_that_is_not_listed(
    objects: dict[str, tuple[Attribute, ...]], tmp_path: Path, organ_table: OrganTable
) -> None:
    series = series_of(tmp_path / "ct")
    label_map = awkward_label_map(series.grid, organ_table)
    seg = write_seg(label_map, series, PROVENANCE)
    written = {
        "RT Structure Set": write_rtstruct(trace(label_map), series, PROVENANCE, segmentation=seg),
        "Segmentation": seg,
        "Label Map Segmentation": write_seg(label_map, series, PROVENANCE, kind=SegKind.LABELMAP),
        "Comprehensive SR": write_report_sr(label_map, series, PROVENANCE, seg),
    }
    untold = {kind: _paths(each) - set(_by_path(objects[kind])) for kind, each in written.items()}
    assert untold == {kind: set() for kind in written}
