"""Every statement that changes the state of a version of a model.

==============  =========================================  ===============================================
function        change                                     when
==============  =========================================  ===============================================
`propose`       new -> CANDIDATE, RETIRED -> CANDIDATE     it is named for the shadow or for a promotion
`begin_shadow`  CANDIDATE -> SHADOW                        it runs after the live version; nothing is sent
`end_shadow`    SHADOW -> CANDIDATE                        it no longer does, or another version does
`make_live`     CANDIDATE, SHADOW -> LIVE, LIVE -> RETIRED  enough persons signed its promotion
`roll_back`     LIVE -> RETIRED, RETIRED -> LIVE           a person goes back to the version before
==============  =========================================  ===============================================

The database refuses every change that `MODEL_TRANSITIONS` in `orgseg_node.node.store.model` does not list,
and a second live version of a family, and appends each change to the history. The functions run inside a
transaction of the caller, so the switch from one live version to another happens at one instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orgseg_node.node.store.database import Transaction
from orgseg_node.node.store.model import ModelState

_MOVE: Final = (
    "UPDATE model_version SET state = ?, note = ?, updated_at = ?"
    " WHERE family = ? AND sha256 = ? AND state <> ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionKey:
    """What identifies a version: its family and the hash of its bundle."""

    family: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionChange:
    """Why a version changes: a sentence for the history, and the time as stored in the database."""

    note: str
    at: str


def propose(tx: Transaction, key: VersionKey, bundle: str, change: VersionChange) -> None:
    """Add a version as a candidate, or propose one again that was retired; others stay as they are.

    Parameters
    ----------
    tx : the transaction
    key : of the version
    bundle : name of its bundle
    change : note and time
    """
    added = tx.run(
        "INSERT INTO model_version (family, sha256, bundle, state, note, added_at, updated_at)"
        " VALUES (?, ?, ?, 'CANDIDATE', ?, ?, ?) ON CONFLICT (family, sha256) DO NOTHING",
        (key.family, key.sha256, bundle, change.note, change.at, change.at),
    )
    if not added:
        tx.run(
            "UPDATE model_version SET state = 'CANDIDATE', note = ?, gate = '', bundle = ?, updated_at = ?"
            " WHERE family = ? AND sha256 = ? AND state = 'RETIRED'",
            (change.note, bundle, change.at, key.family, key.sha256),
        )


def begin_shadow(tx: Transaction, key: VersionKey, change: VersionChange) -> None:
    """Have a candidate run in the shadow; the version that did so before is a candidate again.

    Parameters
    ----------
    tx : the transaction
    key : of the version
    change : note and time

    Raises
    ------
    IllegalTransition
        If it is no candidate.
    """
    for (other,) in tx.rows(
        "SELECT sha256 FROM model_version WHERE family = ? AND state = 'SHADOW' AND sha256 <> ?",
        (key.family, key.sha256),
    ):
        _move(tx, VersionKey(family=key.family, sha256=str(other)), ModelState.CANDIDATE, change)
    _move(tx, key, ModelState.SHADOW, change)


def end_shadow(tx: Transaction, key: VersionKey, change: VersionChange) -> None:
    """Have a version no longer run in the shadow; it is a candidate again.

    Parameters
    ----------
    tx : the transaction
    key : of the version
    change : note and time
    """
    _move(tx, key, ModelState.CANDIDATE, change)


def make_live(tx: Transaction, key: VersionKey, change: VersionChange) -> None:
    """Make a version live; the one that was live is retired.

    Parameters
    ----------
    tx : the transaction
    key : of the version
    change : note and time

    Raises
    ------
    IllegalTransition
        If the version is neither a candidate nor in the shadow.
    """
    for (before,) in tx.rows(
        "SELECT sha256 FROM model_version WHERE family = ? AND state = 'LIVE'", (key.family,)
    ):
        _move(tx, VersionKey(family=key.family, sha256=str(before)), ModelState.RETIRED, change)
        tx.run(
            "UPDATE model_version SET replaces = ? WHERE family = ? AND sha256 = ?",
            (before, key.family, key.sha256),
        )
    _move(tx, key, ModelState.LIVE, change)


def roll_back(tx: Transaction, live: VersionKey, earlier: VersionKey, change: VersionChange) -> None:
    """Retire the live version, and make the earlier one live again.

    Parameters
    ----------
    tx : the transaction
    live, earlier : the versions
    change : note and time

    Raises
    ------
    IllegalTransition
        If the earlier one is not retired.
    """
    _move(tx, live, ModelState.RETIRED, change)
    _move(tx, earlier, ModelState.LIVE, change)


def _move(tx: Transaction, key: VersionKey, state: ModelState, change: VersionChange) -> None:
    tx.run(_MOVE, (state, change.note, change.at, key.family, key.sha256, state))
