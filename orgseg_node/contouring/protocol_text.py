"""Changes of single settings in the text of a protocol; comments and order of the file stay.

Values are set as they were typed. Whether they are valid is decided by whoever reads the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT

from orgseg_node.contouring.protocol import Protocol
from orgseg_node.contouring.protocol_entries import DerivedEntry
from orgseg_node.errors import OptionInvalid, ProtocolInvalid

GENERAL: Final = ("description", "others", "implausible", "profile", "phase")
ORGAN: Final = (
    *("name", "color", "type", "min_ml", "implausible", "max_distance_mm", "keep_components"),
    *("min_island_ml", "fill_holes", "interpolate_slices"),
)
DERIVED: Final = ("name", "color", "type", "margin_mm", "inside_body_mm")
"""Settings that a form can change; all others are changed in the text."""

_TEXTS: Final = frozenset(
    {"description", "others", "implausible", "profile", "phase", "name", "type", "fill_holes"}
)
_COLOR: Final = re.compile(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_MOST_CHANGES: Final = 40


def change_settings(text: str, changes: Mapping[str, str], structure: int | None = None) -> str:
    """The text with other values of some settings.

    Parameters
    ----------
    text : of the protocol
    changes : values as they were typed, by setting; an empty one removes the setting
    structure : index of the structure whose settings they are; None for those of the whole protocol

    Raises
    ------
    ProtocolInvalid
        If the text is not TOML.
    OptionInvalid
        If there is no such structure.
    """
    document = _parsed(text)
    table: Any = document if structure is None else _structures(document, structure)[structure]
    added = {}
    for name, typed in changes.items():
        if not typed.strip():
            table.pop(name, None)
        elif structure is None and name not in table:
            added[name] = _value(name, typed.strip())
        else:
            table[name] = _value(name, typed.strip())
    return _with_first(tomlkit.dumps(document), added)


def add_organ(text: str, key: str) -> str:
    """The text with one more organ at the end of the list.

    Raises
    ------
    ProtocolInvalid
        If the text is not TOML.
    """
    _parsed(text)
    end = text if not text or text.endswith("\n") else f"{text}\n"
    return f"{end}\n[[structures]]\norgan = {_quoted(key)}\n"


def remove_structure(text: str, structure: int) -> str:
    """The text without one structure, by its index.

    Raises
    ------
    ProtocolInvalid
        If the text is not TOML.
    OptionInvalid
        If there is no such structure.
    """
    document = _parsed(text)
    del _structures(document, structure)[structure]
    return tomlkit.dumps(document)


def settings_of_text(text: str) -> dict[str, Any]:
    """The content of the text as plain values, also if it is no valid protocol; empty if it is not TOML."""
    try:
        return dict(_parsed(text).unwrap())
    except ProtocolInvalid:
        return {}


def typed_value(value: Any) -> str:
    """A value of a setting as a person types it into a field."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and len(value) == 3 and all(isinstance(one, int) for one in value):
        return "#{:02x}{:02x}{:02x}".format(*(min(255, max(0, one)) for one in value))
    return str(value)


def differences(before: Protocol, after: Protocol) -> tuple[str, ...]:
    """What differs between two protocols, in short words for the history."""
    found = [
        f"{name} {getattr(before, name)!r} -> {getattr(after, name)!r}"
        for name in (*GENERAL, "external")
        if getattr(before, name) != getattr(after, name)
    ]
    old, new = _by_name(before), _by_name(after)
    found += [f"{name} removed" for name in old if name not in new]
    found += [f"{name} added" for name in new if name not in old]
    for name in (name for name in new if name in old):
        found += [
            f"{name}.{key} {old[name].get(key)!r} -> {new[name].get(key)!r}"
            for key in sorted(old[name].keys() | new[name].keys())
            if old[name].get(key) != new[name].get(key)
        ]
    if [name for name in old if name in new] != [name for name in new if name in old]:
        found.append("another order")
    more = len(found) - _MOST_CHANGES
    return (*found[:_MOST_CHANGES], *((f"and {more} more",) if more > 0 else ()))


def _by_name(protocol: Protocol) -> dict[str, dict[str, Any]]:
    return {
        one.name if isinstance(one, DerivedEntry) else one.organ: one.model_dump(
            mode="json", by_alias=True, exclude_defaults=True
        )
        for one in protocol.structures
    }


def _parsed(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise ProtocolInvalid(f"The text is not TOML: {error}.") from error


def _structures(document: tomlkit.TOMLDocument, structure: int) -> AoT:
    found = document.get("structures")
    if not isinstance(found, AoT) or not 0 <= structure < len(found):
        raise OptionInvalid("There is no such structure in the text any more; open it again.")
    return found


def _with_first(text: str, settings: Mapping[str, Any]) -> str:
    """The text with more settings of the whole protocol, which must stand before the first structure."""
    if not settings:
        return text
    lines = [f"{line}\n" for line in text.split("\n")]
    lines = lines[:-1] if text.endswith("\n") or not text else lines
    first = next((n for n, line in enumerate(lines) if line.strip() and line.lstrip()[0] != "#"), len(lines))
    new = [f"{name} = {tomlkit.item(value).as_string()}\n" for name, value in settings.items()]
    return "".join([*lines[:first], *new, *lines[first:]])


def _value(name: str, typed: str) -> Any:
    """A typed value as TOML; what is no number stays text, and is refused by whoever reads the protocol."""
    if name in _TEXTS:
        return typed
    if name == "color" and (found := _COLOR.fullmatch(typed)):
        return [int(part, 16) for part in found.groups()]
    if typed in {"true", "false"}:
        return typed == "true"
    for kind in (int, float):
        try:
            return kind(typed)
        except ValueError:
            continue
    return typed


def _quoted(text: str) -> str:
    return tomlkit.item(text).as_string()


def structures_in(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The structures of a content, as far as it can be read."""
    found = content.get("structures")
    every = found if isinstance(found, list) else []
    return [one if isinstance(one, Mapping) else {} for one in every]
