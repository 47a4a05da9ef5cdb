"""A store with installed bundles and persons with keys, for what is done with versions of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.gate_file import model_entry, render_gate
from orgseg_node.node.config.database import Server
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.models.promotion import Promoter, Promotion, Proposal
from orgseg_node.node.models.registry import ModelRegistry
from orgseg_node.node.store.database import Database
from orgseg_node.node.store.model import ModelState
from orgseg_node.node.store.store import Store
from orgseg_node.signing import make_key, read_key
from tests.support.models.bundles import write_bundle

FAMILY = "head-neck"
PERSONS = ("A. Physicist", "B. Physicist", "C. Physicist")


class ModelBench:
    """Bundles ``head-neck@1`` to ``@3``, three persons with keys, and a store; made if they are not there.

    Parameters
    ----------
    folder : holds everything
    server : a PostgreSQL server instead of the SQLite file
    sections : further sections of the configuration
    """

    def __init__(self, folder: Path, *, server: Server | None = None, **sections: Any) -> None:
        self.folder, self.data = folder, folder / "data"
        self.keys: dict[str, Path] = {}
        persons = {}
        for name in PERSONS:
            self.keys[name] = folder / f"{name[0]}.pem"
            if not self.keys[name].exists():
                make_key(self.keys[name])
            persons[name] = read_key(self.keys[name]).public_key().public_bytes_raw().hex()
        self.bundles = {version: self._bundle(version) for version in "123"}
        models = {"persons": persons, "signatures": 2} | sections.pop("models", {})
        values = {"node": {"data_dir": self.data}, "receiver": {"accept_any_calling_ae": True}}
        self.config = NodeConfig.model_validate({**values, "models": models, **sections})
        self.store = Store(Database(server)) if server else Store(self.data)
        self.registry = ModelRegistry(self.config, self.store)

    def _bundle(self, version: str) -> ModelBundle:
        folder = self.data / "bundles" / f"{FAMILY}@{version}"
        if folder.exists():
            return open_bundle(folder)
        return write_bundle(folder, name=f"{FAMILY}@{version}", version=version)

    def gate(self, candidate: str, live: str, verdict: str = "PASS", key: Path | None = None) -> bytes:
        """A gate file, signed by the third person unless another key is given."""
        content = {
            "live": model_entry(self.bundles[live].identity),
            "candidate": model_entry(self.bundles[candidate].identity),
            "verdict": verdict,
            "reasons": [] if verdict == "PASS" else ["Parotid_L is worse."],
        }
        return render_gate(content, key or self.keys[PERSONS[2]])

    def proposal(self, version: str, gate: bytes | None = None, override: str = "") -> Proposal:
        """A proposal of an installed version."""
        return Proposal(family=FAMILY, bundle=self.installed(version), gate=gate, override=override)

    def installed(self, version: str) -> ModelBundle:
        """A bundle as the node finds it now."""
        return self.registry.installed(f"{FAMILY}@{version}")

    def sign(self, person: int, proposal: Proposal) -> Promotion:
        """Sign a proposal as one of the persons."""
        return Promoter(self.config, self.store).sign(proposal, self.keys[PERSONS[person]])

    def make_first_live(self) -> None:
        """Make version 1 live, by an override of two persons."""
        for person in (0, 1):
            self.sign(person, self.proposal("1", override="the first version, commissioned"))

    def promote(self, version: str, live: str) -> Promotion:
        """Promote a version over the live one, by a gate that passed."""
        gate = self.gate(version, live)
        self.sign(0, self.proposal(version, gate))
        return self.sign(1, self.proposal(version))

    def live(self) -> list[str]:
        """Names of the live bundles of the family."""
        return [v.bundle for v in self.registry.versions(FAMILY) if v.state is ModelState.LIVE]
