"""Patient and study attributes of a CT, as the objects of the node copy them.

They are judged once, at the survey: what identifies the patient must be readable, or the series is refused;
an optional attribute that is invalid is left out. So no object fails because of the header of its CT.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from pydicom import config, dcmwrite
from pydicom.datadict import dictionary_description, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import validate_value

from orgseg_node.core.checks import Finding, Level
from orgseg_node.dicom.reading.files import without_pydicom_warnings
from orgseg_node.errors import InvalidAttribute

TYPE_2: Final = (  # Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): empty if the CT has none
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
POSITION_REFERENCE: Final = "PositionReferenceIndicator"
TYPE_3: Final = (  # copied if the CT has them and they are valid
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyDescription",
)
_CHARACTER_SET: Final = "SpecificCharacterSet"
_SINGLE: Final = {*TYPE_3, POSITION_REFERENCE} - {"DeidentificationMethod"}
_CODES: Final = ("CodeValue", "LongCodeValue", "URNCodeValue")


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientStudy:
    """The patient and study attributes of a CT.

    Attributes
    ----------
    elements : to be copied, in any order; a type 2 attribute that the CT lacks is not among them
    dropped : descriptions of invalid optional attributes
    """

    elements: tuple[DataElement, ...]
    dropped: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """A warning if attributes were left out."""
        if not self.dropped:
            return ()
        message = f"These attributes of the CT are invalid and are not copied: {', '.join(self.dropped)}."
        return (Finding(level=Level.WARNING, code="SERIES_ATTRIBUTES_NOT_COPIED", message=message),)


def patient_study(header: Dataset) -> PatientStudy:
    """The patient and study attributes of a header, each with the VR of the standard.

    Raises
    ------
    InvalidAttribute
        If an attribute that identifies patient or study cannot be decoded, or not be written again.
    """
    elements: list[DataElement] = []
    dropped: list[str] = []
    character_set: DataElement | None = None
    for keyword in (_CHARACTER_SET, *TYPE_2):
        if keyword in header:
            element = _decoded(header, keyword)
            if element is None or not _is_writable(element, character_set):
                raise InvalidAttribute(f"{dictionary_description(keyword)} cannot be decoded.")
            character_set = element if keyword == _CHARACTER_SET else character_set
            elements.append(element)
    for keyword in (*TYPE_3, POSITION_REFERENCE):
        if keyword in header:
            element = _decoded(header, keyword)
            if element is not None and element.is_empty:
                continue
            if element is None or not _is_valid(element) or not _is_writable(element, character_set):
                dropped.append(dictionary_description(keyword))
            else:
                elements.append(element)
    return PatientStudy(elements=tuple(elements), dropped=tuple(dropped))


def _decoded(header: Dataset, keyword: str) -> DataElement | None:
    """A copy of an element with the VR of the standard; None if it cannot be decoded."""
    tag, vr = Tag(keyword), dictionary_VR(keyword)
    try:
        with without_pydicom_warnings():
            element = copy.deepcopy(header[tag])
            if vr == element.VR:
                return element
            if vr == "SQ" or element.VR in {"SQ", "OB", "OW", "UN"}:
                return None
            return DataElement(tag, vr, [str(value) for value in _values(element)])
    except Exception:  # noqa: BLE001  # pydicom raises many things for a value that cannot be decoded
        return None


def _is_writable(element: DataElement, character_set: DataElement | None) -> bool:
    """Whether an element can be encoded, as it will be in an object."""
    try:
        with without_pydicom_warnings():
            for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
                dataset = Dataset()
                for one in (character_set, element):
                    if one is not None:
                        dataset[one.tag] = copy.deepcopy(one)
                implicit = syntax == ImplicitVRLittleEndian
                dcmwrite(BytesIO(), dataset, implicit_vr=implicit, little_endian=True, force_encoding=True)
    except Exception:  # noqa: BLE001  # as above
        return False
    return True


def _is_valid(element: DataElement) -> bool:
    """Whether an optional element keeps the rules of DICOM for its value."""
    try:
        with without_pydicom_warnings():
            if element.VR == "SQ":
                return all(map(_is_valid_code, element.value))
            if element.keyword in _SINGLE and element.VM > 1:
                return False
            if element.keyword == "PatientIdentityRemoved" and element.value not in {"YES", "NO"}:
                return False
            _validate(element.VR, _values(element))
    except Exception:  # noqa: BLE001  # as above
        return False
    return True


def _is_valid_code(item: Dataset) -> bool:
    """Whether an item of a code sequence has what PS3.3 Table 8.8-1 requires, and valid values."""
    for element in _all_elements(item):
        _validate(element.VR, _values(element))
    has_code = any(_has(item, keyword) for keyword in _CODES)
    is_named = _has(item, "CodingSchemeDesignator") or _has(item, "URNCodeValue")
    return has_code and is_named and _has(item, "CodeMeaning")


def _all_elements(item: Dataset) -> Iterator[DataElement]:
    for element in item:
        if element.VR == "SQ":
            for inner in element.value:
                yield from _all_elements(inner)
        else:
            yield element


def _has(item: Dataset, keyword: str) -> bool:
    return keyword in item and not item[keyword].is_empty


def _values(element: DataElement) -> Sequence[Any]:
    if isinstance(element.value, (MultiValue, list, Items)):
        return list(element.value)
    return [] if element.value is None else [element.value]


def _validate(vr: str, values: Sequence[Any]) -> None:
    for value in values:
        if isinstance(value, (str, bytes)):
            validate_value(vr, value, config.RAISE)
