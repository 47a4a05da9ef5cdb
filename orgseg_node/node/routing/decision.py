"""What becomes of a series by the routing rules, and why; and the job that is made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from orgseg_node import __version__
from orgseg_node.contouring.protocol import Protocol
from orgseg_node.errors import OrgsegError
from orgseg_node.inference.bundles.bundle import open_bundles
from orgseg_node.inference.predictor import InferenceSettings
from orgseg_node.node.config.conditions import Condition, Seen
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.config.rules import DEFAULT, PRIORITIES, Action, Rule
from orgseg_node.node.routing.facts import Facts
from orgseg_node.node.routing.revision import revision_of
from orgseg_node.node.store.model import NewJob, Series

_FOUND: Final = "("  # so begins what stands for the sender of files that were found on the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a series.

    Attributes
    ----------
    rule : name of the rule that decided
    action : contour, hold or ignore
    protocol, bundles, destinations, priority, review : of the job, if one is made
    undecided : the rule that decided could not be decided itself, because it asks for an AE title that is
        not known; the series is held
    """

    rule: str
    action: Action
    protocol: str
    bundles: tuple[str, ...]
    destinations: tuple[str, ...]
    priority: int = PRIORITIES["normal"]
    review: bool = False
    undecided: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A rule that did not fit: its first condition that did not hold, and what was seen instead."""

    rule: str
    condition: Condition
    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision, and why every rule before the one that decided did not fit."""

    decision: Decision
    missed: tuple[Missed, ...]


def explain(config: NodeConfig, facts: Facts) -> Explanation:
    """Hold a series against the rules, in their order; the first that fits decides."""
    missed: list[Missed] = []
    for rule in config.rule:
        failed = _failed(rule, facts)
        if not failed:
            return Explanation(decision=_by(config, rule), missed=tuple(missed))
        missed.append(Missed(rule=rule.name, condition=failed[0][0], seen=failed[0][1]))
        if not any(seen.known for _, seen in failed):
            held = _by(config, Rule(name=rule.name, action=Action.HOLD), undecided=True)
            return Explanation(decision=held, missed=tuple(missed))
    return Explanation(decision=_by(config, None), missed=tuple(missed))


def _failed(rule: Rule, facts: Facts) -> list[tuple[Condition, Seen]]:
    looked_at = [(condition, facts.seen(condition.subject)) for condition in rule.conditions]
    return [(condition, seen) for condition, seen in looked_at if not condition.holds(seen)]


def _by(config: NodeConfig, rule: Rule | None, *, undecided: bool = False) -> Decision:
    """What a rule decides, or without one the implicit last rule; what it leaves open is the node's."""
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
    """Every destination but those that only stand in for another one."""
    return tuple(name for name in config.destinations if name not in config.standby)


def titles_of(series: Series) -> dict[str, str]:
    """The AE titles a received series came by, as arguments of `facts_of`; empty where they are not known."""
    calling = "" if series.calling_ae.startswith(_FOUND) else series.calling_ae
    return {"called_ae": series.called_ae, "calling_ae": calling}


def new_job(
    config: NodeConfig, decision: Decision, protocol: Protocol, *, series_uid: str, content: tuple[str, int]
) -> NewJob:
    """The job of a series that is contoured; it carries all that was decided.

    Parameters
    ----------
    config : the node's configuration
    decision : what the rules say
    protocol : what the structure set shall hold
    series_uid : Series Instance UID
    content : hash and number of the slices
    """
    return NewJob(
        series_uid=series_uid,
        content_sha256=content[0],
        bundles=decision.bundles,
        slices=content[1],
        made_with=_made_with(config, decision, protocol),
        rule=decision.rule,
        protocol=decision.protocol,
        protocol_json=json.dumps(protocol.as_json),
        destinations=decision.destinations,
        priority=decision.priority,
        review=decision.review,
        config_revision=revision_of(config),
    )


def _made_with(config: NodeConfig, decision: Decision, protocol: Protocol) -> tuple[str, ...]:
    """What a result depends on besides the series: another model or method makes other objects.

    How much memory and how many threads it may use is no part of it: that changes no label. Neither are
    destinations, priority and review.
    """
    settings = InferenceSettings(**config.inference.settings())
    try:
        bundles = open_bundles(decision.bundles, config.bundle_paths)
    except OrgsegError:
        bundles = ()  # the job is made all the same, and fails visibly with the reason
    seg = config.contours.seg
    return (__version__, settings.method_said, protocol.sha256, seg, *(bundle.sha256 for bundle in bundles))
