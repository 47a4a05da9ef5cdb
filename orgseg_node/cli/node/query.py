"""``orgseg query`` and ``orgseg pull``: list the images of a patient in a PACS, and retrieve them."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from orgseg_node.cli.console import out, print_json, print_message, progress_bar
from orgseg_node.cli.options import Config, Json
from orgseg_node.errors import ConfigError, NetworkError, NothingMatches, PullTooWide

if TYPE_CHECKING:
    from orgseg_node.inference.predictor import ProgressCallback
    from orgseg_node.node.config.node_config import NodeConfig, NodeSection
    from orgseg_node.node.dimse.find_scu import QueryKey, Series, Study
    from orgseg_node.node.dimse.retrieve_scu import OnProgress, Retrieved


_NODE_MODALITY = "CT"


class Level(StrEnum):
    """Level of a query."""

    STUDY = "study"
    SERIES = "series"


Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Name of a source in --config.")]
Patient = Annotated[str, typer.Option("--patient", metavar="ID", help="Patient ID.")]
Accession = Annotated[str, typer.Option("--accession", metavar="N", help="Accession number.")]
StudyUid = Annotated[str, typer.Option("--study", metavar="UID", help="Study Instance UID.")]
SeriesUid = Annotated[str, typer.Option("--series", metavar="UID", help="Series Instance UID.")]
Modality = Annotated[str, typer.Option("--modality", metavar="CS", help="Modality, such as CT.")]
Dates = Annotated[
    str, typer.Option("--date", metavar="FROM-TO", help="Study date: YYYYMMDD, FROM-TO, FROM- or -TO.")
]


def query(
    source: Source,
    config: Config,
    patient: Patient = "",
    accession: Accession = "",
    study: StudyUid = "",
    series: SeriesUid = "",
    modality: Modality = "",
    date: Dates = "",
    level: Annotated[Level, typer.Option("--level", help="List studies or series.")] = Level.STUDY,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Maximum number of results; the query is cancelled then.")
    ] = 100,
    json: Json = False,
) -> None:
    """List studies or series in a PACS (C-FIND); patient ID and accession number may contain * and ?.

    Names of patients are printed on stdout only. With --series, series are listed.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # network only when needed
    from orgseg_node.node.dimse.find_scu import QueryKey, find_series, find_studies  # noqa: PLC0415

    settings = load_config(config)
    origin = settings.source(source)
    key = QueryKey(
        patient_id=patient.strip(),
        accession=accession.strip(),
        study_uid=study,
        series_uid=series,
        modality=modality,
        dates=date,
    )
    find: Any = find_series if level is Level.SERIES or series else find_studies
    found = find(origin, settings.calling_ae_for(origin), key, limit)
    if json:
        name = "series" if find is find_series else "studies"
        items = [
            {part: value for part, value in asdict(item).items() if part != "images"} for item in found.items
        ]
        print_json({name: items, "has_more": found.has_more})
    else:
        (_print_series if find is find_series else _print_studies)(found.items)
    if found.has_more:
        print_message(f"There are more than {limit}; narrow the keys, or raise --limit.")
    if not found.items:
        raise NothingMatches


def pull(
    source: Source,
    config: Config,
    study: StudyUid = "",
    series: SeriesUid = "",
    accession: Accession = "",
    patient: Patient = "",
    modality: Modality = "",
    date: Dates = "",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", file_okay=False, help="Folder for the files (C-GET); without it, they go to the node."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Maximum number of series; more are not retrieved at all.")
    ] = 20,
    json: Json = False,
) -> None:
    """Retrieve series from a PACS: to the running node, or with --out into a folder.

    A study, series, accession number or patient must be named, without wildcards. The node gets CT series
    only, by the source's method in the configuration; a folder gets everything, as received.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # network only when needed
    from orgseg_node.node.dimse.find_scu import QueryKey  # noqa: PLC0415

    settings = load_config(config)
    key = QueryKey(
        patient_id=patient.strip(),
        accession=accession.strip(),
        study_uid=study,
        series_uid=series,
        modality=modality or ("" if folder is not None else _NODE_MODALITY),
        dates=date,
    )
    selected = _select(settings, source, key, limit)
    try:
        with progress_bar() as on_progress:
            pulled = _pull(settings, source, selected, folder, _image_count(on_progress))
    except NetworkError:
        print_message(_after_failure(settings, source, folder))
        raise
    where = str(folder) if folder is not None else settings.node.ae_title
    if json:
        print_json({**asdict(pulled), "to": where})
        return
    text = f"{pulled.instances} images of {pulled.series} series to {where}"
    out().print(f"[green]pulled[/] {escape(text)}")
    if pulled.remarks:
        print_message(f"{pulled.remarks} were stored with a warning.")


def _after_failure(settings: NodeConfig, name: str, folder: Path | None) -> str:
    """Where the images are that were received before a pull failed."""
    if folder is not None:
        return f"The images received so far are in {folder}; pull again to complete them."
    if settings.source(name).method == "move":
        return "Images that came before the failure are in the node, which cannot see that some are missing."
    return "The node may not have all images; pull again to send the missing ones."


def _select(settings: NodeConfig, name: str, key: QueryKey, limit: int) -> tuple[Series, ...]:
    """The series to retrieve. Raises PullTooWide unless the key selects them without doubt."""
    from orgseg_node.node.dimse.find_scu import find_series  # noqa: PLC0415
    from orgseg_node.node.dimse.retrieve_scu import require_matches  # noqa: PLC0415

    source = settings.source(name)
    if not key.is_specific:
        raise PullTooWide("No study, series, accession number or patient is named.")
    found = find_series(source, settings.calling_ae_for(source), key, limit)
    require_matches(key, found.items)
    if found.has_more:
        raise PullTooWide(f"There are more than {limit} series; raise --limit if you want all of them.")
    if not found.items:
        raise NothingMatches
    return found.items


def _pull(
    settings: NodeConfig, name: str, selected: tuple[Series, ...], folder: Path | None, on_image: OnProgress
) -> Retrieved:
    from orgseg_node.node.dimse.archive_scp import FolderArchive  # noqa: PLC0415
    from orgseg_node.node.dimse.retrieve_scu import retrieve_by_get, retrieve_by_move  # noqa: PLC0415

    source, node = settings.source(name), settings.node
    calling = settings.calling_ae_for(source)
    if folder is not None:
        return retrieve_by_get(source, calling, selected, FolderArchive(folder), on_image)
    if source.method == "move":
        return retrieve_by_move(source, calling, selected, source.move_to or node.ae_title, on_image)
    if not node.port:
        raise ConfigError(
            "node.port is 0, so the port of the running node is not known: images cannot be sent to it."
        )
    with tempfile.TemporaryDirectory(prefix="orgseg-pull-") as scratch:
        # an incomplete series is not sent: the node would contour it
        pulled = retrieve_by_get(source, calling, selected, FolderArchive(Path(scratch)), on_image)
        _send_to_node(node, source.ae_title, sorted(Path(scratch).glob("*.dcm")))
    return pulled


def _send_to_node(node: NodeSection, calling: str, files: list[Path]) -> None:
    """Send files to the running node with the AE title of the source, so that its rules apply to them."""
    from orgseg_node.node.config.node_config import Destination  # noqa: PLC0415
    from orgseg_node.node.dimse.storage_scu import DicomSender  # noqa: PLC0415

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(node.host, node.host)  # noqa: S104
    DicomSender().send_all(Destination(ae_title=node.ae_title, host=host, port=node.port), calling, files)


def _image_count(on_progress: ProgressCallback) -> OnProgress:
    def on_image(done: int, expected: int | None) -> None:
        on_progress(done / expected if expected else 0.0, f"{done} of {expected or '?'} images")

    return on_image


def _print_studies(studies: tuple[Study, ...]) -> None:
    for study in studies:
        _print_study(study)


def _print_study(study: Study) -> None:
    console = out()
    console.print(f"[green]study[/] {escape(study.study_uid)}")
    parts = [
        f"patient {study.patient_id} {study.patient_name}",
        f"date {study.date}" if study.date else "",
        f"accession {study.accession}" if study.accession else "",
        study.modalities,
        _counted(study.series, "series"),
        _counted(study.instances, "images"),
        study.description,
    ]
    console.print(escape(f"  {', '.join(part for part in parts if part)}"))


def _print_series(found: tuple[Series, ...]) -> None:
    console = out()
    before = None
    for series in found:
        if series.study is not None and series.study is not before:
            _print_study(series.study)
        before = series.study
        console.print(f"  [cyan]series[/] {escape(series.series_uid)}")
        parts = [
            series.modality,
            f"number {series.number}" if series.number else "",
            _counted(series.instances, "images"),
            series.description,
        ]
        console.print(escape(f"    {', '.join(part for part in parts if part)}"))


def _counted(count: int | None, what: str) -> str:
    return "" if count is None else f"{count} {what}"
