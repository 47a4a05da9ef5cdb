"""``orgseg node``: run the node, reload its configuration, and show its state."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from rich.markup import escape

from orgseg_node.cli.console import out, print_json
from orgseg_node.cli.options import Config, Json

if TYPE_CHECKING:
    from orgseg_node.node.parts import Parts
    from orgseg_node.web.http_server import Routes

_JUDGE: Final = "orgseg series judge --reason"

app = typer.Typer(name="node", help="Run the DICOM node.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


def _images(parts: Parts) -> Routes:
    """The routes of STOW-RS, if this process receives images."""
    from orgseg_node.web.stow import stow_routes  # noqa: PLC0415

    return stow_routes(parts.inbox, parts.config.config) if parts.inbox is not None else []


@app.command()
def run(
    config: Config,
    only: Annotated[
        Literal["receiver", "worker"] | None,
        typer.Option("--only", help="Run only this part; another process runs the other."),
    ] = None,
) -> None:
    """Receive, contour and deliver until SIGTERM or Ctrl-C; no accepted image is lost."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # the service only when needed
    from orgseg_node.node.service import run_node  # noqa: PLC0415
    from orgseg_node.web.http_server import HttpServer  # noqa: PLC0415
    from orgseg_node.web.pages.routes import Pages  # noqa: PLC0415

    settings = load_config(config)
    if only is not None:
        worker = settings.worker.model_copy(update={"roles": (only,)})
        settings = settings.model_copy(update={"worker": worker})
    pages = Pages()
    server = HttpServer(_images, pages.routes, before_stop=pages.close)
    run_node(settings, path=config, entry_points=(server,))


@app.command()
def reload(
    config: Annotated[
        Path,
        typer.Option("--config", envvar="ORGSEG_CONFIG", help="The file with which the node was started."),
    ],
) -> None:
    """Make the running node read its configuration again, completely, or not at all if it has an error.

    A change that needs a restart, such as of ports, AE title or data folder, is refused with its name.
    Series that are held stay held until 'orgseg series judge'.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.operations.reload import ask_to_reload  # noqa: PLC0415
    from orgseg_node.node.routing.verdict import BY_CONFIGURATION  # noqa: PLC0415
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.store.model import SeriesState  # noqa: PLC0415
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    checked = load_config(config)
    with closing(Store(Database(checked.database_location, read_only=True))) as store:
        revision = ask_to_reload(checked, store)
        held = Counter(
            one.reason for one in store.series(state=SeriesState.HOLD) if one.reason in BY_CONFIGURATION
        )
    out().print(f"configuration {revision} is in force")
    for reason, count in sorted(held.items()):
        out().print(f"{count} series stay held ({reason}); to judge them by it: {_JUDGE} {reason}")


@app.command()
def status(
    config: Config,
    json: Json = False,
) -> None:
    """Show whether the node runs, its configuration, its series and jobs by state, and its shadows."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.models.shadow_status import all_shadows  # noqa: PLC0415
    from orgseg_node.node.operations.reload import revision_in_force, running_pid  # noqa: PLC0415
    from orgseg_node.node.routing.revision import revision_of  # noqa: PLC0415
    from orgseg_node.node.store.database import Database  # noqa: PLC0415
    from orgseg_node.node.store.store import Store  # noqa: PLC0415

    checked = load_config(config)
    with closing(Store(Database(checked.database_location, read_only=True))) as store:
        document: dict[str, Any] = {
            "running": running_pid(checked.node.data_dir) is not None,
            "revision_in_force": revision_in_force(store),
            "revision_of_file": revision_of(checked),
            "series": Counter(series.state.value for series in store.series()),
            "jobs": Counter(job.state.value for job in store.jobs()),
            "shadows": [
                {"family": one.version.family, "version": one.version.short, "phase": one.phase.value}
                | {"scans": one.compared, "summary": one.summary}
                for one in all_shadows(store.database, checked.models.shadow_cases)
            ],
        }
    if json:
        print_json(document)
        return
    console = out()
    console.print("running" if document["running"] else "not running")
    console.print(f"configuration in force: {document['revision_in_force'] or 'none yet'}")
    if document["revision_in_force"] != document["revision_of_file"]:
        console.print(f"the file differs: {document['revision_of_file']}; see 'orgseg node reload'")
    for name in ("series", "jobs"):
        counts = ", ".join(f"{count} {state}" for state, count in sorted(document[name].items()))
        console.print(f"{name}: {counts or 'none'}")
    for shadow in document["shadows"]:
        console.print(
            escape(f"in the shadow of {shadow['family']}: {shadow['version']}: {shadow['summary']}")
        )


@app.command()
def archive(
    folder: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Folder for the files.")],
    *,
    ae_title: Annotated[str, typer.Option("--ae-title", help="AE title of the archive.")] = "ARCHIVE",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 for any free port.")
    ] = 11113,
) -> None:
    """Replace a TPS or PACS in tests: store CT, RTSTRUCT and SEG from any sender. For tests only."""
    from pydantic import ValidationError  # noqa: PLC0415  # pydantic only when needed

    from orgseg_node.errors import OptionInvalid  # noqa: PLC0415
    from orgseg_node.node.dimse.archive_scp import run_archive  # noqa: PLC0415

    try:
        run_archive(ae_title, folder, host=host, port=port)
    except ValidationError as error:
        raise OptionInvalid("; ".join(item["msg"] for item in error.errors())) from error
