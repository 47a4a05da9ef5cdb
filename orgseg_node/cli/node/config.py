"""``orgseg config``: check the configuration of a node before it is started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orgseg_node.cli.console import err, out, print_json

app = typer.Typer(name="config", help="Check the configuration of the node.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def check(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The node's configuration, such as node.toml.")
    ],
    no_secrets: Annotated[
        bool,
        typer.Option(
            "--no-secrets",
            help="Do not look for keys, certificates, passwords and tokens: they are on another machine.",
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print all settings, with defaults, as JSON on stdout.")
    ] = False,
) -> None:
    """Check a configuration file and report all its problems. The exit code is 3 if there is any.

    Warnings, which do not change the exit code, are about what is allowed but may not be meant.
    """
    from orgseg_node.cli.ct.protocols import load_checked_protocol  # noqa: PLC0415
    from orgseg_node.node.config.database import describe  # noqa: PLC0415
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # pydantic only when needed
    from orgseg_node.node.routing.warnings import config_warnings  # noqa: PLC0415  # pydicom only when needed

    config = load_config(file, secrets=not no_secrets)
    load_checked_protocol(config.contours.protocol)
    if config.rule:
        from orgseg_node.node.routing.explain import check_references  # noqa: PLC0415  # pydicom only for rules

        check_references(config)
    for warning in config_warnings(config):
        err().print(f"warning: {escape(warning)}")
    if json:
        print_json(config.model_dump(mode="json"))
        return
    names = ", ".join(sorted(config.destinations)) or "none"
    console = out()
    console.print(f"{escape(str(file))} is correct.")
    if no_secrets:
        console.print("Not checked: the files of keys, certificates, passwords and tokens.")
    titles = ", ".join(config.ae_titles)
    ports = [f"port {config.node.port}"] if config.tls.plain_open else []
    ports += [] if config.tls.port is None else [f"port {config.tls.port} with TLS"]
    console.print(f"AE title {titles}, {', '.join(ports)}, destinations: {escape(names)}")
    console.print(f"database: {escape(describe(config.database_place))}")
    console.print(f"protocol: {escape(config.contours.protocol)}")
    console.print(f"rules: {len(config.rule)}, otherwise: {config.rules.otherwise}")
    console.print(f"bundles: {escape(', '.join(config.inference.bundles))}")
