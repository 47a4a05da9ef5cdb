"""Versions of models: their gate, their promotion, and the keys with which persons sign."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class ModelError(OrgsegError):
    """The version of the model cannot be changed."""

    code = "MODEL"
    next_step = "Run 'orgseg models history' to see which versions there are."


class UnknownVersion(ModelError):
    """The node knows no such version of a model."""

    code = "MODEL_UNKNOWN_VERSION"
    next_step = "Run 'orgseg models history' to see which versions there are."


class NoLiveVersion(ModelError):
    """No version of this family of models is live."""

    code = "MODEL_NO_LIVE_VERSION"
    next_step = (
        "Promote a version with 'orgseg models promote', then judge held series with 'orgseg series judge'."
    )


class NoEarlierVersion(ModelError):
    """There is no earlier version to go back to."""

    code = "MODEL_NO_EARLIER_VERSION"
    next_step = "Name the version with 'orgseg models promote', or name a bundle in the configuration."


class GateDamaged(ModelError):
    """The gate file cannot be read, or is not what was signed."""

    code = "MODEL_GATE_DAMAGED"
    next_step = "Do not use it; make it again with orgseg-train site judge."


class GateNotRead(ModelError):
    """There is no gate file that can be read."""

    code = "MODEL_GATE_NOT_READ"
    next_step = "Name the file gate.json that orgseg-train site judge wrote; by default SITE/gate/gate.json."


class GateUnsigned(ModelError):
    """The gate file is not signed."""

    code = "MODEL_GATE_UNSIGNED"
    next_step = "Run orgseg-train site judge again with --key; what was computed is kept."


class GateForeign(ModelError):
    """The gate file is signed with a key that this node does not know."""

    code = "MODEL_GATE_FOREIGN"
    next_step = "Let a person of [models.persons] in node.toml sign it, or add the public key there."


class GateNotPassed(ModelError):
    """The gate did not pass."""

    code = "MODEL_GATE_NOT_PASSED"
    next_step = "Read its reasons; --override promotes it anyway, by name and with a reason."


class GateOfOtherModels(ModelError):
    """The gate compared other bundles than those that are concerned."""

    code = "MODEL_GATE_OTHER_MODELS"
    next_step = "Judge this bundle against the version that is live now: orgseg-train site judge."


class NotProven(ModelError):
    """A version becomes live by a gate that passed, or by a named override."""

    code = "MODEL_NOT_PROVEN"
    next_step = "Give --gate gate.json, or --override with --why."


class SignerUnknown(ModelError):
    """This key belongs to no person who may sign a promotion."""

    code = "MODEL_SIGNER_UNKNOWN"
    next_step = "Add the person and the public key to [models.persons] in node.toml."


class SigningKeyUnusable(ModelError):
    """The key for signing cannot be used."""

    code = "MODEL_KEY"
    next_step = "Name the file of a private key; 'orgseg models keygen FILE' makes one."
