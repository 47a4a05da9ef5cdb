"""Errors of the configuration and of the machine."""

from __future__ import annotations

from orgseg_node.errors.base import OrgsegError


class ConfigError(OrgsegError):
    """The configuration is invalid."""

    code = "CONFIG"
    exit_status = 3
    next_step = "Correct the file and run 'orgseg config check'."


class ProtocolInvalid(ConfigError):
    """The protocol is invalid."""

    code = "CONFIG_PROTOCOL"
    next_step = (
        "Correct the file, or name another protocol; 'orgseg protocols list' shows those of the program."
    )


class ProtocolReadOnly(ConfigError):
    """The protocol cannot be changed here."""

    code = "CONFIG_PROTOCOL_READ_ONLY"
    next_step = (
        "Copy the text into a file of your own that the node may write, and name that file in node.toml or in"
        " the rule."
    )


class ProtocolChanged(ConfigError):
    """Somebody else has changed the file since this text was opened; nothing was saved."""

    code = "CONFIG_PROTOCOL_CHANGED"
    next_step = "Keep your text, open the protocol again, and make your changes in the new text."


class SettingsInvalid(ConfigError):
    """The settings of inference are invalid."""

    code = "CONFIG_INFERENCE"
    next_step = "Correct the options of the command, or [inference] in node.toml."


class OptionInvalid(OrgsegError):
    """An option of the command is invalid."""

    code = "USAGE"
    exit_status = 2
    next_step = "Correct the option; the command with --help describes it."


class EnvironmentFault(OrgsegError):
    """Something that the node needs is missing on this machine."""

    code = "ENVIRONMENT"
    exit_status = 4
    next_step = "Correct what the sentence names; 'orgseg doctor' checks everything that a node needs."


class PortTaken(EnvironmentFault):
    """The port is in use by another program."""

    code = "ENVIRONMENT_PORT"
    next_step = "Stop the other program, or choose another port in node.toml."


class ToolMissing(EnvironmentFault):
    """A program or package that the command needs is not installed."""

    code = "ENVIRONMENT_TOOL"
    next_step = "Install it as the sentence says, in the environment of this program."


class FastModeMissing(EnvironmentFault):
    """OpenVINO, which the fast mode needs, is not installed."""

    code = "ENVIRONMENT_OPENVINO"
    next_step = "Run pip install '.[fast]' in the source folder, or set backend = \"exact\"."


class CompilerMissing(EnvironmentFault):
    """A compiler, which the compiled mode needs, is not installed."""

    code = "ENVIRONMENT_COMPILER"
    next_step = 'Install the package g++ of your system, on a GPU also triton, or set backend = "exact".'


class NotPermitted(EnvironmentFault):
    """The user who runs this command may not use a file or folder."""

    code = "ENVIRONMENT_PERMISSION"
    next_step = "Run it as the user of the node, such as: sudo -u orgseg orgseg jobs list --config FILE."


class NodeRunning(EnvironmentFault):
    """Another node is already running on this data folder."""

    code = "ENVIRONMENT_NODE_RUNNING"
    next_step = "Stop the other node, or set another data_dir for this one."
