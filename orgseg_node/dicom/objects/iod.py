"""Checks that an object has every attribute that its IOD requires (PS3.3, A).

highdicom contains the tables of the standard: the modules of an IOD, and the attributes of a module,
including those in sequences. A *type 1* attribute must be present with a value, a *type 2* attribute must be
present and may be empty. The tables do not contain the conditions of types 1C and 2C in a form that a program
can evaluate; these are checked by separate rules, such as those in `dicom.objects.rtstruct_rules`.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from orgseg_node.errors import ObjectInvalid

_REQUIRED = {"1", "2"}
# A functional group may be in either of these; which ones an object needs depends on its frames.
_FUNCTIONAL_GROUPS = {"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"}
# An item of these may contain further items of the same kind.
_RECURSIVE = {"ContentSequence"}
# A content item of a report has the value of its own type and no other (PS3.3 C.17.3).
_VALUES = {
    "ReferencedSOPSequence": {"IMAGE", "COMPOSITE", "WAVEFORM"},
    "ContinuityOfContent": {"CONTAINER"},
    "TemporalRangeType": {"TCOORD"},
    "ConceptCodeSequence": {"CODE"},
    "MeasuredValueSequence": {"NUM"},
    "TabulatedValuesSequence": {"TABLE"},
    "GraphicData": {"SCOORD", "SCOORD3D"},
    "GraphicType": {"SCOORD", "SCOORD3D"},
    "ReferencedFrameOfReferenceUID": {"SCOORD3D"},
}


@dataclass(slots=True)
class _Attribute:
    """The type of an attribute in the standard, and the attributes in its items."""

    kind: str = "3"
    inside: dict[str, _Attribute] = field(default_factory=dict)

    @property
    def matters(self) -> bool:
        return self.kind in _REQUIRED or bool(self.inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    """The attributes of a module that are required, or that contain required ones in their items."""

    is_mandatory: bool
    attributes: Mapping[str, _Attribute]
    keywords: frozenset[str]


def missing(dataset: Dataset) -> tuple[str, ...]:
    """The attributes that the standard requires and an object lacks.

    An optional module is checked as soon as one of its own attributes is present.

    Parameters
    ----------
    dataset : any object whose SOP class is in the standard's tables

    Returns
    -------
    one sentence for each attribute, such as "StructureSetROISequence[3].ROINumber is missing (type 1)";
    empty for a valid object

    Raises
    ------
    ObjectInvalid
        If the object has no SOP Class UID, or an unknown one.
    """
    modules = _modules(str(dataset.get("SOPClassUID", "")))
    mandatory = frozenset[str]().union(*(module.keywords for module in modules if module.is_mandatory))
    present = {keyword_for_tag(tag) for tag in dataset.keys()}  # noqa: SIM118  # its elements would be decoded
    found: list[str] = []
    for module in modules:
        if module.is_mandatory or present & (module.keywords - mandatory):
            found += _lacks(dataset, module.attributes, "")
    return tuple(dict.fromkeys(found))


def _lacks(dataset: Dataset, attributes: Mapping[str, _Attribute], where: str) -> Iterator[str]:
    value_type = dataset.get("ValueType") if "ValueType" in attributes else None
    for keyword, wanted in attributes.items():
        tag = Tag(keyword)
        if tag not in dataset:
            is_other_value = "ValueType" in attributes and value_type not in _VALUES.get(
                keyword, {value_type}
            )
            if wanted.kind in _REQUIRED and not is_other_value:
                yield f"{where}{keyword} is missing (type {wanted.kind})"
            continue
        if wanted.kind == "1" and _is_empty(dataset, tag):
            yield f"{where}{keyword} is empty (type 1)"
        if wanted.inside and dataset[tag].VR == "SQ":
            inside = wanted.inside
            if keyword in _RECURSIVE:
                inside = inside | {keyword: wanted}
            for number, item in enumerate(dataset[tag].value or (), start=1):
                yield from _lacks(item, inside, f"{where}{keyword}[{number}].")


def _is_empty(dataset: Dataset, tag: BaseTag) -> bool:
    """Whether an element has no value; the value is not decoded, since Contour Data may be large."""
    value: Any = dataset.get_item(tag).value
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def preload(*sop_class_uids: str) -> None:
    """Read the tables of these SOP classes in advance; it takes half a second."""
    for uid in sop_class_uids:
        _modules(uid)


@lru_cache(maxsize=8)
def _modules(sop_class_uid: str) -> tuple[_Module, ...]:
    """The modules of a SOP class."""
    tables = _tables()
    iods = json.loads((tables / "sop_class_iod_map.json").read_text(encoding="utf-8"))
    if sop_class_uid not in iods:
        raise ObjectInvalid("The standard's tables do not contain this SOP class.")
    usage = json.loads((tables / "iod_module_map.json").read_text(encoding="utf-8"))
    return tuple(
        _module(entry["key"], is_mandatory=entry["usage"] == "M") for entry in usage[iods[sop_class_uid]]
    )


def _module(key: str, *, is_mandatory: bool) -> _Module:
    root = _Attribute()
    rows = _rows(key)
    for row in rows:
        _put(root, row["path"], row["keyword"], row["type"])
    _prune(root)
    own = frozenset(row["keyword"] for row in rows if not row["path"])
    return _Module(is_mandatory=is_mandatory, attributes=root.inside, keywords=own)


def _put(root: _Attribute, path: list[str], keyword: str, kind: str) -> None:
    """Enter one row. If macros are alternatives to each other, the least strict row counts."""
    parent = root
    for step in path:
        parent = parent.inside.setdefault(step, _Attribute())
    if len(path) == 1 and path[0] in _FUNCTIONAL_GROUPS:
        kind = "3"
    known = parent.inside.get(keyword)
    if known is None:
        parent.inside[keyword] = _Attribute(kind=kind)
    else:
        known.kind = max(known.kind[0], kind[0]) + max(known.kind[1:], kind[1:])


def _prune(attribute: _Attribute) -> None:
    for keyword, each in list(attribute.inside.items()):
        _prune(each)
        if not each.matters:
            del attribute.inside[keyword]


def _rows(module: str) -> list[dict[str, Any]]:
    """The rows of one module, extracted from a file of 22 MB without decoding the others."""
    path = _tables() / "module_attribute_map.json"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        start = text.find(f'\n  "{module}": ['.encode())
        if start < 0:
            raise ObjectInvalid(f"The standard's tables have no module {module}.")
        start = text.find(b"[", start)
        stop = text.find(b"\n  ]", start) + len(b"\n  ]")
        rows: list[dict[str, Any]] = json.loads(text[start:stop])
    return rows


def _tables() -> Path:
    """Folder of the tables in highdicom, found without importing it, which is slow."""
    spec = find_spec("highdicom")
    if spec is None or not spec.submodule_search_locations:
        raise ObjectInvalid("The standard's tables are not installed.")
    return Path(spec.submodule_search_locations[0]) / "_standard"
