"""The organ of each label of a model from outside, found by its name, never guessed."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orgseg_node.core.naming.dictionary import name_dictionary
from orgseg_node.core.organs import OrganTable
from orgseg_node.errors import OrganUnknown

# labels that are one part of an organ, with the organ of which they are a part
_VERTEBRA = re.compile(r"vertebrae?[_ -]?[CTL]\d+", re.IGNORECASE)  # without S1, which belongs to the sacrum
_RIB = re.compile(r"(rib[_ -](?:left|right))[_ -]?\d+", re.IGNORECASE)
_LOBE = re.compile(r"(lung)[_ -](?:upper|middle|lower)[_ -]lobe(?=[_ -])", re.IGNORECASE)
_BOTH_SIDES = {"kidney": "kidneys", "lung": "lungs"}  # one label for both, if no side is named


def read_organ_map(entries: Iterable[str]) -> dict[str, str]:
    """The user's organ map: ``label=organ_key``, or a TOML or JSON file of such pairs.

    ``label=`` leaves a label out. If several models use the same label name, write ``data set/label``.

    Raises
    ------
    OrganUnknown
        If an entry is not a pair, or a file cannot be read.
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
    given : the user's organ map: organ key by label name, ``data set/label`` or number; an empty key leaves
        it out
    table : the organ table

    Returns
    -------
    The organ key by label number, and a sentence for each label that could not be matched.
    """
    matched: dict[int, str] = {}
    unmatched: list[str] = []
    for number, name in labels.items():
        mapped = next((given[key] for key in _spellings(model, number, name) if key in given), None)
        key = _find(model, name, table, alone=len(labels) == 1) if mapped is None else mapped
        if key == "":
            continue
        if key is None or key not in table:
            unmatched.append(_complaint(model, name if mapped is None else f"{name}={mapped}", table))
        else:
            matched[number] = key
    return matched, unmatched


def unknown_labels(
    model: str, labels: Mapping[int, str], given: Mapping[str, str], table: OrganTable
) -> list[str]:
    """The labels of a model that the organ map does not name and that no organ of the table is called.

    Parameters
    ----------
    model, labels, given, table : see `match_labels`
    """
    return [
        name
        for number, name in labels.items()
        if not any(key in given for key in _spellings(model, number, name))
        and _find(model, name, table, alone=len(labels) == 1) not in table
    ]


def unused_entries(given: Mapping[str, str], models: Iterable[tuple[str, Mapping[int, str]]]) -> list[str]:
    """Entries of the user's organ map for labels that no model has."""
    known = {
        s
        for model, labels in models
        for number, name in labels.items()
        for s in _spellings(model, number, name)
    }
    return sorted(given.keys() - known)


def organ_of_name(name: str, table: OrganTable) -> str | None:
    """The organ key of a label of a model, which may be one part of an organ; None if it is not certain."""
    if name in table:
        return name
    if _VERTEBRA.fullmatch(name):
        return "vertebrae" if "vertebrae" in table else None
    whole = _LOBE.sub(r"\1", _RIB.sub(r"\1", name))
    alone = _BOTH_SIDES.get(whole.strip().casefold())
    return alone if alone in table else name_dictionary(table).organ(whole)


def _find(model: str, name: str, table: OrganTable, *, alone: bool) -> str | None:
    found = organ_of_name(name, table)
    if found is None and alone:  # a model of one organ often names it only in the name of its data set
        found = organ_of_name(re.sub(r"^Dataset\d+_?", "", model), table)
    return found


def _spellings(model: str, number: int, name: str) -> tuple[str, ...]:
    return f"{model}/{name}", f"{model}/{number}", name, str(number)


def _complaint(model: str, label: str, table: OrganTable) -> str:
    near = difflib.get_close_matches(label.rsplit("=", maxsplit=1)[-1].lower(), list(table), n=1, cutoff=0.6)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{label} of {model}{hint}"


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
