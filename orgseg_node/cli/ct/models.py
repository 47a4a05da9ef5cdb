"""``orgseg models``: the model bundles on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orgseg_node.cli.console import FAILED, err, out, print_error, print_json
from orgseg_node.cli.ct.calibrate import calibrate
from orgseg_node.cli.ct.guide import guide
from orgseg_node.cli.ct.orientation import orientation as find_orientation
from orgseg_node.cli.ct.reference import reference
from orgseg_node.cli.node.model_versions import history, keygen, promote, rollback, shadow
from orgseg_node.cli.options import Json
from orgseg_node.errors import BundleError, OptionInvalid
from orgseg_node.shipped import bundle_folders, user_bundles

if TYPE_CHECKING:
    from orgseg_node.inference.bundles.bundle import ModelBundle
    from orgseg_node.inference.bundles.manifest import Guide
    from orgseg_node.inference.bundles.totalsegmentator import TotalSegmentatorTask

app = typer.Typer(
    name="models",
    help="List, show, verify, import and calibrate model bundles; promote versions and take them back.",
    no_args_is_help=True,
)
for command in (calibrate, guide, reference, find_orientation, shadow, promote, rollback, history, keygen):
    app.command()(command)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a bundle.")]


@app.command("list")
def list_models(json: Json = False) -> None:
    """List the bundles: imported ones first, then those that come with the node."""
    from orgseg_node.inference.bundles.bundle import broken_bundles, list_bundles  # noqa: PLC0415  # quick start

    bundles = list_bundles(bundle_folders())
    broken = broken_bundles(bundle_folders())
    if json:
        print_json([_describe(bundle) for bundle in bundles])
    else:
        table = Table("name", "version", "organs", "size", "title")
        for bundle in bundles:
            facts = _describe(bundle)
            size = f"{facts['size_bytes'] / 1e6:.1f} MB"
            table.add_row(facts["name"], facts["version"], str(len(facts["organs"])), size, facts["title"])
        out().print(table)
    for folder, error in broken:
        err().print(f"[red]{escape(folder.name)}[/] cannot be used:")
        print_error(error)
    if broken:
        raise typer.Exit(FAILED)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show organs, intended use, training data and model card of a bundle."""
    from orgseg_node.inference.bundles.bundle import find_bundle  # noqa: PLC0415  # quick start

    bundle = find_bundle(name, bundle_folders())
    if json:
        print_json(_describe(bundle) | {"card": bundle.card})
        return
    console = out()
    for key, value in _describe(bundle).items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        console.print(f"[bold]{key}[/] {escape(text)}")
    console.print(escape(f"\n{bundle.card}"))


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Names of bundles; all if none is given.")
    ] = None,
) -> None:
    """Compare the hash of every file of a bundle with its manifest. The exit code is 1 if one differs."""
    from orgseg_node.inference.bundles.bundle import find_bundle, list_bundles, verify_bundle  # noqa: PLC0415  # quick start

    folders = bundle_folders()
    bundles = [find_bundle(name, folders) for name in names] if names else list_bundles(folders)
    failed = False
    for bundle in bundles:
        try:
            verify_bundle(bundle)
        except BundleError as error:
            failed = True
            print_error(error)
        else:
            out().print(f"[green]verified[/] {escape(bundle.manifest.name)} {bundle.sha256}")
    if failed:
        raise typer.Exit(FAILED)


def _describe(bundle: ModelBundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "title": manifest.title,
        "intended_use": manifest.intended_use,
        "trained_on": manifest.trained_on,
        "licence": manifest.licence,
        "organs": list(manifest.organs),
        "guide": _guide(manifest.guide),
        "sha256": bundle.sha256,
        "size_bytes": bundle.size_bytes,
        "path": str(bundle.path),
    }


def _guide(guide: Guide | None) -> str:
    """The guide of a bundle, and whether it is used."""
    if guide is None:
        return "none"
    allowed = guide.calibration is not None and not guide.calibration.shortcomings
    return f"{guide.name} {guide.version}, {'calibrated' if allowed else 'not calibrated, not used'}"


@app.command()
def add(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[totalsegmentator] PATH",
            help="Trained-model folder of nnU-Net v2, its export zip, a folder of several, or a bundle; "
            "after the word totalsegmentator the folder of its weights.",
        ),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the new bundle; by default that of the bundle, or of PATH."),
    ] = None,
    organs: Annotated[
        list[str] | None,
        typer.Option(
            "--organs",
            help="LABEL=organ_key, or a TOML or JSON file of such pairs; may be given several times.",
        ),
    ] = None,
    priorities: Annotated[
        list[str] | None,
        typer.Option(
            "--priority",
            help="organ_key=NUMBER: the higher one wins where organs overlap; may be given several times.",
        ),
    ] = None,
    folds: Annotated[
        list[str] | None,
        typer.Option("--fold", help="Fold to use; may be given several times; by default all."),
    ] = None,
    configuration: Annotated[
        str | None,
        typer.Option(
            "--configuration", help="Configuration of nnU-Net, such as 3d_lowres; by default 3d_fullres."
        ),
    ] = None,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Leave out labels that are no organ of the table.")
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", help="Task of TotalSegmentator, such as total, total_fast or head_glands_cavities."
        ),
    ] = None,
    version: Annotated[str, typer.Option("--version", help="Version of the model.")] = "1",
    title: Annotated[str, typer.Option("--title", help="Title of the model, in a few words.")] = "",
    intended_use: Annotated[
        str, typer.Option("--intended-use", help="Intended use, in one sentence.")
    ] = "not stated",
    trained_on: Annotated[
        str, typer.Option("--trained-on", help="Training data, in one sentence.")
    ] = "not stated",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights.")] = "not stated",
    outside_to_air: Annotated[
        bool,
        typer.Option(
            "--outside-to-air", help="The model was trained with everything outside the body set to air."
        ),
    ] = False,
    body_margin_mm: Annotated[
        float,
        typer.Option("--body-margin-mm", min=0, help="Margin around the body for --outside-to-air, in mm."),
    ] = 0.0,
    orientation: Annotated[
        str | None,
        typer.Option("--orientation", help="Orientation of the training arrays, such as RAS."),
    ] = None,
    half_precision: Annotated[
        bool, typer.Option("--half-precision", help="Store the weights in 16 bits.")
    ] = False,
    trust_checkpoints: Annotated[
        bool,
        typer.Option(
            "--trust-checkpoints", help="Load Python objects in checkpoints, which executes code in them."
        ),
    ] = False,
    card: Annotated[
        Path | None, typer.Option("--card", exists=True, dir_okay=False, help="Model card in Markdown.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--to", file_okay=False, help="Folder of bundles; by default the folder for imported ones."
        ),
    ] = None,
) -> None:
    """Import a trained nnU-Net v2 model as a bundle; pickled checkpoints are converted in another process."""
    from orgseg_node.inference.bundles.importing import ImportOptions, import_model, of_task  # noqa: PLC0415
    from orgseg_node.inference.bundles.manifest import text_problems  # noqa: PLC0415
    from orgseg_node.inference.bundles.matching import read_organ_map  # noqa: PLC0415
    from orgseg_node.inference.bundles.totalsegmentator import KEYWORD  # noqa: PLC0415
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415  # heavy imports only when needed

    if problems := text_problems({"name": name or "model", "version": version}):
        raise OptionInvalid(f"{'; '.join(problems)}.")
    source, chosen = _source(paths, task)
    options = ImportOptions(
        name=name or (f"{KEYWORD}-{chosen.name}" if chosen else _name_of(source)),
        folder=folder or user_bundles(),
        table=organ_table(),
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
        known_only=known_only,
        trusted=trust_checkpoints,
        card=None if card is None else card.read_text(encoding="utf-8"),
    )
    if chosen is not None:
        options = of_task(options, chosen)
    bundle = import_model(source, options, lambda sentence: err().print(f"[yellow]{escape(sentence)}[/]"))
    out().print(
        f"[green]added[/] {escape(bundle.manifest.name)}: {escape(', '.join(bundle.manifest.organs))}"
    )
    out().print(escape(str(bundle.path)))


def _source(paths: list[str], task: str | None) -> tuple[Path, TotalSegmentatorTask | None]:
    """The file or folder to import, and the task if it is a folder of TotalSegmentator."""
    from orgseg_node.inference.bundles.totalsegmentator import KEYWORD, choose_task  # noqa: PLC0415  # quick start

    source = Path(paths[-1]).expanduser()
    if len(paths) > 2 or (len(paths) == 2 and paths[0] != KEYWORD):
        raise typer.BadParameter(f"only one PATH, which {KEYWORD} may precede", param_hint="PATH")
    if not source.exists():
        raise typer.BadParameter(f"Path '{source}' does not exist.", param_hint="PATH")
    if len(paths) == 2:
        return source, choose_task(source, task)
    if task is not None:
        raise typer.BadParameter(f"it is for 'orgseg models add {KEYWORD} PATH'", param_hint="--task")
    return source, None


def _name_of(source: Path) -> str:
    """The name of a bundle, or of the file or folder of a model; of a trainer's folder its data set."""
    from orgseg_node.inference.bundles.bundle import open_bundle  # noqa: PLC0415  # quick start
    from orgseg_node.inference.bundles.manifest import MANIFEST, name_of_path  # noqa: PLC0415

    if (source / MANIFEST).is_file():
        return open_bundle(source).manifest.name
    path = source.resolve()
    if not path.is_dir():
        return name_of_path(path.stem)
    return name_of_path(path.parent.name if path.name.count("__") == 2 else path.name)


def _numbers(entries: list[str]) -> dict[str, float]:
    found = {}
    for entry in entries:
        key, _, number = entry.partition("=")
        try:
            found[key.strip()] = float(number)
        except ValueError:
            raise typer.BadParameter(f"'{entry}' is not organ_key=NUMBER.", param_hint="--priority") from None
    return found
