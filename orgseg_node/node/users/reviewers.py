"""Whether enough persons may approve what waits in REVIEW."""

from __future__ import annotations

from collections.abc import Iterable

from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.users.accounts import Account
from orgseg_node.node.users.roles import Action, is_permitted


def missing_reviewers(config: NodeConfig, accounts: Iterable[Account]) -> str:
    """What a person should know if fewer accounts may approve a job than have to; empty if there are enough.

    Without the pages persons are users of the operating system, whom the node does not know.

    Parameters
    ----------
    config : of the node
    accounts : of the pages
    """
    if not config.pages.enabled:
        return ""
    names = sorted(one.name for one in accounts if is_permitted(one.roles, Action.REVIEW))
    wanted = config.review.persons
    if len(names) >= wanted:
        return ""
    have = f"{len(names)} ({', '.join(names)})" if names else "none"
    return (
        f"review.persons: {wanted} different persons have to approve a job in REVIEW; of the accounts of the"
        f" pages {have} may. On the pages jobs would wait for ever. Run 'orgseg users add' or"
        " 'orgseg users roles', or change the setting."
    )
