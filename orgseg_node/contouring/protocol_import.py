"""Making a protocol from an RT Structure Set, or from a structure template of Eclipse.

Names, colours and order are kept. The organ of a name is found in the dictionary of names; a name without a
certain organ is listed in a comment, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ParseError  # only the types; parsed by defusedxml

import tomli_w
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydicom.dataset import Dataset

from orgseg_node.core.naming.dictionary import name_dictionary
from orgseg_node.core.organs import OrganTable, Rgb
from orgseg_node.dicom.reading.files import (
    open_header,
    optional_integer,
    text,
    texts,
    whole_text,
    without_pydicom_warnings,
)
from orgseg_node.errors import NotStructures, ProtocolInvalid

_BODY: Final = "body"
_MAX_BYTES: Final = 5_000_000  # bytes of a template; real ones have some ten thousand
_BEFORE_XML: Final = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"  # byte order marks of UTF-8 and UTF-16, and blanks
_NAMELESS: Final = "(without a name) number"
_MAX_NAME: Final = 64  # characters of a ROI Name (PS3.5, LO)
_OTHER_TYPES: Final = frozenset(
    {
        "PTV",
        "CTV",
        "GTV",
        "TREATED_VOLUME",
        "IRRAD_VOLUME",
        "IRRADIATED_VOLUME",
        "BOLUS",
        "MARKER",
        "ISOCENTER",
    }
    | {"REGISTRATION", "CONTRAST_AGENT", "DOSE_REGION", "DOSE_MEASUREMENT", "SUPPORT", "FIXATION"}
    | {"BRACHY_CHANNEL", "BRACHY_ACCESSORY", "BRACHY_SRC_APP", "BRACHY_CHNL_SHLD"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedStructure:
    """A structure in the source file."""

    name: str
    color: Rgb | None
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedProtocol:
    """The result of an import.

    Attributes
    ----------
    toml : the text of the protocol
    matched : organ key of each structure, by the name of the structure
    unmatched : names of structures that match no organ, or one that is listed already
    """

    toml: str
    matched: Mapping[str, str]
    unmatched: tuple[str, ...]


def import_protocol(path: Path, table: OrganTable) -> ImportedProtocol:
    """Make a protocol from an RT Structure Set or an Eclipse structure template.

    Raises
    ------
    NotStructures
        If the file is neither of them, or contains no structure.
    ProtocolInvalid
        If none of its structures is an organ of the table.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise NotStructures(f"It cannot be read: {error.strerror}.") from error
    is_xml = head.lstrip(_BEFORE_XML).startswith(b"<")
    listed = _from_xml(path) if is_xml else _from_rtstruct(path)
    if not listed:
        raise NotStructures("The file lists no structure.")
    return _protocol_of(listed, table)


def _from_rtstruct(path: Path) -> list[ListedStructure]:
    dataset, _ = open_header(path)
    if text(dataset, "Modality") != "RTSTRUCT":
        raise NotStructures("It is no RT Structure Set and no structure template.")
    rois = _items(dataset, "StructureSetROISequence")
    if rois is None or (rois and not any(whole_text(roi, "ROIName") for roi in rois)):
        raise NotStructures("Its list of structures is damaged.")
    contours = _by_roi(_items(dataset, "ROIContourSequence") or ())
    observations = _by_roi(_items(dataset, "RTROIObservationsSequence") or ())
    listed = []
    for position, roi in enumerate(rois, start=1):
        number = optional_integer(roi, "ROINumber")
        listed.append(
            ListedStructure(
                name=_clean(whole_text(roi, "ROIName")) or f"{_NAMELESS} {position}",
                color=_rgb(texts(contours.get(number, Dataset()), "ROIDisplayColor")),
                type=text(observations.get(number, Dataset()), "RTROIInterpretedType").upper(),
            )
        )
    return listed


def _by_roi(items: Iterable[Dataset]) -> dict[int | None, Dataset]:
    """Items by the number of the ROI that they refer to; without those that refer to none."""
    found = {optional_integer(item, "ReferencedROINumber"): item for item in items}
    found.pop(None, None)
    return found


def _items(dataset: Dataset, keyword: str) -> list[Dataset] | None:
    """The items of a sequence, none if it is absent; None if it cannot be decoded."""
    try:
        with without_pydicom_warnings():
            return list(dataset.get(keyword) or ())
    except Exception:  # noqa: BLE001  # pydicom raises many things for damaged bytes
        return None


def _rgb(values: Sequence[str]) -> Rgb | None:
    """A colour from three numbers; None if it is anything else, so that the default colour is used."""
    try:
        red, green, blue = (min(max(int(float(value)), 0), 255) for value in values)
    except (ValueError, OverflowError):
        return None
    return red, green, blue


def _from_xml(path: Path) -> list[ListedStructure]:
    """Structures of a template: ID, type and colour; the names of the elements vary with the version."""
    if path.stat().st_size > _MAX_BYTES:
        raise NotStructures("The file is too large for a structure template.")
    try:
        root: Element = fromstring(path.read_bytes(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise NotStructures(f"It is not valid XML: {type(error).__name__}.") from error
    return [_listed(each, position) for position, each in enumerate(_structures(root), start=1)]


def _structures(root: Element) -> Iterator[Element]:
    """The outermost elements named ``structure``, in order; each element is visited once."""
    waiting = [root]
    while waiting:
        element = waiting.pop()
        if _tag(element) == "structure":
            yield element
        else:
            waiting.extend(reversed(element))


def _tag(element: Element) -> str:
    return str(element.tag).rsplit("}", 1)[-1].casefold()


def _named(element: Element) -> str:
    by_attribute = {key.casefold(): value for key, value in element.attrib.items()}
    own = by_attribute.get("id") or by_attribute.get("name") or ""
    return own or next((each.text or "" for each in element if _tag(each) in {"id", "name"}), "")


def _listed(element: Element, position: int) -> ListedStructure:
    inner = {_tag(each): (each.text or "").strip() for each in element.iter()}
    kind = inner.get("volumetype") or inner.get("type") or ""
    color = inner.get("colorandstyle") or inner.get("color") or ""
    return ListedStructure(
        name=_clean(_named(element)) or f"{_NAMELESS} {position}",
        color=_parse_color(color),
        type="_".join(kind.upper().split()),
    )


def _clean(name: str) -> str:
    """A name on one line, without invisible characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def _parse_color(value: str) -> Rgb | None:
    """A colour from three numbers or hexadecimal digits; None for names and styles of another system."""
    if match := re.fullmatch(
        r"(?:#|(?=.*\d))([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", value, re.ASCII
    ):
        red, green, blue = (int(part, 16) for part in match.groups())
        return red, green, blue
    if match := re.fullmatch(r"\D*?(\d{1,3})\D+(\d{1,3})\D+(\d{1,3})\D*", value, re.ASCII):
        return _rgb(match.groups())
    return None


def _protocol_of(listed: Sequence[ListedStructure], table: OrganTable) -> ImportedProtocol:
    matched: dict[str, str] = {}
    entries, external = [], ""
    for one in listed:
        key = _key_of(one, table)
        taken = {name.casefold() for name in matched}
        if key is None or key in matched.values() or one.name.casefold() in taken:
            continue
        matched[one.name] = key
        settings: dict[str, str | list[int]] = {"name": one.name}
        if one.color:
            settings["color"] = list(one.color)
        if key == _BODY:
            external = tomli_w.dumps({"external": settings})
        else:
            entries.append({"organ": key, **settings})
    unmatched = tuple(dict.fromkeys(one.name for one in listed if one.name not in matched))
    if not matched:
        raise ProtocolInvalid("None of the structures is an organ that the organ table has.")
    content = tomli_w.dumps({"others": "keep", "structures": entries})
    toml = "".join([*_heading(unmatched), content, *_commented(external)])
    return ImportedProtocol(toml=toml, matched=matched, unmatched=unmatched)


def _commented(external: str) -> Iterator[str]:
    """The body contour, as comments: it may limit the dose calculation."""
    if external:
        yield "\n# The outline of the patient is drawn only on request: remove the # of these lines.\n"
        yield from (f"# {line}\n" for line in external.splitlines())


def _key_of(one: ListedStructure, table: OrganTable) -> str | None:
    """The organ key of a structure, or None if that is not certain."""
    if one.name.startswith(_NAMELESS) or len(one.name) > _MAX_NAME or "\\" in one.name:
        return None
    if one.type in _OTHER_TYPES:
        return None
    return _BODY if one.type == "EXTERNAL" else name_dictionary(table).organ(one.name)


def _heading(unmatched: Sequence[str]) -> Iterator[str]:
    yield "# Imported. Check it with 'orgseg protocols check', and commission it as any structure template.\n"
    if unmatched:
        yield "# These structures were left out: they match no organ, or one that is listed already.\n"
        yield from (f"#   {name}\n" for name in unmatched)
    yield "\n"
