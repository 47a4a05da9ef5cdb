"""The organ table: names, codes and colours."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from orgseg_node.errors import ConfigError, OrganUnknown

Rgb = tuple[int, int, int]

_MAX_NAME = 16  # TG-263 (AAPM report 263, 2018): names of at most 16 characters, unique without case
_REQUIRED = {"name", "code", "meaning", "color", "display"}
_ENDS = ("head", "feet", "both")
_RANGES = ("volume_ml", "hu", "length_mm")
_OPTIONAL = {"category", "category_meaning", "fma", "interpreted_type", "side", "note", "open_end"} | {
    *_RANGES,
    "gate_margins",
    "tolerance_mm",
    "observers",
}
_OBSERVED: Final = ("dice", "msd_mm", "hd95_mm")
_NOT_TEXT: Final = {"color", "display", "gate_margins", "tolerance_mm", "observers", *_RANGES}


PAIRS: Final[Mapping[str, tuple[str, str]]] = {
    both: (f"{single}_left", f"{single}_right")
    for both, single in {
        "adrenal_glands": "adrenal_gland",
        "brachial_plexuses": "brachial_plexus",
        "breasts": "breast",
        "carotid_arteries": "carotid_artery",
        "chest_walls": "chest_wall",
        "clavicles": "clavicle",
        "cochleas": "cochlea",
        "eyeballs": "eyeball",
        "femoral_heads": "femoral_head",
        "femurs": "femur",
        "hippocampi": "hippocampus",
        "hips": "hip",
        "humeral_heads": "humeral_head",
        "kidneys": "kidney",
        "lacrimal_glands": "lacrimal_gland",
        "lenses": "lens",
        "lungs": "lung",
        "optic_nerves": "optic_nerve",
        "ovaries": "ovary",
        "parotids": "parotid",
        "rectus_abdominis": "rectus_abdominis",
        "retinas": "retina",
        "ribs": "rib",
        "scapulas": "scapula",
        "submandibular_glands": "submandibular_gland",
        "temporal_lobes": "temporal_lobe",
        "temporomandibular_joints": "temporomandibular_joint",
        "testes": "testis",
        "ureters": "ureter",
    }.items()
}
"""Keys of the organ table for both together, and for left and right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observers:
    """How far persons differ who draw the same organ.

    Attributes
    ----------
    dice, msd_mm, hd95_mm : Dice, mean surface distance and HD95 between them; None if not stated
    source : where this is published, or who measured it
    """

    source: str
    dice: float | None = None
    msd_mm: float | None = None
    hd95_mm: float | None = None


class Side(StrEnum):
    """Left or right in the patient."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class Organ:
    """One row of the organ table.

    Attributes
    ----------
    key : stable name in manifests, such as ``parotid_left``
    name : TG-263 name, at most 16 characters
    code, meaning : SNOMED CT code and its meaning
    category, category_meaning : SNOMED CT category, DICOM CID 7150
    color : RGB in the TPS, 0 to 255
    display : RGB in viewers of the Segmentation, 0 to 255
    fma : Foundational Model of Anatomy ID, or empty
    interpreted_type : RT ROI Interpreted Type (3006,00A4)
    side : left or right if the organ is one of a pair
    note : remark on the name or code, or empty
    volume_ml : smallest and largest volume of a complete organ in any patient; None if not stated
    hu : smallest and largest mean HU inside; None if not stated
    length_mm : smallest and largest length from head to feet of a complete organ; None if not stated
    open_end : the ends at which people stop drawing the organ before it ends: ``head``, ``feet``, ``both`` or
        empty
    gate_margins : how much lower mean Dice and mean surface Dice of a new model may be; None for the default
    tolerance_mm : of the surface Dice in commissioning
    observers : how far persons differ; None if not stated
    """

    key: str
    name: str
    code: str
    meaning: str
    color: Rgb
    display: Rgb
    category: str = "91723000"
    category_meaning: str = "Anatomical Structure"
    fma: str = ""
    interpreted_type: str = "ORGAN"
    side: Side | None = None
    note: str = ""
    volume_ml: tuple[float, float] | None = None
    hu: tuple[float, float] | None = None
    length_mm: tuple[float, float] | None = None
    open_end: str = ""
    gate_margins: tuple[float, float] | None = None
    tolerance_mm: float = 2.0
    observers: Observers | None = None


@dataclass(frozen=True, slots=True)
class OrganTable(Mapping[str, Organ]):
    """All organs of the table, by key."""

    organs: Mapping[str, Organ]

    def __getitem__(self, key: str) -> Organ:
        """The organ of a key.

        Raises
        ------
        OrganUnknown
            If the table has no such key.
        """
        try:
            return self.organs[key]
        except KeyError:
            raise OrganUnknown(f"'{key}' is not a key of the organ table.") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.organs)

    def __len__(self) -> int:
        return len(self.organs)

    def __contains__(self, key: object) -> bool:
        return key in self.organs


def load_organs(path: Path) -> OrganTable:
    """Read the organ table from TOML.

    Raises
    ------
    ConfigError
        If the file cannot be read or is invalid, with all problems of all organs.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path.name}: {error}") from error
    return _table(content, path.name)


@lru_cache(maxsize=8)
def _table(content: str, name: str) -> OrganTable:
    """The table of a TOML document, which nobody changes; ``name`` is that of its file, for messages."""
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from error
    problems: list[str] = []
    organs: dict[str, Organ] = {}
    names: dict[str, str] = {}
    for key, row in document.items():
        found = _problems(row)
        if not found:
            organs[key] = _organ(key, row)
            other = names.setdefault(organs[key].name.casefold(), key)
            found = [f"has the same name as {other}"] if other != key else []
        problems += [f"  {key} {problem}" for problem in found]
    if problems:
        raise ConfigError(f"{name}: {len(problems)} problems\n" + "\n".join(problems))
    return OrganTable(organs)


def join_tables(table: OrganTable, own: OrganTable, source: str) -> OrganTable:
    """A table with the organs of another one; a row of the other one replaces a row of the same key.

    Parameters
    ----------
    table : the table
    own : the other one
    source : file of the other one, for the message

    Raises
    ------
    ConfigError
        If the other one uses the name of an organ with another key.
    """
    organs = {**table.organs, **own.organs}
    names: dict[str, str] = {}
    twice = [
        f"  {own_key} has the same name as {key}"
        for own_key, organ in organs.items()
        if (key := names.setdefault(organ.name.casefold(), own_key)) != own_key
    ]
    if twice:
        raise ConfigError(f"{source}: {len(twice)} problems\n" + "\n".join(twice))
    return OrganTable(organs)


def _problems(row: Any) -> list[str]:
    if not isinstance(row, dict):
        return ["is not a table"]
    found = [f"lacks {name}" for name in sorted(_REQUIRED - row.keys())]
    found += [f"has unknown setting {name}" for name in sorted(row.keys() - _REQUIRED - _OPTIONAL)]
    found += [
        f"{name} must be text"
        for name in sorted((_REQUIRED | _OPTIONAL) - _NOT_TEXT)
        if not isinstance(row.get(name, ""), str)
    ]
    if not 1 <= len(str(row.get("name", "x"))) <= _MAX_NAME:
        found.append(f"name must have 1 to {_MAX_NAME} characters")
    found += [
        f"{name} must be three numbers from 0 to 255"
        for name in ("color", "display")
        if not _is_rgb(row, name)
    ]
    found += [
        f"{name} must be two numbers, the smaller one first"
        for name in _RANGES
        if name in row and not _is_range(row[name])
    ]
    if "gate_margins" in row and not _are_fractions(row["gate_margins"]):
        found.append("gate_margins must be two numbers above 0 and up to 1, for Dice and surface Dice")
    if "tolerance_mm" in row and not _is_positive(row["tolerance_mm"]):
        found.append("tolerance_mm must be a number above 0")
    if "observers" in row and not _are_observers(row["observers"]):
        found.append(f"observers must have a text source, and of {', '.join(_OBSERVED)} numbers above 0")
    if row.get("open_end", "both") not in _ENDS:
        found.append('open_end must be "head", "feet" or "both"')
    if row.get("side", "left") not in set(Side):
        found.append('side must be "left" or "right"')
    return found


def _is_rgb(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name, [0, 0, 0])
    return (
        isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)
    )


def _is_range(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(type(v) in {int, float} for v in value) and value[0] < value[1]


def _are_fractions(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(type(v) in {int, float} and 0 < v <= 1 for v in value)


def _is_positive(value: Any) -> bool:
    return type(value) in {int, float} and 0 < value < math.inf


def _are_observers(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("source"), str)
        and value.keys() <= {"source", *_OBSERVED}
        and all(_is_positive(value[name]) for name in value.keys() - {"source"})
    )


def _organ(key: str, row: Mapping[str, Any]) -> Organ:
    fields = dict(row)
    fields["color"] = tuple(row["color"])
    fields["display"] = tuple(row["display"])
    for name in (*_RANGES, "gate_margins"):
        if name in row:
            fields[name] = (float(row[name][0]), float(row[name][1]))
    if "tolerance_mm" in row:
        fields["tolerance_mm"] = float(row["tolerance_mm"])
    if "observers" in row:
        fields["observers"] = Observers(**row["observers"])
    fields["side"] = Side(row["side"]) if "side" in row else None
    return Organ(key=key, **fields)
