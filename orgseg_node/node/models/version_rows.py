"""Reading versions of models: one, those of a family, the live one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orgseg_node.errors import NoLiveVersion, UnknownVersion
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import Event, ModelState

_SELECT: Final = "SELECT * FROM model_version"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A bundle as a version of a family of models.

    Attributes
    ----------
    family : such as ``head-neck``
    sha256, bundle : hash and name of the bundle
    state : candidate, shadow, live or retired
    note : of the last change
    replaces : hash of the version that was live before it; empty for the first
    gate : text of the gate file with which it is proposed, or became live; empty without one
    added_at, updated_at : when it became known, and when it last changed
    """

    family: str
    sha256: str
    bundle: str
    state: ModelState
    note: str
    replaces: str
    gate: str
    added_at: datetime
    updated_at: datetime

    @property
    def short(self) -> str:
        """Its bundle and the start of the hash, for messages."""
        return f"{self.bundle} sha256:{self.sha256[:12]}"


def versions(database: Database, family: str = "") -> list[ModelVersion]:
    """The versions of a family, or of all, the oldest first.

    Raises
    ------
    UnknownVersion
        If there are families, but not this one.
    """
    every = database.read(ModelVersion, f"{_SELECT} ORDER BY family, added_at")
    found = [one for one in every if family in {"", one.family}]
    if every and not found:
        families = ", ".join(dict.fromkeys(one.family for one in every))
        raise UnknownVersion(f"There is no family {family!r}; there are {families}.")
    return found


def find_version(database: Database, family: str, sha256: str) -> ModelVersion | None:
    """One version of a family; None if the node does not know it.

    Parameters
    ----------
    database : the node's database
    family : such as ``head-neck``
    sha256 : of the bundle
    """
    found = database.read(ModelVersion, f"{_SELECT} WHERE family = ? AND sha256 = ?", (family, sha256))
    return found[0] if found else None


def in_state(database: Database, family: str, state: ModelState) -> ModelVersion | None:
    """The version of a family that is live, or in the shadow; None if there is none.

    Parameters
    ----------
    database : the node's database
    family : such as ``head-neck``
    state : LIVE or SHADOW, of which there is one at most
    """
    found = database.read(
        ModelVersion, f"{_SELECT} WHERE family = ? AND state = ? ORDER BY added_at", (family, state)
    )
    return found[0] if found else None


def live_version(database: Database, family: str) -> ModelVersion:
    """The live version of a family. Raises NoLiveVersion."""
    found = in_state(database, family, ModelState.LIVE)
    if found is None:
        live = database.read(ModelVersion, f"{_SELECT} WHERE state = ? ORDER BY family", (ModelState.LIVE,))
        others = ", ".join(one.family for one in live) or "none"
        raise NoLiveVersion(f"Family {family!r}; families with a live version: {others}.")
    return found


def shadow_version(database: Database, family: str) -> ModelVersion:
    """The version of a family that runs in the shadow. Raises UnknownVersion."""
    found = in_state(database, family, ModelState.SHADOW)
    if found is None:
        raise UnknownVersion(f"No version of {family!r} runs in the shadow.")
    return found


def history(database: Database, family: str = "") -> list[Event]:
    """What happened to the versions of a family, or of all, the oldest first."""
    return database.read(
        Event,
        "SELECT * FROM event WHERE kind = 'model' AND (? = '' OR subject = ?) ORDER BY number",
        (family, family),
    )
