"""What the routing rules decide about a series, and why; and the job that follows from it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Final

from orgseg_node.contouring.identity import ResultSettings
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.errors import OrgsegError
from orgseg_node.inference.bundles.bundle import find_bundle
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.node.config.conditions import Condition, SubjectValues
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.rules import DEFAULT, PRIORITIES, Action, Rule
from orgseg_node.node.models.alias import follow_aliases
from orgseg_node.node.routing.facts import SeriesFacts
from orgseg_node.node.routing.revision import revision_of
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import Job, NewJob, Series

_NO_SENDER: Final = "("  # such as "(found at start)", in place of the AE title of an unknown sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is done with a series.

    Attributes
    ----------
    rule : name of the rule that decided
    action : contour, hold or ignore
    protocol, bundles, destinations, priority, review : of the job, if one is made
    undecided : whether the rule could not be evaluated, because it needs an AE title that is not known; the
        series is held then
    models : SHA-256 of each bundle once aliases were followed; empty texts for bundles that a name chose
    """

    rule: str
    action: Action
    protocol: str
    bundles: tuple[str, ...]
    destinations: tuple[str, ...]
    priority: int = PRIORITIES["normal"]
    review: bool = False
    undecided: bool = False
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedRule:
    """A rule that did not apply: its first condition that did not hold, and the value that was found."""

    rule: str
    condition: Condition
    seen: SubjectValues


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedDecision:
    """A decision, and the earlier rules, which did not apply."""

    decision: Decision
    unmatched: tuple[UnmatchedRule, ...]


def decide(config: NodeConfig, facts: SeriesFacts) -> ExplainedDecision:
    """Try the rules in their order; the first one that applies decides."""
    unmatched: list[UnmatchedRule] = []
    for rule in config.rule:
        failed = _failed_conditions(rule, facts)
        if not failed:
            return ExplainedDecision(decision=_decision(config, rule), unmatched=tuple(unmatched))
        unmatched.append(UnmatchedRule(rule=rule.name, condition=failed[0][0], seen=failed[0][1]))
        if not any(seen.is_known for _, seen in failed):
            held = _decision(config, Rule(name=rule.name, action=Action.HOLD), undecided=True)
            return ExplainedDecision(decision=held, unmatched=tuple(unmatched))
    return ExplainedDecision(decision=_decision(config, None), unmatched=tuple(unmatched))


def _failed_conditions(rule: Rule, facts: SeriesFacts) -> list[tuple[Condition, SubjectValues]]:
    found = [(condition, facts.value_of(condition.subject)) for condition in rule.conditions]
    return [(condition, seen) for condition, seen in found if not condition.holds(seen)]


def _decision(config: NodeConfig, rule: Rule | None, *, undecided: bool = False) -> Decision:
    """What a rule decides, or without one the implicit last rule; the node's settings fill what it omits."""
    given = rule or Rule(name="otherwise", action=Action(config.rules.otherwise))
    return Decision(
        rule=rule.name if rule else DEFAULT,
        action=given.action,
        protocol=given.protocol or config.contours.protocol,
        bundles=given.bundles or config.inference.bundles,
        destinations=usual_destinations(config) if given.destinations is None else given.destinations,
        priority=given.priority,
        review=given.review,
        undecided=undecided,
    )


def usual_destinations(config: NodeConfig) -> tuple[str, ...]:
    """Every destination except those that are only an alternate of another one."""
    return tuple(name for name in config.destinations if name not in config.alternates)


def destinations_of(config: NodeConfig, job: Job) -> tuple[str, ...]:
    """The destinations of a job; the usual ones for a job from before there were routing rules."""
    return usual_destinations(config) if job.destinations is None else job.destinations


def ae_titles_of(series: Series) -> dict[str, str]:
    """The AE titles of the association of a series, as arguments of `facts_of`; empty where not known."""
    calling = "" if series.calling_ae.startswith(_NO_SENDER) else series.calling_ae
    return {"called_ae": series.called_ae, "calling_ae": calling}


def with_live_versions(decision: Decision, database: Database) -> Decision:
    """A decision with a bundle for each alias, such as ``head-neck@live``: the version that is live now.

    Raises
    ------
    NoLiveVersion
        If no version of a family is live.
    """
    chosen = follow_aliases(decision.bundles, database)
    names, models = tuple(one.name for one in chosen), tuple(one.sha256 for one in chosen)
    return replace(decision, bundles=names, models=models if any(models) else ())


def new_job(
    config: NodeConfig, decision: Decision, protocol: Protocol, *, series_uid: str, content: tuple[str, int]
) -> NewJob:
    """The job of a series that is contoured, with everything that was decided about it.

    Parameters
    ----------
    config : the node's configuration
    decision : of the routing rules, with aliases followed
    protocol : of the structure set
    series_uid : Series Instance UID
    content : hash of the slices, and their number
    """
    return NewJob(
        series_uid=series_uid,
        content_sha256=content[0],
        bundles=decision.bundles,
        models=decision.models,
        slices=content[1],
        settings=_settings(config, decision, protocol),
        rule=decision.rule,
        protocol=decision.protocol,
        protocol_json=json.dumps(protocol.as_json),
        destinations=decision.destinations,
        priority=decision.priority,
        review=decision.review,
        config_revision=revision_of(config),
    )


def _settings(config: NodeConfig, decision: Decision, protocol: Protocol) -> ResultSettings:
    """What the result depends on besides the CT."""
    bundles = zip_longest(dict.fromkeys(decision.bundles), decision.models, fillvalue="")
    return ResultSettings(
        models=tuple(_model(name, known, config) for name, known in bundles),
        method=InferenceSettings(**config.inference.settings()).method_description,
        protocol_sha256=protocol.sha256,
        seg=config.contours.seg,
    )


def _model(name: str, known: str, config: NodeConfig) -> str:
    if known:
        return known
    try:
        return find_bundle(name, config.bundle_paths).sha256
    except OrgsegError:
        return name  # the job is made anyway; it fails with the reason
