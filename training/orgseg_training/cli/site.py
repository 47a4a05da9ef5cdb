"""``orgseg-train site`` and ``who``: a site's data set for retraining."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from orgseg_node.core.organs import PAIRS
from orgseg_node.errors import InputError
from orgseg_training.cli.judge import judge, ratings
from orgseg_training.cli.progress import progress_display
from orgseg_training.curation.quality_control import review_scans, summarise
from orgseg_training.curation.quality_page import write_page
from orgseg_training.datasets.case import SourceCase
from orgseg_training.datasets.rtstruct.archive import file_of_place
from orgseg_training.durable import lock_folder
from orgseg_training.errors import SiteSettingsInvalid
from orgseg_training.gate.outlook import gate_outlook
from orgseg_training.site.ingest import ingest_lines, ingest_site, reject_cases
from orgseg_training.site.locking import lock_site
from orgseg_training.site.settings import SiteSettings, write_settings
from orgseg_training.site.site import Site
from orgseg_training.site.survey import survey_lines, survey_site
from orgseg_training.tuning.folds import MIN_TRAINING

site_app = typer.Typer(no_args_is_help=True, help="A site's data set for retraining.")

SiteFolder = Annotated[Path, typer.Argument(metavar="SITE", help="The site's folder.")]


@site_app.command("init")
def init(
    archive: Annotated[Path, typer.Argument(help="Folder with DICOM CT, RTSTRUCT and RTPLAN.")],
    out: Annotated[Path, typer.Option(help="The site's folder to make.")],
    name: Annotated[str, typer.Option(help="Short name of the data set.")] = "site",
) -> None:
    """Make the folder of a site without a survey; settings are in its site.toml."""
    site = Site.create(out, SiteSettings(name=name, archive=(archive.resolve(),)))
    typer.echo(f"{site.root}")


@site_app.command("survey")
def survey(
    archive: Annotated[Path, typer.Argument(help="Folder with DICOM CT, RTSTRUCT and RTPLAN.")],
    out: Annotated[Path, typer.Option(help="The site's folder; made if it is not there.")],
    name: Annotated[str, typer.Option(help="Short name of a new data set.")] = "site",
) -> None:
    """List scans and ROI names of an archive, and propose the organs of the names in SITE/names.toml."""
    site = _opened(archive.resolve(), out, name)
    typer.echo(f"Reading the headers of {archive}.", err=True)
    found = survey_site(site)
    for line in survey_lines(found):
        typer.echo(line)
    typer.echo(f"{site.names_file}: {found.new_names} names added, {found.undecided} to decide.")
    typer.echo(f"Edit it, then: orgseg-train site ingest {site.root}")


def _with_bar(cases: Sequence[SourceCase]) -> Iterator[SourceCase]:
    with progress_display() as display:
        display.stage("cases read", len(cases))
        for case in cases:
            yield case
            display.advance()


def _opened(archive: Path, out: Path, name: str) -> Site:
    """The site of an archive; a new one, or one whose archive was never surveyed, gets this archive."""
    if not archive.is_dir():
        raise InputError(f"There is no folder {archive}.")
    if not (out / "site.toml").exists():
        return Site.create(out, SiteSettings(name=name, archive=(archive,)))
    site = Site.open(out)
    if archive in {folder.resolve() for folder in site.settings.archive}:
        return site
    if site.names_file.exists():
        raise SiteSettingsInvalid(f"{archive} is not among the folders of archive in {site.settings_file}.")
    write_settings(site.settings_file, site.settings.model_copy(update={"archive": (archive,)}))
    return Site.open(out)


@site_app.command("ingest")
def ingest(site: SiteFolder) -> None:
    """Store the cases of the archive, and say why others are not used; what has not changed is kept."""
    opened = Site.open(site)
    typer.echo(f"Reading the headers of {', '.join(map(str, opened.settings.archive))}.", err=True)
    with lock_folder(opened.root):
        report = ingest_site(opened, _with_bar)
    for line in ingest_lines(report):
        typer.echo(line)
    typer.echo(f"Check them: orgseg-train site qc {opened.root}")
    if opened.lock_file.is_file():
        typer.echo(f"It was locked before. Then: orgseg-train site lock {opened.root}")


@site_app.command("qc")
def check(
    site: SiteFolder,
    who: Annotated[str, typer.Option(help="Your name, for entries of the reject list.")] = "",
) -> None:
    """Check all cases and draw their contours: SITE/qc/index.html, the worst first."""
    opened = Site.open(site)
    with progress_display() as display:
        display.stage("cases checked", len(opened.store.keys()))
        reviews = review_scans(
            opened.store, opened.quality_folder, opened.organs, on_scan_done=display.advance
        )
    page = opened.quality_folder / "index.html"
    write_page(reviews, page, who=who, when=_today())
    typer.echo(summarise(reviews))
    typer.echo(f"{page}")
    typer.echo(f"If nothing is to be rejected: orgseg-train site lock {opened.root}")


@site_app.command("lock")
def lock(site: SiteFolder) -> None:
    """Lock the cases for training and test; a patient keeps its part when patients are added."""
    opened = Site.open(site)
    with lock_folder(opened.root):
        reject_cases(opened)
        locked = lock_site(opened, _today())
    for line in locked.summary:
        typer.echo(line)
    often = sorted(
        organ for organ, count in locked.drawn.items() if count > MIN_TRAINING and organ not in PAIRS
    )
    if often:
        typer.echo(gate_outlook(locked.lock, len(often)))
    typer.echo(_tune_command(opened.root, locked.drawn, often))


def _tune_command(root: Path, drawn: Mapping[str, int], often: Sequence[str]) -> str:
    """The next command, with the organs that are drawn often enough to be trained, pairs as their sides."""
    rare = sorted(drawn.keys() - set(often) - PAIRS.keys())
    left_out = f" Drawn too rarely to be trained: {', '.join(rare)}." if rare else ""
    return (
        f"Then: orgseg-train site tune {root} --from BUNDLE --organs {','.join(often) or 'ORGAN,ORGAN'}\n"
        "with the bundle that contours today ('orgseg models list' names those that are installed), and of"
        f" the organs those that it shall learn.{left_out}"
    )


def who(
    key: Annotated[str, typer.Argument(help="Key of a case, with or without the data set's name.")],
    site: Annotated[Path, typer.Option(help="The site's folder.")] = Path(),
) -> None:
    """Print the Patient ID of a case, from a file that only its owner can read; for a file also its path."""
    opened = Site.open(site)
    name = key.rpartition("__")[2]
    file = file_of_place(name, opened.settings.archive) if name.startswith("file-") else None
    if file is None or key in opened.patients.read():
        typer.echo(opened.patients.patient_id(key))
    if file is not None:
        typer.echo(f"{file}")


def _today() -> date:
    return datetime.now(UTC).astimezone().date()


site_app.command()(judge)
site_app.command()(ratings)


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(site_app, name="site")
    app.command()(who)
