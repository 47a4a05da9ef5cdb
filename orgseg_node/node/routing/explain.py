"""Explains the routing rules: what they decide about files, and whether what they name exists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.dicom.reading.files import open_header, whole_text
from orgseg_node.dicom.reading.series import survey
from orgseg_node.errors import ConfigError, OrgsegError
from orgseg_node.inference.bundles.bundle import open_bundles
from orgseg_node.node.config.conditions import Condition, Subject, SubjectValues, Value
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.rules import Action, Rule
from orgseg_node.node.models.alias import family_of
from orgseg_node.node.routing.decision import ExplainedDecision, decide
from orgseg_node.node.routing.facts import SeriesFacts, facts_of
from orgseg_node.node.routing.verdict import Verdict, judge_series
from orgseg_node.organ_table import organ_table

_OLD: Final = 90  # from this age on, the number of years may identify a patient
PATIENT_DATA: Final = "(patient data)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesExplanation:
    """What the rules decide about one series.

    Attributes
    ----------
    series_uid : Series Instance UID; empty for files without one
    images : number of its files
    explanation : the rule that decides, and why no earlier one applies
    verdict : of the rules and of its images
    """

    series_uid: str
    images: int
    explanation: ExplainedDecision
    verdict: Verdict


def explain_header(
    config: NodeConfig, header: Dataset, slices: int, *, called_ae: str = "", calling_ae: str = ""
) -> ExplainedDecision:
    """Apply the rules to a header without images.

    Parameters
    ----------
    config : the node's configuration
    header : what a series would have in its first image
    slices : how many images the series would have
    called_ae, calling_ae : AE titles of the association; empty where not known
    """
    return decide(
        config, SeriesFacts(header=header, slices=slices, called_ae=called_ae, calling_ae=calling_ae)
    )


def explain_files(
    config: NodeConfig, paths: Sequence[Path], *, called_ae: str = "", calling_ae: str = ""
) -> list[SeriesExplanation]:
    """Apply the rules to each series among some files, as the node would.

    Parameters
    ----------
    config : the node's configuration
    paths : files of one or several series
    called_ae, calling_ae : AE titles of the association; empty where not known
    """
    by_series: dict[str, list[Path]] = {}
    for path in paths:
        by_series.setdefault(_series_uid(path), []).append(path)
    return [
        _explain_series(config, uid, files, called_ae=called_ae, calling_ae=calling_ae)
        for uid, files in by_series.items()
    ]


def _explain_series(
    config: NodeConfig, uid: str, files: list[Path], *, called_ae: str, calling_ae: str
) -> SeriesExplanation:
    inventory = survey(files)
    facts = facts_of(inventory, files, called_ae=called_ae, calling_ae=calling_ae)
    explanation = decide(config, facts)
    verdict, _ = judge_series(explanation.decision, inventory)
    return SeriesExplanation(series_uid=uid, images=len(files), explanation=explanation, verdict=verdict)


def _series_uid(path: Path) -> str:
    try:
        return whole_text(open_header(path)[0], "SeriesInstanceUID")
    except OrgsegError:
        return ""


def explanation_document(explanation: ExplainedDecision, *, values: bool) -> dict[str, Any]:
    """The rule that decides and its decision, and why no earlier rule applies, as JSON values.

    Parameters
    ----------
    explanation : of a series or of a header
    values : whether to show free text and dates
    """
    decision = explanation.decision
    described: dict[str, Any] = {"rule": decision.rule, "action": decision.action.value}
    if decision.action is Action.CONTOUR:
        names = ("protocol", "bundles", "destinations", "priority", "review")
        described |= {name: getattr(decision, name) for name in names}
    described["not_fitting"] = [
        {
            "rule": missed.rule,
            "condition": missed.condition.subject.name,
            "expected": missed.condition.expected,
            "seen": describe_observed(missed.condition, missed.seen, values=values),
        }
        for missed in explanation.unmatched
    ]
    return described


def conditions_of(rule: Rule) -> dict[str, str]:
    """What each subject of a rule must be."""
    return {condition.subject.name: condition.expected for condition in rule.conditions}


def outcome_of(rule: Rule) -> dict[str, Any]:
    """What a rule decides, as far as it says so."""
    given = rule.model_dump(mode="json", exclude_defaults=True, exclude={"when", "name"})
    return {"rule": rule.name, "action": rule.action.value, **given}


def describe_observed(condition: Condition, seen: SubjectValues, *, values: bool = False) -> str:
    """What was found in place of what a condition expects.

    Values that identify the patient are never shown. Free text and dates are shown only on request, since
    people write names into descriptions.

    Parameters
    ----------
    condition : that did not hold
    seen : the values that were found
    values : whether to show free text and dates
    """
    subject = condition.subject
    for is_so, words in (
        (not seen.is_known, "not known"),
        (not seen.is_present, "no value"),
        (subject.of_patient, PATIENT_DATA),
        (not seen.values, "a value that cannot be read"),
        (not (subject.may_be_shown or values), "another value (--values shows it)"),
    ):
        if is_so:
            return words
    return " and ".join(_format_value(one, subject) for one in seen.values)


def _format_value(value: Value, subject: Subject) -> str:
    if not isinstance(value, float):
        return str(value)
    if subject.name != "age":
        return f"{value:g}"
    return f"{_OLD} years or more" if value >= _OLD else f"{value:.3g} years"


def check_references(config: NodeConfig) -> None:
    """Refuse rules that name protocols or bundles that do not exist, or protocols with errors.

    Raises
    ------
    ConfigError
        With one line for each problem.
    """
    problems = list(_missing(config))
    if problems:
        raise ConfigError("The rules cannot be followed:\n" + "\n".join(f"  {line}" for line in problems))


def _missing(config: NodeConfig) -> Iterator[str]:
    organs = organ_table()
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
            if family_of(name) is not None:
                continue  # which version is live changes without the configuration
            try:
                open_bundles([name], config.bundle_paths)
            except OrgsegError as error:
                yield f"rule {rule.name!r}: bundles: {error.sentence}"
