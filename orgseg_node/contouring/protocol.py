"""Protocols: the structures of a structure set, their names, and the structures derived from them.

A protocol is one TOML file; `load_protocol` reports all its problems at once. `contouring.structures` applies
it. The protocols that come with the node are in ``config/protocols``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from orgseg_node.contouring.protocol_entries import (
    FORMS,
    DerivedEntry,
    Entry,
    External,
    Implausible,
    OrganEntry,
    Section,
    SixMm,
)
from orgseg_node.core.organs import OrganTable, Side
from orgseg_node.errors import ProtocolInvalid
from orgseg_node.shipped import shipped_config

FOLDER: Final = "protocols"
ASK, FIRST = "ask", "first"
"""What is done with a series of several volumes: ``ask`` holds it, ``first`` takes the first volume."""
Tps = Literal["generic", "eclipse", "raystation", "monaco", "pinnacle"]


class Protocol(Section):
    """The content of a structure set.

    Attributes
    ----------
    description : one sentence for people
    profile : the planning system whose limits the structure set keeps
    phase : what is done with a series of several volumes, such as a 4DCT: ``ask`` holds it, ``first`` takes
        the first volume, anything else is the name or number of the volume to take
    others : whether organs that are not listed are kept or dropped
    implausible : what is done with an organ that the reference anatomy of its model says is almost certainly
        wrong: ``drop`` leaves it out, ``hold`` waits for a person, ``flag`` sends it with a warning
    structures : in the order in which the planning system shall list them
    external : the body contour; None for a structure set without it
    """

    description: str = ""
    profile: Tps = "generic"
    phase: Annotated[str, Field(min_length=1)] = ASK
    others: Literal["keep", "drop"] = "keep"
    implausible: Implausible = "drop"
    structures: tuple[Entry, ...] = ()
    external: External | None = None

    @model_validator(mode="after")
    def _check(self) -> Protocol:
        problems = list(_contradictions(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def organs(self) -> tuple[OrganEntry, ...]:
        """The listed organs."""
        return tuple(entry for entry in self.structures if isinstance(entry, OrganEntry))

    @property
    def derived(self) -> tuple[DerivedEntry, ...]:
        """The derived structures, in order."""
        return tuple(entry for entry in self.structures if isinstance(entry, DerivedEntry))

    @property
    def needed_organs(self) -> frozenset[str] | None:
        """Keys of the organs that it uses, also as a source of others; None if it uses all that are found."""
        if self.others == "keep":
            return None
        made = {entry.name for entry in self.derived}
        used = {key for entry in self.organs for key in (entry.organ, *(entry.split or ()))}
        used |= {key for entry in self.derived for key in (*entry.source, *entry.minus)}
        return frozenset(used - made)

    @property
    def as_json(self) -> dict[str, Any]:
        """The settings that were given, without defaults, as `parse_protocol` reads them."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @property
    def sha256(self) -> str:
        """Hash of all settings that change a result, that is all except the description."""
        content = self.model_dump(mode="json", exclude={"description"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def implausible_of(self, key: str) -> Implausible:
        """What is done with an organ, by its key, that is almost certainly wrong."""
        for entry in self.organs:
            if key in entry.keys and entry.implausible is not None:
                return entry.implausible
        return self.implausible

    def check_organs(self, table: OrganTable) -> None:
        """Check that all organs are in the table, and that no name has another meaning there.

        Raises
        ------
        ProtocolInvalid
            With one line for each problem.
        """
        problems = [*_unknown(self, table), *_wrong_sides(self, table), *_ambiguous_names(self, table)]
        if problems:
            lines = "\n".join(f"  {problem}" for problem in problems)
            raise ProtocolInvalid(f"The protocol does not fit to the organ table:\n{lines}")


def _contradictions(protocol: Protocol) -> Iterator[str]:
    keys = [key for entry in protocol.organs for key in entry.keys]
    keys += [entry.organ for entry in protocol.organs if entry.split]
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield f"structures: organ {key!r} is listed twice"
    names = [entry.name for entry in protocol.structures if entry.name]
    names += [protocol.external.name] if protocol.external else []
    folded = [name.casefold() for name in names]
    for name in sorted({name for name in names if folded.count(name.casefold()) > 1}):
        yield f"structures: the name {name!r} is given twice"
    externals = [entry.name or entry.organ for entry in protocol.organs if entry.type == "EXTERNAL"]
    externals += [entry.name for entry in protocol.derived if entry.type == "EXTERNAL"]
    externals += [protocol.external.name] if protocol.external else []
    if len(externals) > 1:
        listed = ", ".join(map(repr, externals))
        yield f"structures: only one may be the outline of the patient (EXTERNAL), not {listed}"
    yield from _wrong_sources(protocol)


def _wrong_sources(protocol: Protocol) -> Iterator[str]:
    """Derived structures whose source comes after them or no longer exists."""
    before: set[str] = set()
    names = {entry.name for entry in protocol.derived}
    split = {entry.organ for entry in protocol.organs if entry.split}
    for entry in protocol.derived:
        for name in dict.fromkeys((*entry.source, *entry.minus)):
            if name == entry.name:
                yield f"structures: {entry.name!r} is made from itself"
            elif name in names and name not in before:
                yield f"structures: {entry.name!r} is made from {name!r}, which comes after it"
            elif name in split:
                yield f"structures: {entry.name!r} is made from {name!r}, which is split; name its parts"
        before.add(entry.name)


def _unknown(protocol: Protocol, table: OrganTable) -> Iterator[str]:
    """Organs that are not in the table."""
    derived = {entry.name for entry in protocol.derived}
    used = [key for entry in protocol.organs for key in (entry.organ, *(entry.split or ()))]
    for entry in protocol.derived:
        used += [key for key in (*entry.source, *entry.minus) if key not in derived]
        used += [entry.like] if entry.like else []
    for key in dict.fromkeys(used):
        if key not in table:
            yield f"{key!r} is no organ{_suggestion(key, table)}"


def _wrong_sides(protocol: Protocol, table: OrganTable) -> Iterator[str]:
    """Split organs whose parts are not the left and then the right organ."""
    for entry in protocol.organs:
        sides = [table[key].side for key in entry.split or () if key in table]
        if len(sides) == 2 and sides != [Side.LEFT, Side.RIGHT]:
            yield f"{entry.organ!r} is split into a left and a right organ, in this order"


def _ambiguous_names(protocol: Protocol, table: OrganTable) -> Iterator[str]:
    """Names with two meanings: keys of organs, and names that listed organs have in the table."""
    yield from (f"{e.name!r} is the key of an organ and no name" for e in protocol.derived if e.name in table)
    names = [entry.name for entry in protocol.structures if entry.name]
    names += [protocol.external.name] if protocol.external else []
    taken = {name.casefold() for name in names}
    unnamed = [key for entry in protocol.organs if not entry.name for key in entry.keys]
    for key in unnamed:
        if key in table and table[key].name.casefold() in taken:
            yield f"the name {table[key].name!r} is that of organ {key!r}, and given to another structure"


def protocol_names() -> tuple[str, ...]:
    """Names of the protocols that come with the node."""
    return tuple(sorted(path.stem for path in shipped_config(FOLDER).glob("*.toml")))


def load_protocol(name: str) -> Protocol:
    """Load a protocol by its name, or by the path of its file, which ends with ``.toml``.

    Raises
    ------
    ProtocolInvalid
        If it does not exist, or with one line for each problem of the file.
    """
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        if name not in protocol_names():
            near = difflib.get_close_matches(name, protocol_names(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(protocol_names())}."
            raise ProtocolInvalid(f"There is no protocol {name!r}{hint}")
        path = shipped_config(FOLDER) / f"{name}.toml"
    try:
        return protocol_of_text(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise ProtocolInvalid(f"{path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ProtocolInvalid(f"{path} is not TOML: {error}.") from error


def protocol_of_text(text: str, source: str) -> Protocol:
    """Make a protocol from the text of its file.

    Raises
    ------
    ProtocolInvalid
        With one line for each problem.
    """
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ProtocolInvalid(f"{source} is not TOML: {error}.") from error
    return parse_protocol(content, source)


def parse_protocol(content: Mapping[str, Any], source: str) -> Protocol:
    """Make a protocol from the content of its file or of a job's request.

    Parameters
    ----------
    content : as parsed from TOML or JSON
    source : what an error message calls it, such as the name of the file

    Raises
    ------
    ProtocolInvalid
        With one line for each problem.
    """
    try:
        return Protocol.model_validate(content)
    except ValidationError as error:
        lines = [line for item in error.errors() for line in _lines(dict(item))]
        raise ProtocolInvalid(
            f"{source}:\n" + "\n".join(f"  {line}" for line in dict.fromkeys(lines))
        ) from error


def _lines(item: dict[str, Any]) -> list[str]:
    """One problem that pydantic reports, in words a physicist understands."""
    place = [part for n, part in enumerate(item["loc"]) if n != 2 or item["loc"][0] != "structures"]
    place = [part for part in place if part not in FORMS]
    name = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in place)
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _settings(item["loc"]), n=1)
        return [f"{name}: there is no such setting{f'; did you mean {near[0]!r}?' if near else ''}"]
    if item["type"] == "missing":
        return [f"{name}: is missing"]
    if item["type"] == "value_error":
        return [f"{name}: {line}" if name else line for line in str(item["ctx"]["error"]).splitlines()]
    return [f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}"]


def _settings(place: tuple[Any, ...]) -> list[str]:
    """The settings that exist at the place of an unknown one."""
    model: type[BaseModel] = Protocol
    if place[0] == "external":
        model = External
    elif place[0] == "structures":
        model = DerivedEntry if place[2] == "derived" else OrganEntry
        model = SixMm if "six" in place else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _suggestion(key: str, table: OrganTable) -> str:
    near = difflib.get_close_matches(key, list(table), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
