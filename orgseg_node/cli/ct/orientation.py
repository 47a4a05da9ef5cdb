"""``orgseg models orientation``: find out on a CT which orientation a bundle was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from orgseg_node.cli.console import FAILED, out, progress_bar
from orgseg_node.shipped import bundle_folders

_SHOWN = 4  # orientations that are printed


def orientation(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a bundle.")],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="CT_DIR",
            exists=True,
            file_okay=False,
            help="Folder with one CT series of an ordinary patient that shows the organs of the bundle.",
        ),
    ],
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Write a clear answer into the manifest of the bundle.")
    ] = False,
) -> None:
    """Run a bundle on a CT in all 48 orientations and judge by anatomy which one it was trained on.

    It takes 48 times as long as one CT. The exit code is 1 if the answer is not clear, or if it is not that
    of the manifest and is not kept. With --keep the bundle has another hash.
    """
    from orgseg_node.core.body import find_body  # noqa: PLC0415  # heavy imports only when needed
    from orgseg_node.core.volume import LabelMap  # noqa: PLC0415
    from orgseg_node.dicom.reading.reader import read_volume  # noqa: PLC0415
    from orgseg_node.dicom.reading.series import read_series  # noqa: PLC0415
    from orgseg_node.inference.bundles.bundle import find_bundle, verify_bundle  # noqa: PLC0415
    from orgseg_node.inference.bundles.writing import replace_orientation, require_writable  # noqa: PLC0415
    from orgseg_node.inference.loading import open_in_orientation  # noqa: PLC0415
    from orgseg_node.inference.orientation_search import (  # noqa: PLC0415
        ORIENTATIONS,
        OrientationScore,
        clear_orientation,
        search_orientation,
    )

    bundle = find_bundle(name, bundle_folders())
    verify_bundle(bundle)
    if keep:
        require_writable(bundle)
    volume = read_volume(read_series(folder))
    body = find_body(volume)

    def run(letters: str) -> LabelMap:
        return open_in_orientation(bundle, letters).predict(volume, body, lambda *_: None).label_map

    done: list[OrientationScore] = []
    with progress_bar() as on_progress:

        def on_score(score: OrientationScore) -> None:
            done.append(score)
            on_progress(len(done) / len(ORIENTATIONS), score.orientation)

        scores = search_orientation(run, on_score)
    for score in scores[:_SHOWN]:
        out().print(f"{score.orientation}: {score.sentence}")
    stated, found = bundle.manifest.preprocessing.orientation, clear_orientation(scores)
    if found is None:
        out().print(f"[yellow]not clear[/]: the manifest's {stated} stays; state it with --orientation.")
        raise typer.Exit(FAILED)
    if found == stated:
        out().print(f"[green]{found}[/], as the manifest of {escape(name)} says")
    if keep:
        changed = replace_orientation(bundle, found, f"{found} on a reference CT: {scores[0].sentence}")
        out().print(f"[green]written[/] {found}; {escape(name)} has the hash {changed.sha256}")
    elif found != stated:
        out().print(
            f"[red]{found}[/], but the manifest of {escape(name)} says {stated}; write it with --keep"
        )
        raise typer.Exit(FAILED)
