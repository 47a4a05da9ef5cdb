"""A protocol from what a clinic already has: an RT Structure Set, or a structure template of Eclipse.

Names, colours and order are taken over. Which organ of the organ table a name means is found by its TG-263
name, by common spellings, and by words for left and right; a name that is no organ the node knows is listed
as a comment, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, ParseError  # only the types; parsed by defusedxml

import tomli_w
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from orgseg_node.core.organs import OrganTable, Rgb, Side
from orgseg_node.dicom.files import open_header, quietly, text
from orgseg_node.errors import ConfigError, InputError

_LARGEST: Final = 50_000_000  # bytes of a template; real ones have some thousand
_LEFT: Final = frozenset({"l", "lt", "left", "li", "links", "gauche", "sin"})
_RIGHT: Final = frozenset({"r", "rt", "right", "re", "rechts", "droite", "dex"})
_SPELLINGS: Final[Mapping[str, str]] = {  # words without side, case and separators: key without side
    "cord": "spinal_cord",
    "spinalcanal": "spinal_cord",
    "myelon": "spinal_cord",
    "stem": "brainstem",
    "eye": "eyeball",
    "eyes": "eyeballs",
    "oesophagus": "esophagus",
    "esoph": "esophagus",
    "bladder": "urinary_bladder",
    "kidney": "kidney",
    "lung": "lung",
    "parotid": "parotid",
    "parotidgland": "parotid",
    "glndparotid": "parotid",
    "femoralhead": "femoral_head",
    "femurhead": "femoral_head",
    "femhead": "femoral_head",
    "gallbladder": "gall_bladder",
    "smallbowel": "small_bowel",
    "bowelsmall": "small_bowel",
    "mandible": "mandible",
    "jaw": "mandible",
    "larynx": "larynx",
    "adrenal": "adrenal_gland",
    "clavicle": "clavicle",
    "bodyoutline": "body",
    "external": "body",
    "skin": "body",
}
_OTHER_TYPES: Final = frozenset({"PTV", "CTV", "GTV", "ISOCENTER", "MARKER", "BOLUS", "TREATED_VOLUME"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A structure as the other system lists it."""

    name: str
    color: Rgb | None
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came of it.

    Attributes
    ----------
    toml : the text of the protocol
    matched : organ key by the name that the structure keeps
    unmatched : names of structures that are no organ the node knows
    """

    toml: str
    matched: Mapping[str, str]
    unmatched: tuple[str, ...]


def import_protocol(path: Path, table: OrganTable) -> Imported:
    """A protocol from an RT Structure Set or an Eclipse structure template.

    Raises
    ------
    InputError
        If the file is neither, or holds no structure.
    """
    try:
        head = path.open("rb").read(512)
    except OSError as error:
        raise InputError(f"It cannot be read: {error.strerror}.") from error
    listed = _from_xml(path) if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else _from_rtstruct(path)
    if not listed:
        raise InputError("The file lists no structure.")
    return _written(listed, table)


def organ_meant(name: str, table: OrganTable) -> str | None:
    """The key of the organ that a name means, or None where that is not certain.

    Parameters
    ----------
    name : such as ``Lung_L``, ``PAROTID LT`` or ``left kidney``
    table : the organ table
    """
    folded = name.strip().casefold()
    for key, organ in table.items():
        if folded in {organ.name.casefold(), key}:
            return key
    words = [word for word in re.split(r"[^a-z]+", folded) if word]
    sides = {Side.LEFT for word in words if word in _LEFT} | {Side.RIGHT for word in words if word in _RIGHT}
    rest = "".join(word for word in words if word not in _LEFT | _RIGHT)
    if len(sides) > 1 or not rest or re.search(r"\d|prv|ring|opti|help|avoid|^z", folded):
        return None
    side = f"_{next(iter(sides)).value}" if sides else ""
    plain = {key.replace("_", ""): key for key in table}
    by_name = {re.sub(r"[^a-z]", "", organ.name.casefold()): key for key, organ in table.items()}
    base = _SPELLINGS.get(rest)
    candidates = [
        f"{base}{side}" if base else None,
        plain.get(rest + side.removeprefix("_")),
        None if side else by_name.get(rest),
    ]
    return next((key for key in candidates if key is not None and key in table), None)


def _from_rtstruct(path: Path) -> list[Listed]:
    dataset, _ = open_header(path)
    if text(dataset, "Modality") != "RTSTRUCT":
        raise InputError("It is no RT Structure Set and no structure template.")
    listed = []
    with quietly():
        try:
            colors = {
                int(i.ReferencedROINumber): i.get("ROIDisplayColor") for i in dataset.ROIContourSequence
            }
            types = {
                int(i.ReferencedROINumber): str(i.get("RTROIInterpretedType") or "")
                for i in dataset.get("RTROIObservationsSequence") or []
            }
            for roi in dataset.StructureSetROISequence:
                number = int(roi.ROINumber)
                color = _rgb(colors.get(number))
                listed.append(Listed(name=str(roi.ROIName), color=color, type=types.get(number, "")))
        except Exception as error:  # damaged bytes make the parser raise whatever they please
            raise InputError("Its list of structures is damaged.") from error
    return listed


def _rgb(values: Sequence[int] | None) -> Rgb | None:
    if values is None or len(values) != 3:
        return None
    red, green, blue = (min(max(int(v), 0), 255) for v in values)
    return red, green, blue


def _from_xml(path: Path) -> list[Listed]:
    """Structures of a template: ID, type and colour, under names that vary with the version."""
    if path.stat().st_size > _LARGEST:
        raise InputError("The file is too large for a structure template.")
    try:
        root: Element = fromstring(path.read_bytes(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise InputError(f"It is no sound XML: {type(error).__name__}.") from error
    return [_listed(each) for each in root.iter() if _tag(each) == "structure" and _named(each)]


def _tag(element: Element) -> str:
    return str(element.tag).rsplit("}", 1)[-1].casefold()


def _named(element: Element) -> str:
    by_attribute = {key.casefold(): value for key, value in element.attrib.items()}
    own = by_attribute.get("id") or by_attribute.get("name") or ""
    return own or next((each.text or "" for each in element if _tag(each) in {"id", "name"}), "")


def _listed(element: Element) -> Listed:
    inner = {_tag(each): (each.text or "").strip() for each in element.iter()}
    kind = inner.get("volumetype") or inner.get("type") or ""
    color = inner.get("colorandstyle") or inner.get("color") or ""
    return Listed(name=_named(element).strip(), color=_color_said(color), type=kind.upper())


def _color_said(value: str) -> Rgb | None:
    """A colour as three numbers or hexadecimal; names and styles of a system's own are none."""
    if match := re.search(r"#?\b([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})\b", value):
        red, green, blue = (int(part, 16) for part in match.groups())
        return red, green, blue
    numbers = [int(part) for part in re.findall(r"\d+", value)]
    return _rgb(numbers) if len(numbers) == 3 else None


def _written(listed: Sequence[Listed], table: OrganTable) -> Imported:
    matched: dict[str, str] = {}
    entries, external = [], None
    for one in listed:
        key = None if one.type in _OTHER_TYPES else organ_meant(one.name, table)
        if key is None or key in matched.values():
            continue
        matched[one.name] = key
        settings: dict[str, str | list[int]] = {"name": one.name}
        if one.color:
            settings["color"] = list(one.color)
        if key == "body":
            external = settings
        else:
            entries.append({"organ": key, **settings})
    unmatched = tuple(one.name for one in listed if one.name not in matched)
    if not entries and external is None:
        raise ConfigError("None of the structures is an organ that the organ table has.")
    content = {"others": "keep", "structures": entries} | ({"external": external} if external else {})
    return Imported(
        toml="".join([*_heading(unmatched), tomli_w.dumps(content)]), matched=matched, unmatched=unmatched
    )


def _heading(unmatched: Sequence[str]) -> Iterator[str]:
    yield "# Imported. Check it with 'orgseg protocols check', and commission it as any structure template.\n"
    if unmatched:
        yield "# These structures are no organs that the node knows; they were left out:\n"
        yield from (f"#   {' '.join(name.split())}\n" for name in unmatched)
    yield "\n"
