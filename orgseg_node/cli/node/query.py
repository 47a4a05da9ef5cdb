"""``orgseg query`` and ``orgseg pull``: what a PACS holds of a patient, and how it comes here."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from orgseg_node.cli.console import out, print_json, progress_bar, say
from orgseg_node.errors import ConfigError, NetworkError, NothingMatches, PullTooWide

if TYPE_CHECKING:
    from orgseg_node.inference.predictor import ProgressCallback
    from orgseg_node.node.config.node_config import NodeConfig, NodeSection
    from orgseg_node.node.dimse.find_scu import QueryKey, Series, Study
    from orgseg_node.node.dimse.retrieve_scu import OnProgress, Retrieved


_FOR_THE_NODE = "CT"


class Level(StrEnum):
    """What is listed."""

    STUDY = "study"
    SERIES = "series"


Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Name of a source in --config.")]
Config = Annotated[Path, typer.Option("--config", help="The node's configuration, such as node.toml.")]
Patient = Annotated[str, typer.Option("--patient", metavar="ID", help="Patient ID.")]
Accession = Annotated[str, typer.Option("--accession", metavar="N", help="Accession number.")]
StudyUid = Annotated[str, typer.Option("--study", metavar="UID", help="Study Instance UID.")]
SeriesUid = Annotated[str, typer.Option("--series", metavar="UID", help="Series Instance UID.")]
Modality = Annotated[str, typer.Option("--modality", metavar="CS", help="Modality, such as CT.")]
Dates = Annotated[
    str, typer.Option("--date", metavar="FROM-TO", help="Study date: YYYYMMDD, FROM-TO, FROM- or -TO.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def query(
    source: Source,
    config: Config,
    patient: Patient = "",
    accession: Accession = "",
    study: StudyUid = "",
    series: SeriesUid = "",
    modality: Modality = "",
    date: Dates = "",
    level: Annotated[Level, typer.Option("--level", help="What is listed.")] = Level.STUDY,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many; the rest is cancelled.")] = 100,
    json: Json = False,
) -> None:
    """List what a PACS holds (C-FIND); patient ID and accession number may hold the wildcards * and ?.

    Names of patients are printed on stdout only. With --series, series are listed.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # network only when needed
    from orgseg_node.node.dimse.find_scu import QueryKey, find_series, find_studies  # noqa: PLC0415

    settings = load_config(config)
    asked = settings.source(source)
    key = QueryKey(
        patient_id=patient.strip(),
        accession=accession.strip(),
        study_uid=study,
        series_uid=series,
        modality=modality,
        dates=date,
    )
    find: Any = find_series if level is Level.SERIES or series else find_studies
    found = find(asked, settings.calling_ae_for(asked), key, limit)
    if json:
        name = "series" if find is find_series else "studies"
        told = [
            {part: value for part, value in asdict(item).items() if part != "images"} for item in found.items
        ]
        print_json({name: told, "has_more": found.has_more})
    else:
        (_print_series if find is find_series else _print_studies)(found.items)
    if found.has_more:
        say(f"There are more than {limit}; narrow the keys, or raise --limit.")
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
        Path | None, typer.Option("--out", file_okay=False, help="Keep the files here (C-GET).")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="More series than this are not pulled.")] = 20,
    json: Json = False,
) -> None:
    """Bring series from a PACS: to the running node, or with --out into a folder.

    At least a study, series, accession number or patient must be named, without wildcards. To the node go
    CT series, by the source's method in the configuration; into a folder goes everything, as received.
    """
    from orgseg_node.node.config.load import load_config  # noqa: PLC0415  # network only when needed
    from orgseg_node.node.dimse.find_scu import QueryKey  # noqa: PLC0415

    settings = load_config(config)
    key = QueryKey(
        patient_id=patient.strip(),
        accession=accession.strip(),
        study_uid=study,
        series_uid=series,
        modality=modality or ("" if folder is not None else _FOR_THE_NODE),
        dates=date,
    )
    wanted = _wanted(settings, source, key, limit)
    try:
        with progress_bar() as tell:
            pulled = _pull(settings, source, wanted, folder, _teller(tell))
    except NetworkError:
        say(_what_became(settings, source, folder))
        raise
    where = str(folder) if folder is not None else settings.node.ae_title
    if json:
        print_json({**asdict(pulled), "to": where})
        return
    text = f"{pulled.instances} images of {pulled.series} series to {where}"
    out().print(f"[green]pulled[/] {escape(text)}")
    if pulled.remarks:
        say(f"{pulled.remarks} were taken with a remark.")


def _what_became(settings: NodeConfig, name: str, folder: Path | None) -> str:
    """Where the images are that came before a pull failed."""
    if folder is not None:
        return f"What came lies in {folder}; to pull again completes it."
    if settings.source(name).method == "move":
        return "What the source had sent before is at the node, which does not know that it is incomplete."
    return "It is not sure that the node has all; to pull again sends what is missing."


def _wanted(settings: NodeConfig, name: str, key: QueryKey, limit: int) -> tuple[Series, ...]:
    """The series to pull. Raises PullTooWide unless it is sure that they are those that were meant."""
    from orgseg_node.node.dimse.find_scu import find_series  # noqa: PLC0415
    from orgseg_node.node.dimse.retrieve_scu import require_matches  # noqa: PLC0415

    source = settings.source(name)
    if not key.is_specific:
        raise PullTooWide("No study, series, accession number or patient is named.")
    found = find_series(source, settings.calling_ae_for(source), key, limit)
    require_matches(key, found.items)
    if found.has_more:
        raise PullTooWide(f"There are more than {limit} series; raise --limit if all are meant.")
    if not found.items:
        raise NothingMatches
    return found.items


def _pull(
    settings: NodeConfig, name: str, wanted: tuple[Series, ...], folder: Path | None, told: OnProgress
) -> Retrieved:
    from orgseg_node.node.dimse.archive_scp import FolderArchive  # noqa: PLC0415
    from orgseg_node.node.dimse.retrieve_scu import retrieve_by_get, retrieve_by_move  # noqa: PLC0415

    source, node = settings.source(name), settings.node
    calling = settings.calling_ae_for(source)
    if folder is not None:
        return retrieve_by_get(source, calling, wanted, FolderArchive(folder), told)
    if source.method == "move":
        return retrieve_by_move(source, calling, wanted, source.move_to or node.ae_title, told)
    if not node.port:
        raise ConfigError(
            "node.port is 0, so nobody knows where the node listens: images cannot be handed on."
        )
    with tempfile.TemporaryDirectory(prefix="orgseg-pull-") as scratch:
        # what is incomplete is not handed on: the node would contour it
        pulled = retrieve_by_get(source, calling, wanted, FolderArchive(Path(scratch)), told)
        _hand_on(node, source.ae_title, sorted(Path(scratch).glob("*.dcm")))
    return pulled


def _hand_on(node: NodeSection, calling: str, files: list[Path]) -> None:
    """Store files at the running node in the source's name, so that its rules treat them as the source's."""
    from orgseg_node.node.config.node_config import Destination  # noqa: PLC0415
    from orgseg_node.node.dimse.storage_scu import DicomSender  # noqa: PLC0415

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(node.host, node.host)  # noqa: S104
    DicomSender().send_all(Destination(ae_title=node.ae_title, host=host, port=node.port), calling, files)


def _teller(tell: ProgressCallback) -> OnProgress:
    def told(done: int, expected: int | None) -> None:
        tell(done / expected if expected else 0.0, f"{done} of {expected or '?'} images")

    return told


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
