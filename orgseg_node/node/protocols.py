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

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from orgseg_node.core.margins import Margin
from orgseg_node.core.organs import OrganTable, Rgb
from orgseg_node.core.postprocess import FillHoles, Tidying
from orgseg_node.errors import ConfigError
from orgseg_node.shipped import shipped_config

FOLDER: Final = "protocols"
ASK, FIRST = "ask", "first"
"""What is done with a series of several volumes: hold it, or take the first; else the name of one."""
Tps = Literal["generic", "eclipse", "raystation", "monaco", "pinnacle"]

_Name = Annotated[str, Field(min_length=1, max_length=64)]
_Mm = Annotated[float, Field(ge=0, le=200)]
_Channel = Annotated[int, Field(ge=0, le=255)]
_Color = tuple[_Channel, _Channel, _Channel]
_Type = Literal["ORGAN", "OAR", "AVOIDANCE", "CONTROL", "EXTERNAL", "CAVITY", "SUPPORT", "FIXATION"]


_FORMS: Final = ("one", "three", "six")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class SixMm(_Section):
    """A margin for each direction of the patient."""

    left: _Mm = 0.0
    right: _Mm = 0.0
    anterior: _Mm = 0.0
    posterior: _Mm = 0.0
    superior: _Mm = 0.0
    inferior: _Mm = 0.0


def _form(value: Any) -> str:
    """How a margin is given."""
    if isinstance(value, (dict, SixMm)):
        return "six"
    return "three" if isinstance(value, (list, tuple)) else "one"


MarginMm = Annotated[
    Annotated[_Mm, Tag("one")] | Annotated[tuple[_Mm, _Mm, _Mm], Tag("three")] | Annotated[SixMm, Tag("six")],
    Discriminator(_form),
]
"""One margin, three (left-right, front-back, head-feet), or six by name."""


def margin_of(value: MarginMm) -> Margin:
    """A margin as the core knows it."""
    if isinstance(value, SixMm):
        return Margin(**value.model_dump())
    if isinstance(value, tuple):
        return Margin.along(*value)
    return Margin.even(value)


class OrganEntry(_Section):
    """An organ that a model finds.

    Attributes
    ----------
    organ : its key in the organ table
    name, color, type : other than those of the organ table
    min_ml : smaller organs are left out
    split : keys of the left and the right organ into which it is divided
    keep_components, min_island_ml, fill_holes, interpolate_slices : see `Tidying`
    """

    organ: str
    name: _Name | None = None
    color: _Color | None = None
    type: _Type | None = None
    min_ml: Annotated[float, Field(ge=0)] = 0.0
    split: tuple[str, str] | None = None
    keep_components: Annotated[int, Field(ge=1)] | None = None
    min_island_ml: Annotated[float, Field(ge=0)] = 0.0
    fill_holes: FillHoles = FillHoles.NONE
    interpolate_slices: bool = False

    @model_validator(mode="after")
    def _check(self) -> OrganEntry:
        if self.split and (self.name or self.color):
            raise ValueError("what is split takes names and colours of the two organs in the organ table")
        return self

    @property
    def tidying(self) -> Tidying:
        """What is done to it."""
        return Tidying(
            keep_components=self.keep_components,
            min_island_ml=self.min_island_ml,
            fill_holes=self.fill_holes,
            interpolate_slices=self.interpolate_slices,
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the organs that come of it."""
        return self.split or (self.organ,)


class DerivedEntry(_Section):
    """A structure made from organs, or from structures made before it.

    Attributes
    ----------
    name : how it is called
    derive : ``margin`` (grown), ``shrink``, ``ring``, ``union``, ``intersection``, ``subtraction``
    source : keys of organs, or names of structures made before; several are united first, but for an
        intersection
    minus : for a subtraction, what is taken away
    margin_mm : for margin and shrink, and for a subtraction the margin around what is taken away
    inner_mm, outer_mm : for a ring
    inside_body_mm : cut to the patient, so far under the skin; None not to cut
    like : key of the organ whose codes it gets; without it, those of the first source
    """

    name: _Name
    derive: Literal["margin", "shrink", "ring", "union", "intersection", "subtraction"]
    source: Annotated[tuple[str, ...], Field(alias="from", min_length=1)]
    minus: tuple[str, ...] = ()
    margin_mm: MarginMm = 0.0
    inner_mm: MarginMm = 0.0
    outer_mm: MarginMm = 0.0
    inside_body_mm: _Mm | None = None
    like: str | None = None
    color: _Color | None = None
    type: _Type | None = None

    @model_validator(mode="after")
    def _check(self) -> DerivedEntry:
        given = self.model_fields_set
        wanted: dict[str, set[str]] = {
            "margin": {"margin_mm"},
            "shrink": {"margin_mm"},
            "ring": {"outer_mm"},
            "subtraction": {"minus"},
        }
        allowed = {"ring": {"inner_mm"}, "subtraction": {"margin_mm"}}
        need = wanted.get(self.derive, set())
        problems = [f"'{self.derive}' needs {name}" for name in sorted(need - given)]
        fitting = need | allowed.get(self.derive, set())
        extra = {"margin_mm", "inner_mm", "outer_mm", "minus"} & given - fitting
        problems += [f"'{self.derive}' has no {name}" for name in sorted(extra)]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def key(self) -> str:
        """Its stable name among all structures."""
        return f"derived {self.name.casefold()}"


class External(_Section):
    """The outline of the patient as a structure; it may set the limit of a dose calculation."""

    name: _Name = "BODY"
    color: _Color | None = None


def _kind(value: Any) -> str:
    derives = "derive" in value if isinstance(value, dict) else isinstance(value, DerivedEntry)
    return "derived" if derives else "organ"


Entry = Annotated[
    Annotated[OrganEntry, Tag("organ")] | Annotated[DerivedEntry, Tag("derived")], Discriminator(_kind)
]


class Protocol(_Section):
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
        """Refuse organs that the table does not have.

        Raises
        ------
        ConfigError
            With one line for each of them.
        """
        made = {entry.name for entry in self.derived}
        used = [key for entry in self.organs for key in (entry.organ, *(entry.split or ()))]
        for entry in self.derived:
            used += [key for key in (*entry.source, *entry.minus) if key not in made]
            used += [entry.like] if entry.like else []
        unknown = [key for key in dict.fromkeys(used) if key not in table]
        if unknown:
            lines = "\n".join(f"  {key!r} is no organ{_meant(key, table)}" for key in unknown)
            raise ConfigError(f"The protocol names organs that the organ table does not have:\n{lines}")


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
    made: set[str] = set()
    later = {entry.name for entry in protocol.derived}
    for entry in protocol.derived:
        for name in (*entry.source, *entry.minus):
            if name in later and name not in made:
                yield f"structures: {entry.name!r} is made from {name!r}, which comes after it"
        made.add(entry.name)


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


def color_of(value: _Color | None, otherwise: Rgb) -> Rgb:
    """The colour of an entry, or another where it has none."""
    return otherwise if value is None else value


def _lines(item: dict[str, Any]) -> list[str]:
    """One problem as pydantic tells it, in words a physicist understands."""
    place = [part for n, part in enumerate(item["loc"]) if n != 2 or item["loc"][0] != "structures"]
    place = [part for part in place if part not in _FORMS]
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
    models: list[type[BaseModel]] = [Protocol]
    if place[0] == "external":
        models = [External]
    elif place[0] == "structures":
        models = [DerivedEntry if "derived" in place else OrganEntry]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _meant(key: str, table: OrganTable) -> str:
    near = difflib.get_close_matches(key, list(table), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
