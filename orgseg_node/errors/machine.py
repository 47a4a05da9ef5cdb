"""The configuration, and what the machine lacks."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class ConfigError(OrgsegError):
    """The configuration is wrong."""

    code = "CONFIG"
    exit_status = 3
    next_step = "Correct the file and run 'orgseg config check'."


class EnvironmentFault(OrgsegError):
    """This machine lacks something the node needs."""

    code = "ENVIRONMENT"
    exit_status = 4
    next_step = "Run 'orgseg doctor'."


class PortTaken(EnvironmentFault):
    """The port is in use by another program."""

    code = "ENVIRONMENT_PORT"
    next_step = "Stop the other program, or choose another port in node.toml."


class ToolMissing(EnvironmentFault):
    """A program or package the command needs is not installed."""

    code = "ENVIRONMENT_TOOL"
    next_step = "Install it as the README says."


class FastModeMissing(EnvironmentFault):
    """OpenVINO, which computes the fast mode, is not installed."""

    code = "ENVIRONMENT_OPENVINO"
    next_step = "Run pip install 'orgseg-node[fast]', or set backend = \"exact\"."


class NodeRunning(EnvironmentFault):
    """Another node is already running on this data folder."""

    code = "ENVIRONMENT_NODE_RUNNING"
    next_step = "Stop the other node, or give this one another data_dir."
