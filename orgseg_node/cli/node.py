"""``orgseg node``: run the node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(name="node", help="Run the DICOM node.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def run(
    config: Annotated[Path, typer.Option("--config", help="The node's configuration, such as node.toml.")],
    only: Annotated[
        Literal["receiver", "worker"] | None,
        typer.Option("--only", help="Play one part; another process plays the other."),
    ] = None,
) -> None:
    """Receive, contour and deliver until stopped by SIGTERM or Ctrl-C; nothing that was accepted is lost."""
    from orgseg_node.node.config import load_config  # noqa: PLC0415  # the service only when it is wanted
    from orgseg_node.node.service import run_node  # noqa: PLC0415

    settings = load_config(config)
    if only is not None:
        settings = settings.model_copy(
            update={"worker": settings.worker.model_copy(update={"roles": (only,)})}
        )
    run_node(settings)


@app.command()
def archive(
    folder: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Where the files go.")],
    *,
    ae_title: Annotated[str, typer.Option("--ae-title", help="What it is called.")] = "ARCHIVE",
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")] = 11113,
) -> None:
    """Stand in for a TPS or PACS: keep what CT, RTSTRUCT and SEG anyone sends. For trials only."""
    from pydantic import ValidationError  # noqa: PLC0415  # pydantic only when needed

    from orgseg_node.errors import ConfigError  # noqa: PLC0415
    from orgseg_node.node.archive import run_archive  # noqa: PLC0415

    try:
        run_archive(ae_title, folder, host=host, port=port)
    except ValidationError as error:
        raise ConfigError("; ".join(item["msg"] for item in error.errors())) from error
