"""Looks at routing rules from outside: whether what they name exists, and what they say of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.core.organs import load_organs
from orgseg_node.dicom.reading.files import open_header, text
from orgseg_node.dicom.reading.series import survey
from orgseg_node.errors import ConfigError, OrgsegError
from orgseg_node.inference.bundles.bundle import open_bundles
from orgseg_node.node.config.conditions import Condition, Seen, Subject, Value
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.rules import Action
from orgseg_node.node.routing.decision import Explanation, explain
from orgseg_node.node.routing.facts import facts_of
from orgseg_node.node.routing.verdict import Verdict, verdict_by
from orgseg_node.shipped import shipped_config

_OLD: Final = 90  # from this age on a number of years may tell who somebody is
PATIENT_DATA: Final = "(patient data)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """What the rules say of one series.

    Attributes
    ----------
    series_uid : Series Instance UID; empty for files without one
    images : number of its files
    explanation : which rule decides, and why every earlier one does not fit
    verdict : what becomes of it by the rules and by what its files are
    """

    series_uid: str
    images: int
    explanation: Explanation
    verdict: Verdict


def rule_on(
    config: NodeConfig, paths: Sequence[Path], *, called_ae: str = "", calling_ae: str = ""
) -> list[Ruled]:
    """Hold each series among some files against the rules, as the node would.

    Parameters
    ----------
    config : the node's configuration
    paths : files of one or several series
    called_ae, calling_ae : of the association they would come by; empty where not known
    """
    by_series: dict[str, list[Path]] = {}
    for path in paths:
        by_series.setdefault(_series_uid(path), []).append(path)
    return [
        _ruled(config, uid, files, called_ae=called_ae, calling_ae=calling_ae)
        for uid, files in by_series.items()
    ]


def _ruled(config: NodeConfig, uid: str, files: list[Path], *, called_ae: str, calling_ae: str) -> Ruled:
    inventory = survey(files)
    facts = facts_of(inventory, files, called_ae=called_ae, calling_ae=calling_ae)
    explanation = explain(config, facts)
    verdict, _ = verdict_by(explanation.decision, inventory)
    return Ruled(series_uid=uid, images=len(files), explanation=explanation, verdict=verdict)


def _series_uid(path: Path) -> str:
    try:
        return text(open_header(path)[0], "SeriesInstanceUID")
    except OrgsegError:
        return ""


def seen_in_words(condition: Condition, seen: Seen, *, values: bool = False) -> str:
    """What a rule saw in place of what it expected.

    What says who the patient is is never told. Free text and dates are told only where they are asked for,
    since people write names into descriptions.

    Parameters
    ----------
    condition : that did not hold
    seen : what there was
    values : whether to tell free text and dates
    """
    subject = condition.subject
    for is_so, words in (
        (not seen.known, "not known"),
        (not seen.there, "no value"),
        (subject.of_patient, PATIENT_DATA),
        (not seen.values, "a value that cannot be read"),
        (not (subject.told or values), "another value (--values shows it)"),
    ):
        if is_so:
            return words
    return " and ".join(_in_words(one, subject) for one in seen.values)


def _in_words(value: Value, subject: Subject) -> str:
    if not isinstance(value, float):
        return str(value)
    if subject.name != "age":
        return f"{value:g}"
    return f"{_OLD} years or more" if value >= _OLD else f"{value:.3g} years"


def require_existing(config: NodeConfig) -> None:
    """Refuse rules that name protocols or bundles which are not there, or protocols that are wrong.

    Raises
    ------
    ConfigError
        With one line for each problem.
    """
    problems = list(_missing(config))
    if problems:
        raise ConfigError("The rules cannot be followed:\n" + "\n".join(f"  {line}" for line in problems))


def _missing(config: NodeConfig) -> Iterator[str]:
    organs = load_organs(shipped_config("organs.toml"))
    for rule in config.rule:
        if rule.action is not Action.CONTOUR:
            continue
        if rule.protocol is not None:
            try:
                load_protocol(rule.protocol).check_organs(organs)
            except OrgsegError as error:
                lines = error.detail.splitlines()
                yield from (f"rule {rule.name!r}: protocol: {line.strip()}" for line in lines)
        for name in rule.bundles or ():
            try:
                open_bundles([name], config.bundle_paths)
            except OrgsegError as error:
                yield f"rule {rule.name!r}: bundles: {error.sentence}"
