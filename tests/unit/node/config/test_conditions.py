"""Conditions of rules: what may be wanted of which attribute, and when it holds."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from orgseg_node.dicom.patient_age import age_years
from orgseg_node.dicom.reading.files import without_pydicom_warnings
from orgseg_node.dicom.reading.series import Inventory
from orgseg_node.node.config.conditions import Condition, parse_conditions, parse_subject
from orgseg_node.node.routing.facts import SeriesFacts, facts_of


def header(**values: Any) -> Dataset:
    dataset = Dataset()
    with without_pydicom_warnings():  # some are wrong on purpose
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    return dataset


def condition(name: str, wanted: Any) -> Condition:
    (found,) = parse_conditions({name: wanted})
    return found


def holds(name: str, wanted: Any, *, slices: int = 24, **values: Any) -> bool:
    facts = SeriesFacts(header=header(**values), slices=slices, called_ae="ORGSEG_HN", calling_ae="CT1")
    one = condition(name, wanted)
    return one.holds(facts.value_of(one.subject))


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [
        ("PELVIS", "pelvis ", True),
        ("PELVIS", "PELVIS MINOR", False),
        (["HEAD", "NECK"], "NECK", True),
        (["HEAD", "NECK"], "CHEST", False),
        ({"like": "*pel?is*"}, "The Pelvis, prone", True),
        ({"like": "pelvis"}, "pelvis prone", False),
        ({"like": ["chest*", "thorax*"]}, "THORAX", True),
        ({"like": "[ab]*"}, "cord", False),
        ({"like": "a.c"}, "abc", False),
        ({"present": True}, "", False),
        ({"present": True}, "x", True),
        ({"present": False}, "", True),
        ({"present": False}, "x", False),
        ({"like": "a*", "in": ["ab", "cb"]}, "cb", False),
    ],
)
def test_text(wanted: Any, value: str, expected: bool) -> None:  # noqa: FBT001
    assert holds("SeriesDescription", wanted, SeriesDescription=value) is expected
    assert holds("(0008,103e)", wanted, SeriesDescription=value) is expected
    assert holds("0008103E", wanted, SeriesDescription=value) is expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (3, True),
        (3.0, True),
        ([1, 3], True),
        ([1, 2], False),
        ({"less_than": 3}, False),
        ({"less_than": 3.1}, True),
        ({"at_most": 3}, True),
        ({"more_than": 3}, False),
        ({"at_least": 3}, True),
        ({"between": [3, 5]}, True),
        ({"between": [3.1, 5]}, False),
        ({"more_than": 1, "less_than": 4}, True),
        ({"more_than": 1, "less_than": 2}, False),
    ],
)
def test_numbers_as_decimal_and_integer_strings_and_binary(wanted: Any, expected: bool) -> None:  # noqa: FBT001
    assert holds("SliceThickness", wanted, SliceThickness="3.0") is expected
    assert holds("SeriesNumber", wanted, SeriesNumber="3") is expected
    assert holds("Rows", wanted, Rows=3) is expected
    assert holds("slices", wanted, slices=3) is expected
    assert holds("SliceThickness", wanted) is False, "a missing tag fulfils nothing"


def test_of_several_values_one_is_enough_but_it_must_fulfil_all_tests() -> None:
    kinds = ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert holds("ImageType", "AXIAL", ImageType=kinds)
    assert not holds("ImageType", "LOCALIZER", ImageType=kinds)
    assert holds("PixelSpacing", {"more_than": 1, "less_than": 2}, PixelSpacing=[0.5, 1.5])
    assert not holds("PixelSpacing", {"more_than": 1, "less_than": 2}, PixelSpacing=[0.5, 2.5])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (date(2026, 1, 31), True),
        ("2026-01-31", True),
        ({"at_least": date(2026, 1, 31)}, True),
        ({"more_than": "2026-01-31"}, False),
        ({"between": ["2026-01-01", date(2026, 12, 31)]}, True),
        ({"less_than": "2025-12-31"}, False),
    ],
)
def test_dates(wanted: Any, expected: bool) -> None:  # noqa: FBT001
    assert holds("StudyDate", wanted, StudyDate="20260131") is expected
    assert holds("AcquisitionDateTime", wanted, AcquisitionDateTime="20260131101500.5+0100") is expected
    assert not holds("StudyDate", wanted, StudyDate="")


def test_titles_and_uids_are_compared_as_they_are_written() -> None:
    assert holds("called_ae", "ORGSEG_HN")
    assert not holds("called_ae", "orgseg_hn")
    assert holds("calling_ae", {"like": "CT?"})
    assert not holds("calling_ae", {"like": "ct?"})
    assert holds("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")


def test_body_part_is_body_part_examined() -> None:
    assert holds("body_part", ["HEADNECK", "NECK"], BodyPartExamined="NECK")
    assert holds("body_part", {"present": False})


def test_an_unknown_ae_title_passes_no_test_not_even_that_for_absence() -> None:
    for wanted in ("X", {"like": "*"}, {"present": False}, {"present": True}):
        one = condition("called_ae", wanted)
        assert not one.holds(SeriesFacts(header=Dataset(), slices=1).value_of(one.subject))


@pytest.mark.parametrize(
    ("stated", "born", "scanned", "age"),
    [
        ("045Y", "", "", 45.0),
        ("006M", "", "", 0.5),
        ("052W", "", "", 364 / 365.2425),
        ("010D", "", "", 10 / 365.2425),
        ("45Y", "", "", None),
        ("045", "", "", None),
        ("", "20080630", "20260630", 18.0),
        ("", "20080701", "20260630", 17.999),
        ("", "20080229", "20260228", 17.99),
        ("", "20080229", "20260301", 18.0),
        ("017Y", "20080630", "20260630", 18.0),
        ("070Y", "20080630", "20260630", None),
        ("", "20080630", "", None),
        ("", "", "20260630", None),
        ("", "20270101", "20260630", None),
        ("", "18000101", "20260630", None),
        ("", "20081399", "20260630", None),
        ("", "", "", None),
    ],
)
def test_age(stated: str, born: str, scanned: str, age: float | None) -> None:
    found = age_years(header(PatientAge=stated, PatientBirthDate=born, StudyDate=scanned))
    assert found == (age if age is None else pytest.approx(age, abs=0.01))
    if age == 18.0:
        assert found == 18.0, "a birthday is the day itself"


def test_an_age_that_is_not_known_is_neither_young_nor_old() -> None:
    assert not holds("age", {"less_than": 18})
    assert not holds("age", {"at_least": 18})
    assert holds("age", {"present": False})
    assert holds("age", {"less_than": 18}, PatientAge="017Y")
    assert holds("PatientAge", {"at_least": 0.4}, PatientAge="006M")


def test_an_unreadable_value_is_present_and_passes_no_test(tmp_path: Path) -> None:
    dataset = header(SOPClassUID="1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID="1.2", SliceThickness="3.0")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = tmp_path / "a.dcm"
    dataset.save_as(path, enforce_file_format=True)
    path.write_bytes(path.read_bytes().replace(b"3.0 ", b"3x0 "))
    nothing = Inventory(accepted=(), refused=(), aside=(), patients=0)
    facts = facts_of(nothing, [tmp_path / "absent", path])
    for wanted, expected in (({"at_most": 9}, False), ({"present": True}, True), ({"present": False}, False)):
        one = condition("SliceThickness", wanted)
        seen = facts.value_of(one.subject)
        assert (seen.is_present, seen.values) == (True, ())
        assert one.holds(seen) is expected


@pytest.mark.parametrize(
    ("name", "wanted", "line"),
    [
        ("SliceThicknes", 3, "there is no such attribute; did you mean 'SliceThickness'?"),
        ("called_aet", "X", "did you mean 'called_ae'?"),
        ("ReferencedImageSequence", "x", "it is a sequence"),
        ("(0009,1001)", "x", "it is private"),
        ("(0008,9999)", "x", "DICOM has no attribute with this tag"),
        ("PixelData", "x", "its values (OB or OW) cannot be compared"),
        ("StudyTime", "x", "its values (TM) cannot be compared"),
        ("SliceThickness", "3", "needs a number, not '3'"),
        ("SliceThickness", True, "needs a number, not True"),
        ("SliceThickness", float("nan"), "needs a number, not nan"),
        ("SliceThickness", {"like": "3*"}, "'like' is for text, and this is a number"),
        ("SeriesDescription", 3, "needs a text, not 3"),
        ("SeriesDescription", {"at_most": "x"}, "'at_most' is for numbers, ages and dates"),
        ("SeriesDescription", {}, "needs one of"),
        ("SeriesDescription", [], "'in' needs a list of at least one value"),
        ("SeriesDescription", {"liek": "x"}, "there is no test 'liek'; did you mean 'like'?"),
        ("SeriesDescription", {"present": "yes"}, "'present' is true or false, not 'yes'"),
        ("SeriesDescription", {"present": False, "is": "x"}, "no other test is possible"),
        ("StudyDate", "31.1.2026", "needs a date such as 2026-01-31"),
        ("StudyDate", 20260131, "needs a date such as 2026-01-31"),
        ("age", "old", "needs an age in years, not 'old'"),
        ("slices", {"between": [1]}, "'between' needs a list of two values"),
        ("slices", {"between": [5, 1]}, "'between' needs the lower value first"),
        ("slices", {"at_least": 5, "at_most": 4}, "the lower limit is above the upper one"),
    ],
)
def test_invalid_conditions_are_described(name: str, wanted: Any, line: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_conditions({name: wanted})
    assert line in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_conditions({"age": "old", "slices": {"like": "x", "at_most": "y"}, "SeriesNumber": 3})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "of_patient", "shown"),
    [
        ("PatientName", True, False),
        ("PatientBirthDate", True, False),
        ("PatientAge", True, True),
        ("ReferringPhysicianName", True, False),
        ("AccessionNumber", True, False),
        ("StudyDescription", False, False),
        ("StudyDate", False, False),
        ("BodyPartExamined", False, True),
        ("SliceThickness", False, True),
        ("SeriesInstanceUID", False, True),
    ],
)
def test_which_values_may_be_shown(name: str, of_patient: bool, shown: bool) -> None:  # noqa: FBT001
    subject = parse_subject(name)
    assert (subject.of_patient, subject.may_be_shown) == (of_patient, shown)
