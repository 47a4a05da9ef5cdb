"""Configuration of routing rules: an ordered list, of which the first rule that applies decides.

A rule has conditions on a series (`conditions`) and an action: the series is contoured, with a protocol,
bundles, destinations, priority and review of its own, or held, or ignored. The implicit last rule, `DEFAULT`,
applies where no other does. `routing.decision` applies the rules to a series.
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
"""The name of the implicit last rule, which applies to every series."""

PRIORITIES: Final[Mapping[str, int]] = {"urgent": 10, "high": 30, "normal": 50, "low": 70}
"""Names of priorities; the smaller number is contoured first."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_CONTOUR_SETTINGS: Final = ("protocol", "bundles", "destinations", "priority", "review")
_TABLE: Final = "rule"


class Action(StrEnum):
    """What is done with a series."""

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
    name : its name in logs, jobs and ignored series
    when : conditions, all of which must hold; without any it applies to every series
    action : what is done with a series to which it applies
    protocol, bundles, destinations : names, instead of those of the node; with ``[]`` as destinations nothing
        is sent
    priority : a name of `PRIORITIES` or a number; the smaller, the sooner
    review : whether a person must release the result before it is sent
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
        """The conditions in the order of the file."""
        return parse_conditions(self.when)


class RulesSection(Section):
    """The file with the rules, and what is done with a series to which no rule applies.

    Attributes
    ----------
    file : a TOML file with the rules; None if they are in the configuration file itself, or there are none
    otherwise : whether such a series is contoured with the settings of the node, or held
    """

    file: Path | None = None
    otherwise: Literal["contour", "hold"] = "contour"


def merge_rules_file(data: dict[str, Any], base: Path) -> list[str]:
    """Read the file of rules that a configuration names, and add the rules to the configuration.

    Parameters
    ----------
    data : the configuration as parsed from TOML; the rules are added to it
    base : folder to which the path of the file is relative

    Returns
    -------
    One line for each problem of the file.
    """
    named = _named_file(data)
    if named is None:
        return []
    if data.get(_TABLE):
        return ["rules.file: rules are either in this file or in that one, not in both"]
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
    """The same rules with absolute paths of protocol files.

    Parameters
    ----------
    rules : rules whose protocol files are relative to the file that holds the rules
    section : names that file, if it is not the configuration file itself
    base : folder of the configuration file
    """
    folder = base if section.file is None else (base / section.file.expanduser()).parent
    return tuple(
        rule.model_copy(update={"protocol": str(folder / Path(rule.protocol).expanduser())})
        if rule.protocol is not None and rule.protocol.endswith(".toml")
        else rule
        for rule in rules
    )


def rule_contradictions(data: Mapping[str, Any]) -> list[str]:
    """List contradictions among rules and with other settings; also runs with invalid fields."""
    rules = [(f"{_TABLE}.{int(number) + 1}", rule) for number, rule in tables(data.get(_TABLE))]
    names = [rule.get("name") for _, rule in rules]
    problems = [
        f"{_TABLE}: the name {name!r} is given twice"
        for name in sorted({str(name) for name in names if name is not None and names.count(name) > 1})
    ]
    for setting, rule in rules[:-1]:
        if not rule.get("when"):
            problems.append(
                f"{setting}: without a condition it applies to every series; no rule after it is used"
            )
    destinations = [name for name, _ in tables(data.get("destinations"))]
    node = dict(tables(data)).get("node", {})
    titles = [node.get("ae_title", "ORGSEG"), *_texts(node.get("also_called"))]
    for setting, rule in rules:
        problems += _unused_settings(setting, rule)
        problems += _unknown(f"{setting}.destinations", _texts(rule.get("destinations")), destinations)
        problems += _unknown(f"{setting}.when.called_ae", _called_ae_titles(rule), titles)
    return problems


def _unused_settings(setting: str, rule: Mapping[str, Any]) -> Iterator[str]:
    """List settings that have no effect with the action of the same rule."""
    if rule.get("action", Action.CONTOUR) in (Action.HOLD, Action.IGNORE):
        defaults = {name: field.default for name, field in Rule.model_fields.items()}
        for name in _CONTOUR_SETTINGS:
            if name in rule and rule[name] != defaults[name]:
                yield f"{setting}.{name}: has no effect, because the series is not contoured"


def _called_ae_titles(rule: Mapping[str, Any]) -> list[str]:
    """The called AE titles that a rule names without wildcards."""
    when = rule.get("when")
    wanted = when.get("called_ae") if isinstance(when, dict) else None
    if isinstance(wanted, dict):
        return [*_texts(wanted.get("is")), *_texts(wanted.get("in"))]
    return _texts(wanted)


def _unknown(setting: str, names: list[str], known: list[str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            listed = "" if near else f"; there are: {', '.join(map(str, known)) or 'none'}"
            yield f"{setting}: there is no {name!r}{_hint(near)}{listed}"


def _hint(near: list[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""


def _texts(value: Any) -> list[str]:
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [part for part in parts if isinstance(part, str)]


def _named_file(data: Mapping[str, Any]) -> Path | None:
    section = dict(tables(data)).get("rules", {})
    file = section.get("file")
    return Path(file) if isinstance(file, str) and file else None
