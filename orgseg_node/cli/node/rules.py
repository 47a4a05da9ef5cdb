"""``orgseg rules``: list the routing rules, and test them on a series."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import FAILED, out, print_json
from orgseg_node.cli.options import Config, Json, open_store
from orgseg_node.errors import NoSeries, RuleUndecided

if TYPE_CHECKING:
    from orgseg_node.node.config.node_config import NodeConfig
    from orgseg_node.node.routing.explain import SeriesExplanation

_TITLE_NEEDED = (
    "The rule needs an AE title that is not known here: give it with --calling or --called. The node takes "
    "it from the association."
)

app = typer.Typer(name="rules", help="List and test the routing rules.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_rules(config: Config, json: Json = False) -> None:
    """List the rules in the order of their evaluation, and what happens if none matches."""
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # pydantic only when needed
    from orgseg_node.node.config.rules import DEFAULT  # noqa: PLC0415
    from orgseg_node.node.routing.explain import conditions_of, outcome_of  # noqa: PLC0415

    settings = load_config(config)
    if json:
        rules = [{**outcome_of(rule), "when": conditions_of(rule)} for rule in settings.rule]
        print_json({"rules": rules, "otherwise": settings.rules.otherwise})
        return
    table = Table("", "rule", "when", "then", box=None, pad_edge=False)
    for number, rule in enumerate(settings.rule, start=1):
        when = ", ".join(f"{name} {expected}" for name, expected in conditions_of(rule).items()) or "always"
        then = ", ".join(
            f"{key} {_plain(value)}"
            for key, value in outcome_of(rule).items()
            if key not in {"rule", "action"}
        )
        action = rule.action.value + (f": {then}" if then else "")
        table.add_row(str(number), rule.name, escape(when), escape(action))
    table.add_row("", DEFAULT, "otherwise", settings.rules.otherwise)
    out().print(table)


@app.command("test")
def try_rules(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE_OR_SERIES", help="File, folder, or UID of a series in the node, or a part of it."
        ),
    ],
    config: Config,
    *,
    called: Annotated[
        str | None, typer.Option("--called", help="Called AE title; by default that of the node.")
    ] = None,
    calling: Annotated[str | None, typer.Option("--calling", help="Calling AE title.")] = None,
    values: Annotated[
        bool, typer.Option("--values", help="Also show free text and dates, but no patient data.")
    ] = False,
    json: Json = False,
) -> None:
    """Show which rule matches a series, its decision, and why no earlier rule matches.

    Nothing is changed or sent. The exit code is 1 if there is no series.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # pydicom only when needed
    from orgseg_node.node.routing.explain import check_references, explain_files  # noqa: PLC0415

    settings = load_config(config)
    check_references(settings)
    paths, titles = _files(settings, target)
    given = {"called_ae": called or titles["called_ae"], "calling_ae": calling or titles["calling_ae"]}
    found = explain_files(settings, paths, **given)
    if json:
        print_json({"series": [_document(one, values=values) for one in found]})
    else:
        for one in found:
            _print(_document(one, values=values))
    if not found:
        raise typer.Exit(FAILED)


def _files(settings: NodeConfig, target: str) -> tuple[list[Path], dict[str, str]]:
    """The files to test, and their AE titles, which are known for a series of the node.

    Raises
    ------
    NoSeries
        If there is neither such a file or folder, nor such a series.
    """
    from orgseg_node.dicom.reading.series import files_in  # noqa: PLC0415  # pydicom only when needed
    from orgseg_node.node.routing.decision import ae_titles_of  # noqa: PLC0415

    path = Path(target)
    if path.exists():
        files = files_in(path)
        if not files:
            raise NoSeries(f"'{path}' is empty.")
        return files, {"called_ae": settings.node.ae_title, "calling_ae": ""}
    if not set(target) <= set("0123456789."):
        raise NoSeries(f"'{target}' is neither a file or folder nor a Series Instance UID.")
    with closing(open_store(settings, read_only=True)) as store:
        series = store.find_series(target)
        instances = store.instances_of(series.series_uid)
        files = [settings.node.data_dir / instance.path for instance in instances]
    return files, ae_titles_of(series)


def _document(ruled: SeriesExplanation, *, values: bool) -> dict[str, Any]:
    from orgseg_node.node.routing.explain import explanation_document  # noqa: PLC0415  # pydicom only when needed

    document = explanation_document(ruled.explanation, values=values)
    not_fitting = document.pop("not_fitting")
    return {
        "series_instance_uid": ruled.series_uid,
        "images": ruled.images,
        **document,
        "state": ruled.verdict.state.value,
        "reason": ruled.verdict.reason,
        "note": _TITLE_NEEDED if ruled.verdict.reason == RuleUndecided.code else ruled.verdict.note,
        "not_fitting": not_fitting,
    }


def _print(document: dict[str, Any]) -> None:
    console = out()
    console.print(f"series {document['series_instance_uid'] or '(none)'}, {document['images']} images")
    for missed in document["not_fitting"]:
        text = f"{missed['condition']}: expected {missed['expected']}, seen {missed['seen']}"
        console.print(f"  [yellow]no[/]   {missed['rule']}: {escape(text)}")
    console.print(f"  [green]yes[/]  {document['rule']}: {document['action']}")
    for name in ("protocol", "bundles", "destinations", "priority", "review"):
        if name in document:
            console.print(f"       {name}: {escape(_plain(document[name]))}")
    text = f"{document['state']} {document['reason']} {document['note']}"
    console.print(f"  it would be {escape(' '.join(text.split()))}")


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
