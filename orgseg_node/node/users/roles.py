"""Roles, and what each may do: the only table of permissions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a person is trusted with; a person may have several roles."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    PHYSICIST = "physicist"
    ADMINISTRATOR = "administrator"


class Action(StrEnum):
    """What a page or a command does."""

    SEE_NODE = "see the state of the node"
    SEE_PATIENTS = "see patients, images and contours"
    REVIEW = "approve, reject, leave an organ out, send again, retry, cancel"
    DECIDE_SERIES = "force, wait, release, settle, choose a volume, judge again"
    SEE_MODELS = "see the versions of models"
    CHANGE_MODELS = "roll a model back, end its running in the shadow"
    SEE_CONFIGURATION = "see the configuration and search the history"
    CHANGE_PROTOCOLS = "try a protocol on a case, and change protocols"


_CLINICAL: Final = frozenset({Role.VIEWER, Role.REVIEWER, Role.PHYSICIST})

PERMITTED: Final[Mapping[Action, frozenset[Role]]] = {
    Action.SEE_NODE: frozenset(Role),
    # an administrator looks after the machine, and needs no patient data for it
    Action.SEE_PATIENTS: _CLINICAL,
    Action.REVIEW: frozenset({Role.REVIEWER, Role.PHYSICIST}),
    Action.DECIDE_SERIES: frozenset({Role.PHYSICIST}),
    Action.SEE_MODELS: frozenset(Role),
    Action.CHANGE_MODELS: frozenset({Role.PHYSICIST}),
    Action.SEE_CONFIGURATION: frozenset({Role.PHYSICIST, Role.ADMINISTRATOR}),
    Action.CHANGE_PROTOCOLS: frozenset({Role.PHYSICIST, Role.ADMINISTRATOR}),
}


def is_permitted(roles: Collection[Role], action: Action) -> bool:
    """Whether a person with these roles may do something."""
    return not PERMITTED[action].isdisjoint(roles)
