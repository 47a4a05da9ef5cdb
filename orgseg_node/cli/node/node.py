"""``orgseg node``: run the node."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orgseg_node.cli.console import out, print_json

if TYPE_CHECKING:
    from orgseg_node.node.parts import Parts
    from orgseg_node.web.http_server import Routes

app = typer.Typer(name="node", help="Run the DICOM node.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


def _images(parts: Parts) -> Routes:
    """STOW-RS, where the process takes images in."""
    from orgseg_node.web.stow import stow_routes  # noqa: PLC0415

    return stow_routes(parts.inbox, parts.config.config) if parts.inbox is not None else []


@app.command()
def run(
    config: Annotated[Path, typer.Option("--config", help="The node's configuration, such as node.toml.")],
    only: Annotated[
        Literal["receiver", "worker"] | None,
        typer.Option("--only", help="Play one part; another process plays the other."),
    ] = None,
) -> None:
    """Receive, contour and deliver until stopped by SIGTERM or Ctrl-C; nothing that was accepted is lost."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # the service only when it is wanted
    from orgseg_node.node.service import run_node  # noqa: PLC0415
    from orgseg_node.web.http_server import HttpServer  # noqa: PLC0415

    settings = load_config(config)
    if only is not None:
        worker = settings.worker.model_copy(update={"roles": (only,)})
        settings = settings.model_copy(update={"worker": worker})
    run_node(settings, path=config, entry_points=(HttpServer(_images),))


@app.command()
def reload(
    config: Annotated[Path, typer.Option("--config", help="The file the node was started with.")],
) -> None:
    """Let the running node read its file again: as a whole and at once, or not at all if there is a mistake.

    What only a restart can change, such as ports, AE title and data folder, is refused by name.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.operations.reload import ask_to_reload  # noqa: PLC0415
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    checked = load_config(config)
    with closing(Store(Database(checked.database_location, read_only=True))) as store:
        revision = ask_to_reload(checked, store)
    out().print(f"configuration {revision} is in force")


@app.command()
def status(
    config: Annotated[Path, typer.Option("--config", help="The node's configuration, such as node.toml.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Tell whether the node runs, with which configuration, and its series and jobs by state."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.operations.reload import revision_in_force, running_pid  # noqa: PLC0415
    from orgseg_node.node.routing.revision import revision_of  # noqa: PLC0415
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    checked = load_config(config)
    with closing(Store(Database(checked.database_location, read_only=True))) as store:
        told: dict[str, Any] = {
            "running": running_pid(checked.node.data_dir) is not None,
            "revision_in_force": revision_in_force(store),
            "revision_of_file": revision_of(checked),
            "series": Counter(series.state.value for series in store.series()),
            "jobs": Counter(job.state.value for job in store.jobs()),
        }
    if json:
        print_json(told)
        return
    console = out()
    console.print("running" if told["running"] else "not running")
    console.print(f"configuration in force: {told['revision_in_force'] or 'none yet'}")
    if told["revision_in_force"] != told["revision_of_file"]:
        console.print(f"the file is another: {told['revision_of_file']}; see 'orgseg node reload'")
    for name in ("series", "jobs"):
        counts = ", ".join(f"{count} {state}" for state, count in sorted(told[name].items()))
        console.print(f"{name}: {counts or 'none'}")


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
    from orgseg_node.node.dimse.archive_scp import run_archive  # noqa: PLC0415

    try:
        run_archive(ae_title, folder, host=host, port=port)
    except ValidationError as error:
        raise ConfigError("; ".join(item["msg"] for item in error.errors())) from error
