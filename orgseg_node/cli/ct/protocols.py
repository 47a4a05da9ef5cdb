"""``orgseg protocols``: the protocols, which define the content of a structure set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import out, print_json, print_message
from orgseg_node.cli.options import Config, Json, open_store
from orgseg_node.errors import OptionInvalid, StorageError

if TYPE_CHECKING:
    from orgseg_node.contouring.protocol import Protocol

app = typer.Typer(
    name="protocols",
    help="List, show, check, try and import protocols: names, margins, tidying.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a protocol, or path of a TOML file.")]


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_protocols(
    json: Json = False,
) -> None:
    """List the protocols that come with the node."""
    from orgseg_node.contouring.protocol import load_protocol, protocol_names  # noqa: PLC0415  # pydantic only when needed

    found = {name: load_protocol(name) for name in protocol_names()}
    if json:
        print_json({name: {"description": p.description, "sha256": p.sha256} for name, p in found.items()})
        return
    table = Table("protocol", "description", box=None, pad_edge=False)
    for name, protocol in found.items():
        table.add_row(name, escape(protocol.description))
    out().print(table)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show the settings of a protocol, structure by structure."""
    protocol = load_checked_protocol(name)
    if json:
        print_json(protocol.as_json | {"sha256": protocol.sha256})
        return
    _print(protocol)


@app.command()
def check(name: Name) -> None:
    """Check a protocol and report all its problems. The exit code is 3 if there is any."""
    protocol = load_checked_protocol(name)
    count = len(protocol.structures)
    out().print(f"{escape(name)} is correct: {count} structures, others {protocol.others}.")


@app.command("try")
def try_on(
    name: Name,
    job: Annotated[
        str,
        typer.Option(
            "--job", metavar="JOB", help="Number of a contoured case of the node, or any part of it."
        ),
    ],
    config: Config,
    json: Json = False,
) -> None:
    """Show what a protocol would do with a case that the node has contoured; nothing is changed or sent.

    The networks are not run again: the protocol is applied to what they found, by the same code.
    """
    from contextlib import closing  # noqa: PLC0415  # quick start of other commands

    from orgseg_node.cli.ct.trial_table import print_trial  # noqa: PLC0415
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415
    from orgseg_node.node.review.trying import ProtocolTrier  # noqa: PLC0415

    protocol = load_checked_protocol(name)
    settings = load_config(config)
    with closing(open_store(settings)) as store:
        tried = ProtocolTrier(store, settings.node.data_dir).try_on(job, protocol)
    if json:
        print_json({"job": tried.job.job_id, **tried.document})
        return
    print_trial(tried.document)


@app.command("import")
def import_template(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="RTSTRUCT, or structure template of Eclipse (XML).",
        ),
    ],
    target: Annotated[
        Path, typer.Option("--out", dir_okay=False, help="File of the new protocol; ends with .toml.")
    ],
) -> None:
    """Make a protocol from the names, colours and order of an RTSTRUCT or an Eclipse structure template."""
    from orgseg_node.contouring.protocol_import import import_protocol  # noqa: PLC0415  # pydicom only when needed
    from orgseg_node.durable import atomic_file  # noqa: PLC0415
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415  # numpy only when needed

    if target.suffix != ".toml":
        raise OptionInvalid(f"{target} must end with .toml, which distinguishes a file from a name.")
    if target.exists():
        raise OptionInvalid(f"{target} exists already; choose another name with --out.")
    if not target.parent.is_dir():
        raise OptionInvalid(f"{target} cannot be written: there is no folder {target.parent}.")
    imported = import_protocol(file, organ_table())
    try:
        with atomic_file(target) as part:
            part.write_text(imported.toml, encoding="utf-8")
    except StorageError as error:
        raise OptionInvalid(f"{target} cannot be written: {error.detail}") from error
    load_checked_protocol(str(target))
    table = Table("structure", "organ", box=None, pad_edge=False)
    for name, key in imported.matched.items():
        table.add_row(escape(name), key)
    out().print(table)
    if imported.unmatched:
        count = len(imported.unmatched)
        print_message(f"{count} structures were left out; they are listed at the beginning of the file.")


def load_checked_protocol(name: str) -> Protocol:
    """Load a protocol by name or path, and check that it names known organs only.

    Raises
    ------
    ConfigError
        With one line for each problem.
    """
    from orgseg_node.contouring.protocol import load_protocol  # noqa: PLC0415  # pydantic only when needed
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415  # numpy only when needed

    protocol = load_protocol(name)
    protocol.check_organs(organ_table())
    return protocol


def _print(protocol: Protocol) -> None:
    from orgseg_node.contouring.protocol_entries import OrganEntry  # noqa: PLC0415  # pydantic only when needed

    console = out()
    if protocol.description:
        console.print(escape(protocol.description))
    outline = protocol.external.name if protocol.external else "not drawn"
    console.print(f"planning system {protocol.profile}, several volumes: {escape(protocol.phase)}")
    console.print(f"other organs: {protocol.others}, outline of the patient: {escape(outline)}")
    table = Table("structure", "from", "settings", box=None, pad_edge=False)
    for entry in protocol.structures:
        shown = {"organ", "name", "derive", "source"}  # in the other columns
        given = entry.model_dump(mode="json", exclude_defaults=True, exclude=shown)
        settings = ", ".join(f"{key} {value}" for key, value in given.items())
        if isinstance(entry, OrganEntry):
            table.add_row(escape(entry.name or "+".join(entry.keys)), entry.organ, escape(settings))
        else:
            origin = f"{entry.derive} of {', '.join(entry.source)}"
            table.add_row(escape(entry.name), escape(origin), escape(settings))
    console.print(table)
