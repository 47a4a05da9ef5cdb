"""Protocols: which structures a structure set holds, how they are called, and what is made from them.

A protocol is one TOML file, read once; `load_protocol` reports every problem at once. What it asks for is
done by `node.applying`. Those that come with the node lie in ``config/protocols``.
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
    OrganEntry,
    Section,
    SixMm,
)
from orgseg_node.core.organs import OrganTable, Side
from orgseg_node.errors import ConfigError
from orgseg_node.shipped import shipped_config

FOLDER: Final = "protocols"
ASK, FIRST = "ask", "first"
"""What is done with a series of several volumes: hold it, or take the first; else the name of one."""
Tps = Literal["generic", "eclipse", "raystation", "monaco", "pinnacle"]


class Protocol(Section):
    """What a structure set holds.

    Attributes
    ----------
    description : one sentence for people
    profile : the planning system whose limits it keeps to
    phase : what is done with a series that holds several volumes, such as a 4DCT: ``ask`` holds it, ``first``
        takes the first, anything else is the name or number of the part to take
    others : what becomes of organs that are not listed
    structures : in the order in which the planning system shall list them
    external : the outline of the patient; None not to draw it
    """

    description: str = ""
    profile: Tps = "generic"
    phase: Annotated[str, Field(min_length=1)] = ASK
    others: Literal["keep", "drop"] = "keep"
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
        """The organs it lists."""
        return tuple(entry for entry in self.structures if isinstance(entry, OrganEntry))

    @property
    def derived(self) -> tuple[DerivedEntry, ...]:
        """What it makes from them, in order."""
        return tuple(entry for entry in self.structures if isinstance(entry, DerivedEntry))

    @property
    def as_json(self) -> dict[str, Any]:
        """What `parse_protocol` makes the same protocol from: what was given, without the defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @property
    def sha256(self) -> str:
        """Hash of all that changes a result; the description does not."""
        content = self.model_dump(mode="json", exclude={"description"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def check_organs(self, table: OrganTable) -> None:
        """Refuse organs that the table does not have, and names that it has already given.

        Raises
        ------
        ConfigError
            With one line for each problem.
        """
        problems = [*_unknown(self, table), *_wrong_sides(self, table), *_given_by_table(self, table)]
        if problems:
            lines = "\n".join(f"  {problem}" for problem in problems)
            raise ConfigError(f"The protocol does not fit to the organ table:\n{lines}")


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
    outlines = [entry.name or entry.organ for entry in protocol.organs if entry.type == "EXTERNAL"]
    outlines += [entry.name for entry in protocol.derived if entry.type == "EXTERNAL"]
    outlines += [protocol.external.name] if protocol.external else []
    if len(outlines) > 1:
        said = ", ".join(map(repr, outlines))
        yield f"structures: only one may be the outline of the patient (EXTERNAL), not {said}"
    yield from _wrong_sources(protocol)


def _wrong_sources(protocol: Protocol) -> Iterator[str]:
    """What is made from something that is not there yet, or no more."""
    made: set[str] = set()
    later = {entry.name for entry in protocol.derived}
    divided = {entry.organ for entry in protocol.organs if entry.split}
    for entry in protocol.derived:
        for name in dict.fromkeys((*entry.source, *entry.minus)):
            if name == entry.name:
                yield f"structures: {entry.name!r} is made from itself"
            elif name in later and name not in made:
                yield f"structures: {entry.name!r} is made from {name!r}, which comes after it"
            elif name in divided:
                yield f"structures: {entry.name!r} is made from {name!r}, which is split; name its parts"
        made.add(entry.name)


def _unknown(protocol: Protocol, table: OrganTable) -> Iterator[str]:
    """Organs that the table does not have."""
    made = {entry.name for entry in protocol.derived}
    used = [key for entry in protocol.organs for key in (entry.organ, *(entry.split or ()))]
    for entry in protocol.derived:
        used += [key for key in (*entry.source, *entry.minus) if key not in made]
        used += [entry.like] if entry.like else []
    for key in dict.fromkeys(used):
        if key not in table:
            yield f"{key!r} is no organ{_meant(key, table)}"


def _wrong_sides(protocol: Protocol, table: OrganTable) -> Iterator[str]:
    """Parts of a split organ that are not the left and then the right one."""
    for entry in protocol.organs:
        sides = [table[key].side for key in entry.split or () if key in table]
        if len(sides) == 2 and sides != [Side.LEFT, Side.RIGHT]:
            yield f"{entry.organ!r} is split into a left and a right organ, in this order"


def _given_by_table(protocol: Protocol, table: OrganTable) -> Iterator[str]:
    """Names that would mean two things: keys of organs, and names that listed organs have from the table."""
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
    """A protocol by its name, or by the path of its file (with ``.toml`` at the end).

    Raises
    ------
    ConfigError
        If there is none, or with one line for each problem of the file.
    """
    path = Path(name).expanduser()
    if path.suffix != ".toml":
        if name not in protocol_names():
            near = difflib.get_close_matches(name, protocol_names(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(protocol_names())}."
            raise ConfigError(f"There is no protocol {name!r}{hint}")
        path = shipped_config(FOLDER) / f"{name}.toml"
    try:
        return parse_protocol(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error


def parse_protocol(content: Mapping[str, Any], said: str) -> Protocol:
    """A protocol from what its file or a job's request holds.

    Parameters
    ----------
    content : as TOML or JSON gives it
    said : what to call it in an error

    Raises
    ------
    ConfigError
        With one line for each problem.
    """
    try:
        return Protocol.model_validate(content)
    except ValidationError as error:
        lines = [line for item in error.errors() for line in _lines(dict(item))]
        raise ConfigError(f"{said}:\n" + "\n".join(f"  {line}" for line in dict.fromkeys(lines))) from error


def _lines(item: dict[str, Any]) -> list[str]:
    """One problem as pydantic tells it, in words a physicist understands."""
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
    """The names that would be allowed where an unknown name stands."""
    model: type[BaseModel] = Protocol
    if place[0] == "external":
        model = External
    elif place[0] == "structures":
        model = DerivedEntry if place[2] == "derived" else OrganEntry
        model = SixMm if "six" in place else model
    return [field.alias or name for name, field in model.model_fields.items()]


def _meant(key: str, table: OrganTable) -> str:
    near = difflib.get_close_matches(key, list(table), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
