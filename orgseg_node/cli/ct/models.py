"""``orgseg models``: the model bundles on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import FAILED, err, out, print_json, tell_error
from orgseg_node.cli.ct.calibrate import calibrate
from orgseg_node.errors import BundleError
from orgseg_node.shipped import bundle_folders, own_bundles

if TYPE_CHECKING:
    from orgseg_node.inference.bundles.bundle import ModelBundle

app = typer.Typer(
    name="models", help="List, show, verify, import and calibrate model bundles.", no_args_is_help=True
)
app.command()(calibrate)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a bundle.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command("list")
def list_models(json: Json = False) -> None:
    """List the bundles there are: your own first, then those that come with the node."""
    from orgseg_node.inference.bundles.bundle import broken_bundles, list_bundles  # noqa: PLC0415  # quick start

    bundles = list_bundles(bundle_folders())
    broken = broken_bundles(bundle_folders())
    if json:
        print_json([_facts(bundle) for bundle in bundles])
    else:
        table = Table("name", "version", "organs", "size", "what it is")
        for bundle in bundles:
            facts = _facts(bundle)
            size = f"{facts['size_bytes'] / 1e6:.1f} MB"
            table.add_row(facts["name"], facts["version"], str(len(facts["organs"])), size, facts["title"])
        out().print(table)
    for folder, error in broken:
        err().print(f"[red]{escape(folder.name)}[/] cannot be used:")
        tell_error(error)
    if broken:
        raise typer.Exit(FAILED)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show what a bundle says about itself: organs, intended use, training data, and its card."""
    from orgseg_node.inference.bundles.bundle import find_bundle  # noqa: PLC0415  # quick start

    bundle = find_bundle(name, bundle_folders())
    if json:
        print_json(_facts(bundle) | {"card": bundle.card})
        return
    console = out()
    for key, value in _facts(bundle).items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        console.print(f"[bold]{key}[/] {escape(text)}")
    console.print(escape(f"\n{bundle.card}"))


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="All, if none is named.")
    ] = None,
) -> None:
    """Hash every file of a bundle again and compare with its manifest. Exit code 1 if one differs."""
    from orgseg_node.inference.bundles.bundle import find_bundle, list_bundles, verify_bundle  # noqa: PLC0415  # quick start

    folders = bundle_folders()
    bundles = [find_bundle(name, folders) for name in names] if names else list_bundles(folders)
    failed = False
    for bundle in bundles:
        try:
            verify_bundle(bundle)
        except BundleError as error:
            failed = True
            tell_error(error)
        else:
            out().print(f"[green]verified[/] {escape(bundle.manifest.name)} {bundle.sha256}")
    if failed:
        raise typer.Exit(FAILED)


def _facts(bundle: ModelBundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "title": manifest.title,
        "intended_use": manifest.intended_use,
        "trained_on": manifest.trained_on,
        "licence": manifest.licence,
        "organs": list(manifest.organs),
        "sha256": bundle.sha256,
        "size_bytes": bundle.size_bytes,
        "path": str(bundle.path),
    }


@app.command()
def add(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            exists=True,
            help="nnU-Net v2 trained-model folder, its export zip, a folder of several, or a bundle.",
        ),
    ],
    *,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the new bundle; that of PATH if not given.")
    ] = None,
    organs: Annotated[
        list[str] | None,
        typer.Option("--organs", help="LABEL=organ_key, or a TOML or JSON file of such pairs; repeatable."),
    ] = None,
    priorities: Annotated[
        list[str] | None,
        typer.Option("--priority", help="organ_key=NUMBER: who wins where organs overlap; repeatable."),
    ] = None,
    folds: Annotated[list[str] | None, typer.Option("--fold", help="Fold to use; all if not given.")] = None,
    configuration: Annotated[
        str | None, typer.Option("--configuration", help="Such as 3d_lowres; 3d_fullres if not given.")
    ] = None,
    version: Annotated[str, typer.Option("--version", help="Version of the model.")] = "1",
    title: Annotated[str, typer.Option("--title", help="What it is, in a few words.")] = "",
    intended_use: Annotated[str, typer.Option("--intended-use", help="One sentence.")] = "not stated",
    trained_on: Annotated[str, typer.Option("--trained-on", help="One sentence.")] = "not stated",
    licence: Annotated[str, typer.Option("--licence", help="Of the weights.")] = "not stated",
    outside_to_air: Annotated[
        bool, typer.Option("--outside-to-air", help="Trained with everything outside the body as air.")
    ] = False,
    body_margin_mm: Annotated[float, typer.Option("--body-margin-mm", min=0, help="Around the skin.")] = 0.0,
    orientation: Annotated[
        str | None,
        typer.Option("--orientation", help="Of the training arrays, such as RAS."),
    ] = None,
    half_precision: Annotated[
        bool, typer.Option("--half-precision", help="Store the weights in 16 bits.")
    ] = False,
    trust_checkpoints: Annotated[
        bool,
        typer.Option(
            "--trust-checkpoints", help="Load Python objects in checkpoints, which runs their code."
        ),
    ] = False,
    card: Annotated[
        Path | None, typer.Option("--card", exists=True, dir_okay=False, help="Model card in Markdown.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--to", file_okay=False, help="Folder of bundles; your own if not given.")
    ] = None,
) -> None:
    """Import a trained nnU-Net v2 model as a bundle; pickled checkpoints are converted in another process."""
    from orgseg_node.core.organs import load_organs  # noqa: PLC0415  # heavy imports only when needed
    from orgseg_node.inference.bundles.importing import ImportOptions, import_model  # noqa: PLC0415
    from orgseg_node.inference.bundles.matching import read_organ_map  # noqa: PLC0415
    from orgseg_node.shipped import shipped_config  # noqa: PLC0415

    options = ImportOptions(
        name=name or source.resolve().stem,
        folder=folder or own_bundles(),
        table=load_organs(shipped_config("organs.toml")),
        organs=read_organ_map(organs or []),
        priorities=_numbers(priorities or []),
        folds=folds or (),
        configuration=configuration,
        version=version,
        title=title,
        intended_use=intended_use,
        trained_on=trained_on,
        licence=licence,
        outside_to_air=outside_to_air,
        body_margin_mm=body_margin_mm,
        orientation=orientation,
        half_precision=half_precision,
        trusted=trust_checkpoints,
        card=None if card is None else card.read_text(encoding="utf-8"),
    )
    bundle = import_model(source, options)
    out().print(
        f"[green]added[/] {escape(bundle.manifest.name)}: {escape(', '.join(bundle.manifest.organs))}"
    )
    out().print(escape(str(bundle.path)))


def _numbers(entries: list[str]) -> dict[str, float]:
    found = {}
    for entry in entries:
        key, _, number = entry.partition("=")
        try:
            found[key.strip()] = float(number)
        except ValueError:
            raise typer.BadParameter(f"'{entry}' is not organ_key=NUMBER.", param_hint="--priority") from None
    return found
