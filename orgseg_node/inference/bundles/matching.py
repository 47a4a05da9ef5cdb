"""Which organ a label of a foreign model is: by its name, never by guessing."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import OrganUnknown

_SIDES = {"l": "left", "lt": "left", "left": "left", "r": "right", "rt": "right", "right": "right"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# other names in use, as words without their side: TotalSegmentator, AMOS, BTCV, StructSeg, clinics
_ALIASES = {
    "adrenal": "adrenal_gland",
    "brain stem": "brainstem",
    "bladder": "urinary_bladder",
    "clavicula": "clavicle",
    "eye": "eyeball",
    "eyes": "eyeballs",
    "femur head": "femoral_head",
    "femur heads": "femoral_heads",
    "gallbladder": "gall_bladder",
    "glnd adrenal": "adrenal_gland",
    "gland adrenal": "adrenal_gland",
    "lung lower lobe": "lung",
    "lung middle lobe": "lung",
    "lung upper lobe": "lung",
    "mandibula": "mandible",
    "mandibular bone": "mandible",
    "oesophagus": "esophagus",
    "parotid gland": "parotid",
    "parotid glands": "parotids",
    "pelvic bone": "hip",
    "small intestine": "small_bowel",
    "spinalcord": "spinal_cord",
    "suprarenal gland": "adrenal_gland",
}
_BOTH_SIDES = {"kidney": "kidneys", "lung": "lungs"}  # one label for both, where no side is said
_VERTEBRA = re.compile(r"vertebrae?[_ -]?[CTL]\d+", re.IGNORECASE)  # without S1, which belongs to the sacrum


def read_organ_map(entries: Iterable[str]) -> dict[str, str]:
    """Organ maps as a person gives them: ``label=organ_key``, or a TOML or JSON file of such pairs.

    ``label=`` leaves a label out. Where several models use one label name, ``data set/label`` says which.

    Raises
    ------
    OrganUnknown
        If an entry is no pair or a file cannot be read.
    """
    found: dict[str, str] = {}
    for entry in entries:
        if "=" in entry:
            label, key = entry.split("=", 1)
            found[label.strip()] = key.strip()
        else:
            found |= _read_file(Path(entry))
    return found


def match_labels(
    model: str, labels: Mapping[int, str], given: Mapping[str, str], table: OrganTable
) -> tuple[dict[int, str], list[str]]:
    """The organ key of each label of a model.

    Parameters
    ----------
    model : name of its data set
    labels : name of each label number
    given : what a person said: organ key by label name, ``data set/label`` or number; empty to leave out
    table : the organ table

    Returns
    -------
    The organ key by label number, and a sentence for each label that could not be matched.
    """
    matched: dict[int, str] = {}
    unmatched: list[str] = []
    for number, name in labels.items():
        said = next((given[key] for key in _spellings(model, number, name) if key in given), None)
        key = _find(model, name, table, alone=len(labels) == 1) if said is None else said
        if key == "":
            continue
        if key is None or key not in table:
            unmatched.append(_complaint(model, name if said is None else f"{name}={said}", table))
        else:
            matched[number] = key
    return matched, unmatched


def unused_entries(given: Mapping[str, str], models: Iterable[tuple[str, Mapping[int, str]]]) -> list[str]:
    """What a person mapped although no model has such a label."""
    known = {
        s
        for model, labels in models
        for number, name in labels.items()
        for s in _spellings(model, number, name)
    }
    return sorted(given.keys() - known)


def organ_of_name(name: str, table: OrganTable) -> str | None:
    """The organ key that a name means, or None where none or more than one organ is meant."""
    return _index(table).get(_normal(name))


def _find(model: str, name: str, table: OrganTable, *, alone: bool) -> str | None:
    found = organ_of_name(name, table)
    if found is None and alone:  # a single-organ model often names its organ in its data set only
        found = organ_of_name(re.sub(r"^Dataset\d+_?", "", model), table)
    return found


def _spellings(model: str, number: int, name: str) -> tuple[str, ...]:
    return f"{model}/{name}", f"{model}/{number}", name, str(number)


def _complaint(model: str, label: str, table: OrganTable) -> str:
    near = difflib.get_close_matches(label.rsplit("=", maxsplit=1)[-1].lower(), list(table), n=1, cutoff=0.6)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{label} of {model}{hint}"


def _normal(name: str) -> tuple[str, str]:
    """A name as its words without side, and its side: ``RightParotid`` and ``Parotid_R`` are alike."""
    if _VERTEBRA.fullmatch(name):
        return "vertebrae", ""
    words = [word.lower() for word in _WORDS.findall(name)]
    sides = {_SIDES[word] for word in words if word in _SIDES}
    plain = [word for word in words if word not in _SIDES]
    if len(plain) > 1 and plain[-1].isdecimal():  # ribs are numbered
        plain.pop()
    said = " ".join(plain)
    said = _ALIASES.get(said, said) if sides else _ALIASES.get(said, _BOTH_SIDES.get(said, said))
    side = sides.pop() if len(sides) == 1 else " and ".join(sorted(sides))
    return re.sub(r"[_ ]", "", said), side


@cache
def _index_of(rows: tuple[tuple[str, str], ...]) -> dict[tuple[str, str], str]:
    index: dict[tuple[str, str], set[str]] = {}
    for key, name in rows:
        for spelling in (key, name):
            index.setdefault(_normal(spelling), set()).add(key)
    return {normal: keys.pop() for normal, keys in index.items() if len(keys) == 1}


def _index(table: OrganTable) -> dict[tuple[str, str], str]:
    return _index_of(tuple((key, organ.name) for key, organ in table.items()))


def _read_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
        document: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise OrganUnknown(
            f"'{path.name}' is neither LABEL=organ_key nor a readable TOML or JSON file."
        ) from error
    if not isinstance(document, dict) or not all(isinstance(v, str) for v in document.values()):
        raise OrganUnknown(f"'{path.name}' must hold organ keys by label name.")
    return document
