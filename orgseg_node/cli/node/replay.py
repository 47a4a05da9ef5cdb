"""``orgseg replay``: make a job again, and compare the result with that of the first time."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orgseg_node.cli.console import FAILED, ListedItem, out, print_items, print_json
from orgseg_node.cli.options import Config, Json, open_store

if TYPE_CHECKING:
    from orgseg_node.node.replay import Replay


def replay(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="Numbers of jobs with a result.")],
    config: Config,
    keep: Annotated[
        Path | None, typer.Option("--keep", file_okay=False, help="Folder that keeps what was made again.")
    ] = None,
    json: Json = False,
) -> None:
    """Make jobs again from the images, models and settings that are kept, and compare every byte.

    Nothing is sent, and the job stays as it is. If something differs, each organ is listed with the voxels
    that differ, and each version, device or model that is another one. Exit code 1 if anything differs.
    """
    from orgseg_node.node import replay as replaying  # noqa: PLC0415  # quick start of other commands
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415

    checked = load_config(config)
    found = []
    with closing(open_store(checked, read_only=True)) as store:
        for number in jobs:
            job = store.job(number)
            folder = keep / job.job_id if keep is not None else None
            found.append(replaying.replay(checked, store, job, keep=folder))
            if not json:
                _print(found[-1])
    equal = sum(one.is_equal for one in found)
    if json:
        print_json({"equal": equal, "replays": [{**asdict(one), "equal": one.is_equal} for one in found]})
    else:
        out().print(f"{equal} of {len(found)} are equal in every byte.")
    if equal < len(found):
        raise typer.Exit(FAILED)


def _print(one: Replay) -> None:
    different = [name for name, same in one.files.items() if not same]
    below = [f"{name}: {before} before, {after} now." for name, (before, after) in one.changed.items()]
    below += [
        f"{organ.organ}: {organ.differing} voxels differ ({organ.before} before, {organ.after} now)."
        for organ in one.organs
    ]
    state = "equal" if one.is_equal else f"differs in {', '.join(different) or 'the labels'}"
    if not one.is_equal and one.labels_equal:
        below.append("Every voxel is the same; only the files differ.")
    item = ListedItem(cells=(one.job_id, state), below=below, is_marked=not one.is_equal)
    print_items(("job", "result"), [item])
