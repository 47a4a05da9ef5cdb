"""The command line as a whole: all commands, and the handling of their errors."""

from __future__ import annotations

import pwd
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node import __version__
from orgseg_node.cli.console import FAILED, logs_on_stderr, print_error, print_message, print_unexpected_error
from orgseg_node.cli.ct import commission, demo, info, models, protocols, segment
from orgseg_node.cli.node import (
    audit,
    backup,
    config,
    doctor,
    dossier,
    feedback,
    jobs,
    network,
    node,
    purge,
    qa,
    query,
    replay,
    rules,
    series,
    users,
)
from orgseg_node.errors import NotPermitted, OrgsegError

_INTERRUPTED = 130  # as shells count a program ended by Ctrl-C

_HELP = """Contour organs at risk on planning CT, from files or by DICOM.

All contours are automatic and not reviewed.

Results go to stdout (JSON with --json), messages to stderr. Exit codes: 0 success (also with warnings),
1 failure or a finding of level error, 2 wrong usage, 3 wrong configuration, 4 something is missing on this
machine.
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
    app.command("replay")(replay.replay)
    app.command("dossier")(dossier.dossier)
    for group in (
        node,
        models,
        protocols,
        rules,
        jobs,
        series,
        config,
        commission,
        audit,
        backup,
        qa,
        users,
        feedback,
    ):
        app.add_typer(group.app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error is printed as code, sentence and next step, and sets the exit code.

    Parameters
    ----------
    arguments : words after ``orgseg``; those of this process if None
    """
    try:
        with logs_on_stderr():
            build_app()(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="orgseg")
    except OrgsegError as error:
        print_error(error)
        sys.exit(error.exit_status)
    except PermissionError as error:
        fault = _not_permitted(error)
        print_error(fault)
        sys.exit(fault.exit_status)
    except KeyboardInterrupt:
        print_message("Stopped.")
        sys.exit(_INTERRUPTED)
    except SystemExit as end:  # typer ends every command with it, also after Ctrl-C
        if end.code == _INTERRUPTED:
            print_message("Stopped.")
        raise
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        sys.exit(FAILED)
    except Exception as error:  # noqa: BLE001  # no traceback is shown to a user
        print_unexpected_error(error)
        sys.exit(FAILED)


def _not_permitted(error: PermissionError) -> NotPermitted:
    """What a user lacks who may not use a file: its name, and the user to whom it or its folder belongs."""
    path = Path(str(error.filename or ""))
    for place in (path, *path.absolute().parents):
        try:
            number = place.stat().st_uid
        except OSError:
            continue
        try:
            owner = pwd.getpwuid(number).pw_name
        except KeyError:  # a user of another machine or container
            owner = str(number)
        return NotPermitted(f"{path}; {place} belongs to the user {owner}.")
    return NotPermitted(f"{path}.")


def _print_version(is_requested: bool) -> None:
    if is_requested:
        sys.stdout.write(f"orgseg_node {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
