"""The configuration in force: one value, replaced as a whole while the node runs."""

from __future__ import annotations

from orgseg_node.node.config.node_config import NodeConfig


class CurrentConfig:
    """Holds the configuration in force; who reads it at each use follows a change without a restart.

    A reader gets one whole configuration, the old or the new, never parts of both: the reference is replaced
    at once.

    Parameters
    ----------
    config : the configuration at the start
    """

    def __init__(self, config: NodeConfig) -> None:
        self._config = config

    @classmethod
    def of(cls, config: NodeConfig | CurrentConfig) -> CurrentConfig:
        """The holder itself, or one around a configuration that never changes."""
        return config if isinstance(config, CurrentConfig) else cls(config)

    @property
    def config(self) -> NodeConfig:
        """The configuration in force now."""
        return self._config

    def replace(self, config: NodeConfig) -> None:
        """Put another configuration into force."""
        self._config = config
