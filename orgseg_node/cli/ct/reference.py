"""``orgseg models reference``: how the organs of a bundle look in clinical contours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orgseg_node.cli.console import out, progress_bar
from orgseg_node.shipped import bundle_folders


def reference(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a bundle.")],
    cases: Annotated[
        Path,
        typer.Argument(
            metavar="CASES",
            exists=True,
            file_okay=False,
            help="Data set in nnU-Net's raw layout: dataset.json, imagesTr, labelsTr, and cases.csv if some "
            "organs were not drawn.",
        ),
    ],
    *,
    source: Annotated[
        str,
        typer.Option("--source", help="Where the contours come from, and their licence, in one sentence."),
    ],
    organs: Annotated[
        list[str] | None,
        typer.Option("--organs", help="LABEL=organ_key, or a TOML or JSON file; may be given several times."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            "--leave-out", help="Case that is not used, such as a test patient; may be given several times."
        ),
    ] = None,
) -> None:
    """Learn how the organs of a bundle look, so that implausible results are recognised.

    The cases should be those that the bundle was trained on. The result is written into the bundle as
    reference.json, which changes the bundle's hash; it holds distributions and no patients.
    """
    from orgseg_node.inference.bundles.anatomy import learn_anatomy, replace_anatomy  # noqa: PLC0415
    from orgseg_node.inference.bundles.bundle import find_bundle  # noqa: PLC0415
    from orgseg_node.inference.bundles.matching import read_organ_map  # noqa: PLC0415
    from orgseg_node.inference.bundles.nnunet_cases import open_case_folder  # noqa: PLC0415
    from orgseg_node.inference.bundles.writing import require_writable  # noqa: PLC0415
    from orgseg_node.organ_table import organ_table  # noqa: PLC0415  # heavy imports only when needed

    bundle = find_bundle(name, bundle_folders())
    require_writable(bundle)
    table = organ_table()
    folder = open_case_folder(cases, read_organ_map(organs or []), table, leave_out or ())
    with progress_bar() as on_progress:
        learned = learn_anatomy(
            folder.cases(), source, table, lambda n: on_progress(n / len(folder.names), f"case {n}")
        )
    changed = replace_anatomy(bundle, learned)
    for group, population in learned.populations.items():
        for key, organ in population.organs.items():
            out().print(f"{escape(group)}: {escape(key)} from {organ.patients} patients")
    missing = sorted(set(bundle.manifest.organs) - set(learned.populations["all"].organs))
    if missing:
        out().print(f"[yellow]too few patients[/] for a reference: {escape(', '.join(missing))}")
    out().print(f"[green]written[/] {escape(name)} has the hash {changed.sha256}")
