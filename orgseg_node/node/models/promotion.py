"""Promoting a version: proven by a gate that passed, or by a named override, and signed by enough persons."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orgseg_node.errors import (
    GateNotPassed,
    GateOfOtherModels,
    IllegalTransition,
    ModelError,
    NoLiveVersion,
    NotProven,
    SignerUnknown,
)
from orgseg_node.inference.bundles.bundle import ModelBundle
from orgseg_node.inference.bundles.gate_file import Gate, GateVerdict, read_gate
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.models import version_states
from orgseg_node.node.models.registry import ModelRegistry
from orgseg_node.node.models.version_rows import ModelVersion, find_version, in_state
from orgseg_node.node.models.version_states import VersionChange, VersionKey
from orgseg_node.node.store.canonical import canonical
from orgseg_node.node.store.clock import Clock, stamp, utc_now
from orgseg_node.node.store.database import Transaction
from orgseg_node.node.store.model import ModelState
from orgseg_node.node.store.store import Store
from orgseg_node.signing import Signature, is_signed, sign

_PURPOSE: Final = "orgseg promotion 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A version that a person wants to be live, and why.

    Attributes
    ----------
    family : of which the bundle becomes the live version
    bundle : the verified bundle
    gate : bytes of the gate file; None to use the one that an earlier signer gave
    override : why it is promoted without a gate that passed; empty for a promotion by the gate
    """

    family: str
    bundle: ModelBundle
    gate: bytes | None = None
    override: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """How far a promotion has come.

    Attributes
    ----------
    version : the version, live or still a candidate
    signers : names of those who signed it
    needed : how many different persons have to sign
    """

    version: ModelVersion
    signers: tuple[str, ...]
    needed: int

    @property
    def is_live(self) -> bool:
        """Whether the version is live."""
        return self.version.state is ModelState.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class _SignedRow:
    signer: str
    content: str
    public_key: str
    signature: str


class Promoter:
    """Promotes versions.

    Parameters
    ----------
    config : the node's configuration, with the persons who may sign
    store : the node's database
    clock : source of the time
    """

    def __init__(self, config: NodeConfig, store: Store, *, clock: Clock = utc_now) -> None:
        self._section = config.models
        self._registry = ModelRegistry(config, store, clock=clock)
        self._db = store.database
        self._clock = clock

    def sign(self, proposal: Proposal, key_file: Path) -> Promotion:
        """Sign a promotion; with the last signature that is needed, the version is live.

        The switch is one transaction: a job that is made before it uses the old version, one that is made
        after it the new one, and jobs that exist see nothing of it.

        Parameters
        ----------
        proposal : the version, and why it may become live
        key_file : private key of the person who signs

        Raises
        ------
        GateDamaged, GateUnsigned, GateForeign, GateNotPassed, GateOfOtherModels, NotProven
            If the gate does not allow it.
        SignerUnknown, SigningKeyUnusable
            If the key cannot be read, or belongs to nobody who may sign.
        ModelError
            If the version is live already.
        """
        family, sha256 = proposal.family, proposal.bundle.sha256
        live = in_state(self._db, family, ModelState.LIVE)
        if live is not None and live.sha256 == sha256:
            raise ModelError(f"{live.short} is live already.")
        gate_text = self._gate_text(proposal)
        gate = self._allowed_by(proposal, gate_text, live)
        content = {
            "family": family,
            "bundle": proposal.bundle.manifest.name,
            "sha256": sha256,
            "replaces": live.sha256 if live else "",
            "gate": gate.sha256 if gate else "",
            "override": bool(proposal.override),
            "why": proposal.override,
        }
        signature = sign(_PURPOSE, content, key_file)
        signer = self._name_of(signature)
        key = VersionKey(family=family, sha256=sha256)
        with self._db.write() as tx:
            self._require_unchanged(tx, family, live)
            how = _reason(proposal, signer, gate)
            change = VersionChange(note=f"proposed by {signer}; {how}", at=stamp(self._clock()))
            version_states.propose(tx, key, proposal.bundle.manifest.name, change)
            tx.run(
                "UPDATE model_version SET gate = ? WHERE family = ? AND sha256 = ?",
                (gate_text, family, sha256),
            )
            self._keep(tx, key, signer, content, signature)
            signers = self._signers(tx, key, content)
            tx.append_event("model", family, "signed", f"{_short(proposal.bundle)} by {signer}; {how}")
            if len(signers) >= self._section.signatures:
                by = ", ".join(signers)
                version_states.make_live(
                    tx, key, VersionChange(note=f"promoted by {by}; {how}", at=stamp(self._clock()))
                )
                tx.run(
                    "UPDATE promotion_signature SET used = 1 WHERE family = ? AND sha256 = ?",
                    (family, sha256),
                )
        version = self._registry.version(family, sha256)
        return Promotion(version=version, signers=signers, needed=self._section.signatures)

    def _gate_text(self, proposal: Proposal) -> str:
        """The text of the gate file: the given one, or the one with which the version is proposed already."""
        if proposal.gate is not None:
            return proposal.gate.decode("utf-8", errors="replace")
        known = find_version(self._db, proposal.family, proposal.bundle.sha256)
        return known.gate if known is not None and known.state is not ModelState.RETIRED else ""

    def _allowed_by(self, proposal: Proposal, text: str, live: ModelVersion | None) -> Gate | None:
        """The gate that allows a promotion; None for an override without a gate that can be read."""
        if proposal.override and proposal.gate is None:
            return None
        if proposal.gate is None and not text:
            raise NotProven
        gate = read_gate(text.encode(), self._section.persons)
        if proposal.override:
            return gate  # kept in the history beside the override, whatever it says
        if live is None:
            raise NoLiveVersion(f"The first version of {proposal.family!r} needs --override with --why.")
        if gate.candidate != proposal.bundle.sha256:
            raise GateOfOtherModels(
                f"Its candidate is {gate.candidate[:12]}, the bundle {_short(proposal.bundle)}."
            )
        if gate.live != live.sha256:
            raise GateOfOtherModels(f"It compared with {gate.live[:12]}; live is {live.short}.")
        if gate.verdict is not GateVerdict.PASS:
            raise GateNotPassed(f"It is {gate.verdict}: {' '.join(gate.reasons[:3])}")
        return gate

    def _name_of(self, signature: Signature) -> str:
        for name, key in self._section.persons.items():
            if key == signature.public_key:
                return name
        raise SignerUnknown(f"Its public key is {signature.public_key}.")

    def _require_unchanged(self, tx: Transaction, family: str, live: ModelVersion | None) -> None:
        """Refuse if another person has changed the live version since it was read."""
        rows = tx.rows("SELECT sha256 FROM model_version WHERE family = ? AND state = 'LIVE'", (family,))
        if [str(sha256) for (sha256,) in rows] != ([live.sha256] if live else []):
            raise IllegalTransition("Another version became live at this moment; look at the history.")

    def _keep(
        self, tx: Transaction, key: VersionKey, signer: str, content: dict[str, Any], signature: Signature
    ) -> None:
        tx.run(
            "INSERT INTO promotion_signature (family, sha256, signer, content, public_key, signature, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (family, sha256, signer) DO UPDATE SET"
            " content = excluded.content, public_key = excluded.public_key, signature = excluded.signature,"
            " at = excluded.at, used = 0",
            (key.family, key.sha256, signer, canonical(content), signature.public_key, signature.signature,
             stamp(self._clock())),
        )  # fmt: skip

    def _signers(self, tx: Transaction, key: VersionKey, content: dict[str, Any]) -> tuple[str, ...]:
        """The persons whose valid signature says the same: bundles and gate; the reasons may differ."""
        rows = tx.rows(
            "SELECT signer, content, public_key, signature FROM promotion_signature"
            " WHERE family = ? AND sha256 = ? AND used = 0 ORDER BY at, signer",
            (key.family, key.sha256),
        )
        signed = [_SignedRow(signer=a, content=b, public_key=c, signature=d) for a, b, c, d in rows]
        return tuple(row.signer for row in signed if self._counts(row, content))

    def _counts(self, row: _SignedRow, content: dict[str, Any]) -> bool:
        signed = json.loads(row.content)
        same = {**signed, "why": ""} == {**content, "why": ""}
        known = self._section.persons.get(row.signer) == row.public_key
        signature = Signature(public_key=row.public_key, signature=row.signature)
        return same and known and is_signed(_PURPOSE, signed, signature)


def _reason(proposal: Proposal, signer: str, gate: Gate | None) -> str:
    """By what a promotion is allowed, for the history."""
    override = [f"override by {signer}: {proposal.override}"] if proposal.override else []
    by = [f"gate {gate.verdict} sha256:{gate.sha256[:12]}, signed by {gate.signer}"] if gate else []
    return "; ".join([*override, *by])


def _short(bundle: ModelBundle) -> str:
    return f"{bundle.manifest.name} sha256:{bundle.sha256[:12]}"
