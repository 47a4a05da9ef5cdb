"""``orgseg-train``: the command line of the training package."""

from __future__ import annotations

import logging
import sys

import structlog
import typer

from orgseg_node.errors import OrgsegError
from orgseg_training.cli import compose, curation, evaluate, experiment, site, tune, tune_data_sets

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Train, measure and export models for orgseg_node."""
    structlog.configure(  # what the networks need of memory for each scan would hide the results
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


evaluate.add_commands(app)
experiment.add_commands(app)
curation.add_commands(app)
site.add_commands(app)
tune.add_commands(site.site_app)
tune_data_sets.add_commands(app)
compose.add_commands(app)


def main() -> None:
    """Run the command line; errors become a sentence and an exit status."""
    try:
        app()
    except OrgsegError as error:
        typer.echo(f"{error}\n{error.next_step}", err=True)
        raise SystemExit(error.exit_status) from error
