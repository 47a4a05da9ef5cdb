"""``orgseg echo`` and ``orgseg send``: test a peer, and send files to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from orgseg_node.cli.console import out, progress_bar
from orgseg_node.errors import OptionInvalid, OrgsegError, UnknownDestination

if TYPE_CHECKING:
    from orgseg_node.node.config.destinations import Destination, WebDestination

_ADDRESS = re.compile(r"(?P<ae>[^@\\]{1,16})@(?P<host>\[[0-9A-Fa-f:.]+\]|[^:@\s]+):(?P<port>\d{1,5})")
_OWN_AE = "ORGSEG"

Dest = Annotated[
    str, typer.Argument(metavar="DEST", help="AE@host:port, or the name of a destination in --config.")
]
Config = Annotated[Path | None, typer.Option("--config", help="Configuration of the node that defines DEST.")]
CallingAe = Annotated[
    str | None,
    typer.Option("--calling-ae", help="Calling AE title; by default that of the node in --config."),
]


def echo(dest: Dest, config: Config = None, calling_ae: CallingAe = None) -> None:
    """Test whether a peer answers; one that --config names must also accept its kinds of objects."""
    from orgseg_node.node.delivery.sender import AnySender  # noqa: PLC0415  # network only when needed

    destination, calling = resolve(dest, config, calling_ae)
    if config is not None and not _ADDRESS.fullmatch(dest):
        from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # pydantic only when needed

        AnySender().check(destination, calling, seg=load_config(config).contours.seg)
    else:
        AnySender().echo(destination, calling)
    out().print(f"[green]answered[/] {escape(destination.description)}")


def send(
    dest: Dest,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", exists=True, help="DICOM files, or folders of them.")
    ],
    config: Config = None,
    calling_ae: CallingAe = None,
) -> None:
    """Send DICOM files to a peer (C-STORE or STOW-RS); stop at the first that it refuses."""
    from orgseg_node.dicom.reading.series import files_in  # noqa: PLC0415  # heavy imports only when needed
    from orgseg_node.node.delivery.sender import AnySender  # noqa: PLC0415

    destination, calling = resolve(dest, config, calling_ae)
    paths = [path for file in files for path in files_in(file)]
    if not paths:
        raise OptionInvalid("FILES: there is no file in these folders.")
    with progress_bar() as on_progress:
        count = len(paths)
        answers = AnySender().send_each(destination, calling, paths)
        for done, answer in enumerate(answers, start=1):
            if isinstance(answer, OrgsegError):
                raise answer
            on_progress(done / count, f"sent {done} of {count}")
    out().print(f"[green]stored[/] {len(paths)} objects at {escape(destination.description)}")


def resolve(
    dest: str, config: Path | None, calling_ae: str | None
) -> tuple[Destination | WebDestination, str]:
    """The destination with a name or address, and the calling AE title for it.

    Parameters
    ----------
    dest : ``AE@host:port``, or the name of a destination in the configuration
    config : configuration file of the node, or None
    calling_ae : calling AE title; None for that of the configuration

    Raises
    ------
    UnknownDestination
        If it is neither an address nor a name in the configuration.
    """
    from pydantic import ValidationError  # noqa: PLC0415  # pydantic only when needed

    from orgseg_node.node.config.destinations import Destination  # noqa: PLC0415
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415

    settings = load_config(config) if config is not None else None
    own = calling_ae or (settings.node.ae_title if settings is not None else _OWN_AE)
    address = _ADDRESS.fullmatch(dest)
    if address is not None:
        try:
            host, port = address["host"].strip("[]"), int(address["port"])
            return Destination(ae_title=address["ae"].strip(), host=host, port=port), own
        except ValidationError as error:
            problems = "; ".join(item["msg"] for item in error.errors())
            raise UnknownDestination(f"'{dest}': {problems}.") from error
    if settings is None:
        raise UnknownDestination(f"'{dest}' is not AE@host:port, and no --config names it.")
    destination = settings.destination(dest)
    return destination, calling_ae or settings.calling_ae_for(destination)
