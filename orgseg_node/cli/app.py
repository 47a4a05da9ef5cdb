"""Where the commands come together, and where their errors end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from orgseg_node import __version__
from orgseg_node.cli.console import FAILED, logs_on_stderr, say, tell_error, tell_unexpected
from orgseg_node.cli.ct import commission, demo, info, models, protocols, segment
from orgseg_node.cli.node import (
    audit,
    backup,
    config,
    doctor,
    jobs,
    network,
    node,
    purge,
    query,
    rules,
    series,
)
from orgseg_node.errors import OrgsegError

_INTERRUPTED = 130  # as shells count a program ended by Ctrl-C

_HELP = """Contour organs at risk on planning CT, by file or by DICOM.

Everything it makes is automatic and not reviewed.

Results go to stdout (JSON with --json), messages to stderr. Exit codes: 0 all well (warnings included),
1 failed or a finding of level error, 2 wrong usage, 3 wrong configuration, 4 the machine lacks something.
"""


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="orgseg",
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    app.command("segment")(segment.segment)
    app.command("info")(info.info)
    app.command("echo")(network.echo)
    app.command("send")(network.send)
    app.command("query")(query.query)
    app.command("pull")(query.pull)
    app.command("demo")(demo.demo)
    app.command("doctor")(doctor.doctor)
    app.command("purge")(purge.purge)
    for group in (node, models, protocols, rules, jobs, series, config, commission, audit, backup):
        app.add_typer(group.app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; every error is told as code, sentence and next step, and decides the exit code."""
    try:
        with logs_on_stderr():
            build_app()(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="orgseg")
    except OrgsegError as error:
        tell_error(error)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        say("Stopped.")
        sys.exit(_INTERRUPTED)
    except SystemExit as end:  # typer ends every command so, also one that Ctrl-C stopped
        if end.code == _INTERRUPTED:
            say("Stopped.")
        raise
    except BrokenPipeError:  # the reader of a pipe, such as head, has what it wanted
        sys.exit(FAILED)
    except Exception as error:  # noqa: BLE001  # the last line of defence: no traceback reaches a user
        tell_unexpected(error)
        sys.exit(FAILED)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"orgseg_node {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
