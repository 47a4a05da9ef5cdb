"""The configuration in force, replaced as a whole when it is reloaded."""

from __future__ import annotations

from orgseg_node.node.config.node_config import NodeConfig


class CurrentConfig:
    """Holds the configuration in force. Code that reads it at each use follows a reload.

    A reader gets either the old or the new configuration, never parts of both: one reference is replaced.

    Parameters
    ----------
    config : the configuration at the start
    """

    def __init__(self, config: NodeConfig) -> None:
        self._config = config

    @classmethod
    def of(cls, config: NodeConfig | CurrentConfig) -> CurrentConfig:
        """The given holder, or a new one around a configuration that never changes."""
        return config if isinstance(config, CurrentConfig) else cls(config)

    @property
    def config(self) -> NodeConfig:
        """The configuration in force."""
        return self._config

    def replace(self, config: NodeConfig) -> None:
        """Put another configuration into force."""
        self._config = config
