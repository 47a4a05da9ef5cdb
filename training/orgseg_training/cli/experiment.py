"""``orgseg-train step`` and ``run``: an experiment step by step, or as a whole by Snakemake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.durable import atomic_file
from orgseg_node.errors import OptionInvalid, ToolMissing
from orgseg_training.durable import lock_folder
from orgseg_training.errors import TrainingError
from orgseg_training.experiment.config import copy_own_organs, load_experiment, save_experiment, with_folders
from orgseg_training.experiment.estimate import Estimate, batches_assumed, estimate, estimate_assumed
from orgseg_training.experiment.steps import STEPS, StepTarget, ingest, lock, proposed_splits, run_step
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.nnunet.run import Machine
from orgseg_training.shipped import training_config, training_workflow

ConfigFile = Annotated[Path, typer.Option("--config", help="The experiment, a TOML file.")]
WorkFolder = Annotated[
    Path, typer.Option("--out", help="Working folder; an interrupted run continues from here.")
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of a step.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]


def step(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(STEPS)}.")],
    config: ConfigFile,
    out: WorkFolder,
    network: Annotated[
        str | None, typer.Option(help="Name of a network: by default its organ, or all for strategy 2.")
    ] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Fold of the network.")] = None,
    batch: Annotated[int | None, typer.Option(min=0, help="Batch of scans, for the step complete.")] = None,
    threads: Threads = 2,
    device: Device = "cpu",
) -> None:
    """Do one step of an experiment; it can be run again at any time."""
    experiment = load_experiment(config)
    workspace = Workspace(experiment=experiment, root=out.resolve())
    copy_own_organs(experiment, workspace.root)
    if name == "ingest":
        for line in ingest(workspace).lines:
            typer.echo(line)
        return
    run_step(
        name,
        workspace,
        StepTarget(network=network, fold=fold, batch=batch),
        Machine(threads=threads, device=device),
    )


def run(
    out: WorkFolder,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The experiment; may be left out with the profile smoke."),
    ] = None,
    profile: Annotated[str, typer.Option(help="local, smoke, slurm, kubernetes, or a folder.")] = "local",
    threads: Threads = 2,
    device: Device = "cpu",
    database: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER: folder of a data set of the experiment on this machine."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Steps at a time.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be done.")] = False,
) -> None:
    """Run an experiment from the data sets to the report, from where it was interrupted."""
    if config is None:
        if profile != "smoke":
            raise OptionInvalid("Name the experiment with --config.")
        config = smoke_experiment(out)
    experiment = with_folders(load_experiment(config), database or [])
    workspace = Workspace(experiment=experiment, root=out.resolve())
    copy_own_organs(experiment, workspace.root)
    for organ in experiment.strategy_1:
        workspace.organs[organ]  # refuses an unknown organ before anything is done
    config = save_experiment(experiment, workspace.root)
    plan, batches = _planned(workspace, dry_run=dry_run)
    typer.echo(f"{experiment.name}: {plan}")
    command = _snakemake(workspace, profile, dry_run=dry_run)
    if profile in {"local", "smoke"}:
        command += ["--cores", str(threads * jobs), "--jobs", str(jobs)]
        if device == "cpu":  # without a GPU several steps may train at a time
            command += ["--resources", f"gpu={jobs}"]
    command += ["--config", f"experiment={config.resolve()}", f"work={workspace.root}"]
    command += [f"threads={threads}", f"device={device}", f"batches={batches}"]
    with lock_folder(workspace.root) as descriptor:
        status = subprocess.run(command, check=False, pass_fds=(descriptor,)).returncode
    if status:
        raise TrainingError(f"Snakemake failed with status {status}; its last lines name the step.")
    if not dry_run:
        typer.echo(f"{workspace.root / 'report' / 'index.html'}")


def _planned(workspace: Workspace, *, dry_run: bool) -> tuple[Estimate, int]:
    """The amount of work, and the number of batches of completion; locks the scans before anything is run."""
    experiment = workspace.experiment
    if dry_run and experiment.assumed is not None and not workspace.splits_file.is_file():
        return estimate_assumed(experiment), batches_assumed(experiment)
    for line in ingest(workspace).lines:
        typer.echo(line)
    splits = proposed_splits(workspace)
    if not dry_run:
        lock(workspace)
    return estimate(workspace, splits), len(workspace.batches(splits))


def _snakemake(workspace: Workspace, profile: str, *, dry_run: bool) -> list[str]:
    """The command that runs the workflow. Raises ToolMissing or OptionInvalid."""
    probe = subprocess.run([sys.executable, "-m", "snakemake", "--version"], check=False, capture_output=True)
    if probe.returncode:
        raise ToolMissing("Snakemake: pip install '.[train]' in the source folder.")
    named = training_workflow() / "profiles" / profile
    folder = named if named.is_dir() else Path(profile)
    if not folder.is_dir():
        raise OptionInvalid(f"There is no profile {profile!r}.")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(training_workflow() / "Snakefile")]
    command += ["--directory", str(workspace.root), "--profile", str(folder), "--rerun-incomplete"]
    command += ["--nolock"]  # Snakemake's lock remains after a kill; that of `lock_folder` does not
    return [*command, "--dry-run"] if dry_run else command


def smoke_experiment(out: Path) -> Path:
    """Write the small experiment and its synthetic patients to the working folder; returns its file."""
    from orgseg_training.datasets.synthetic import write_patients  # noqa: PLC0415

    folder = out.resolve() / "patients"
    if not folder.is_dir():
        write_patients(folder)
    text = training_config("experiments/smoke.toml").read_text(encoding="utf-8")
    file = out.resolve() / "smoke.toml"
    with atomic_file(file) as part:
        part.write_text(text, encoding="utf-8")
    return file


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(step)
    app.command()(run)
