"""Routing rules as they are written: an ordered list, of which the first that fits decides.

A rule names what must be true of a series (`node.conditions`) and what is done with it: it is contoured, with
a protocol, bundles, destinations, priority and review of its own, or held, or ignored. What no rule fits is
decided by the implicit last rule, `DEFAULT`. How a series is held against them stands in `node.decisions`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from orgseg_node.node.config.conditions import Condition, parse_conditions
from orgseg_node.node.config.section import Section, tables

DEFAULT: Final = "default"
"""The name of the implicit last rule, which fits every series."""

PRIORITIES: Final[Mapping[str, int]] = {"urgent": 10, "high": 30, "normal": 50, "low": 70}
"""Words for priorities; the smaller number is contoured first."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_CONTOUR_SETTINGS: Final = ("protocol", "bundles", "destinations", "priority", "review")
_TABLE: Final = "rule"


class Action(StrEnum):
    """What becomes of a series."""

    CONTOUR = "contour"
    HOLD = "hold"
    IGNORE = "ignore"


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name has up to 32 letters, digits, '-' or '_'")
    if value == DEFAULT:
        raise ValueError(f"{DEFAULT!r} is the name of the implicit last rule; choose another")
    return value


def _when(value: dict[str, Any]) -> dict[str, Any]:
    parse_conditions(value)
    return value


def _once(value: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({name for name in value if value.count(name) > 1})
    if repeated:
        raise ValueError(f"named twice: {', '.join(repeated)}")
    return value


def _priority(value: Any) -> int:
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1000:
        raise ValueError(f"one of {', '.join(PRIORITIES)}, or a number from 0 (first) to 1000, not {value!r}")
    return value


Names = Annotated[tuple[str, ...], AfterValidator(_once)]


class Rule(Section):
    """One routing rule.

    Attributes
    ----------
    name : how logs, jobs and ignored series call it
    when : conditions, all of which must hold; without any it fits every series
    action : what becomes of a series that it fits
    protocol, bundles, destinations : other than the node's, by name; ``[]`` of destinations keeps it here
    priority : a word of `PRIORITIES` or a number, the smaller the sooner
    review : whether a person releases the result before it is sent
    """

    name: Annotated[str, AfterValidator(_name)]
    when: Annotated[dict[str, Any], AfterValidator(_when)] = Field(default_factory=dict)
    action: Action = Action.CONTOUR
    protocol: Annotated[str, Field(min_length=1)] | None = None
    bundles: Annotated[Names, Field(min_length=1)] | None = None
    destinations: Names | None = None
    priority: Annotated[int, BeforeValidator(_priority)] = PRIORITIES["normal"]
    review: Annotated[bool, Field(strict=True)] = False

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What must hold, in the order in which it is written."""
        return parse_conditions(self.when)


class RulesSection(Section):
    """Where the rules are, and what becomes of a series that fits none.

    Attributes
    ----------
    file : a TOML file with the rules; None where they stand in the configuration itself, or there are none
    otherwise : whether such a series is contoured as the configuration says, or held
    """

    file: Path | None = None
    otherwise: Literal["contour", "hold"] = "contour"


def merge_rules_file(data: dict[str, Any], base: Path) -> list[str]:
    """Put the rules of the file that a configuration names beside its other settings.

    Parameters
    ----------
    data : the configuration as TOML gives it; it gains the rules
    base : folder that the file's name is relative to

    Returns
    -------
    One line for each problem of the file as such.
    """
    named = _named_file(data)
    if named is None:
        return []
    if data.get(_TABLE):
        return ["rules.file: the rules stand in this file or in that one, not in both"]
    path = base / named.expanduser()
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return [f"rules.file: {path}: {error.strerror or error}"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return [f"rules.file: {path} is not TOML: {error}"]
    problems = []
    for key in found:
        if key != _TABLE:
            near = difflib.get_close_matches(key, [_TABLE], n=1)
            problems.append(f"{path.name}: {key}: there is no such setting{_hint(near)}")
    data[_TABLE] = found.get(_TABLE, [])
    return problems


def resolve_rules(rules: tuple[Rule, ...], section: RulesSection, base: Path) -> tuple[Rule, ...]:
    """The same with the files of protocols relative to the folder of the file they are named in."""
    folder = base if section.file is None else (base / section.file.expanduser()).parent
    return tuple(
        rule.model_copy(update={"protocol": str(folder / Path(rule.protocol).expanduser())})
        if rule.protocol is not None and rule.protocol.endswith(".toml")
        else rule
        for rule in rules
    )


def rule_contradictions(data: Mapping[str, Any]) -> list[str]:
    """What is wrong between rules, and between rules and other settings; bears wrong single settings."""
    rules = [(f"{_TABLE}.{int(number) + 1}", rule) for number, rule in tables(data.get(_TABLE))]
    names = [rule.get("name") for _, rule in rules]
    problems = [
        f"{_TABLE}: the name {name!r} is given twice"
        for name in sorted({str(name) for name in names if name is not None and names.count(name) > 1})
    ]
    for place, rule in rules[:-1]:
        if not rule.get("when"):
            problems.append(
                f"{place}: it has no condition and so fits every series; no rule after it is used"
            )
    destinations = [name for name, _ in tables(data.get("destinations"))]
    node = dict(tables(data)).get("node", {})
    titles = [node.get("ae_title", "ORGSEG"), *_texts(node.get("also_called"))]
    for place, rule in rules:
        problems += _unused_settings(place, rule)
        problems += _unknown(f"{place}.destinations", _texts(rule.get("destinations")), destinations)
        problems += _unknown(f"{place}.when.called_ae", _called_ae_titles(rule), titles)
    return problems


def _unused_settings(place: str, rule: Mapping[str, Any]) -> Iterator[str]:
    """Settings that mean nothing beside the action of the same rule."""
    if rule.get("action", Action.CONTOUR) in (Action.HOLD, Action.IGNORE):
        defaults = {name: field.default for name, field in Rule.model_fields.items()}
        for name in _CONTOUR_SETTINGS:
            if name in rule and rule[name] != defaults[name]:
                yield f"{place}.{name}: a series that is not contoured has none"


def _called_ae_titles(rule: Mapping[str, Any]) -> list[str]:
    """The called AE titles that a rule names in full."""
    when = rule.get("when")
    wanted = when.get("called_ae") if isinstance(when, dict) else None
    if isinstance(wanted, dict):
        return [*_texts(wanted.get("is")), *_texts(wanted.get("in"))]
    return _texts(wanted)


def _unknown(place: str, names: list[str], there: list[str]) -> Iterator[str]:
    for name in names:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            known = "" if near else f"; there are: {', '.join(map(str, there)) or 'none'}"
            yield f"{place}: there is no {name!r}{_hint(near)}{known}"


def _hint(near: list[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""


def _texts(value: Any) -> list[str]:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [part for part in parts if isinstance(part, str)]


def _named_file(data: Mapping[str, Any]) -> Path | None:
    section = dict(tables(data)).get("rules", {})
    file = section.get("file")
    return Path(file) if isinstance(file, str) and file else None
