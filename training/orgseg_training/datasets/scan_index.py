"""Index of the scans in a folder of images, with the data set's own table."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orgseg_node.errors import InputError
from orgseg_training.datasets.description import DataSet, Scans, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedScan:
    """One scan of a folder.

    Attributes
    ----------
    name, patient : from the paths
    image, labels : expected files; one of the two may be missing
    scans : the group it belongs to
    age_years : from the data set's table
    test : whether it belongs to the test split
    listed : whether the table, if there is one, has it
    """

    name: str
    patient: str
    image: Path
    labels: Path
    scans: Scans
    age_years: float | None
    test: bool
    listed: bool

    @property
    def fault(self) -> str:
        """What is missing; empty if nothing is."""
        if not self.image.is_file():
            return "It has labels, but no CT."
        if not self.labels.exists():
            return "It has no labels."
        return "" if self.listed else "The table of the data set does not list it."


def find_scans(folder: Path, data_set: DataSet) -> tuple[IndexedScan, ...]:
    """All scans, in the order of their names.

    Parameters
    ----------
    folder : of the data set
    data_set : its description

    Raises
    ------
    InputError
        If there is no scan, two have the same name, or the data set's table is missing or has other columns.
    """
    rows = _rows(folder, data_set.table) if data_set.table else {}
    found: dict[str, IndexedScan] = {}
    for scans in data_set.scans:
        for name, patient in sorted(_names(folder, scans)):
            known = found.get(name)
            one = _indexed(folder, scans, (name, patient), (data_set.table, rows))
            if known is None:
                found[name] = one
            elif known.image != one.image:
                raise InputError(f"Two scans of {data_set.title} have the name {name}.")
    if not found:
        wanted = " or ".join(scans.image for scans in data_set.scans)
        raise InputError(f"{folder.name} has no scan of {data_set.title}: there is no {wanted}.")
    return tuple(found[name] for name in sorted(found))


def _names(folder: Path, scans: Scans) -> set[tuple[str, str]]:
    """(case, patient) of every image and of every label; the patient is empty if paths do not contain it."""
    names = set()
    for template in (scans.image, scans.labels):
        fits = re.compile(
            re.sub(
                r"\\\{(case|patient)\\\}",
                _PlaceholderGroups({"case": f"(?:{scans.case})", "patient": "[^/]+"}),
                re.escape(template),
            )
        )
        for path in folder.glob(re.sub(r"\{\w+\}", "*", template)):
            match = fits.fullmatch(path.relative_to(folder).as_posix())
            if match:
                names.add((match["case"], match.groupdict().get("patient", "")))
    return names


class _PlaceholderGroups:
    """Replaces the first occurrence of a placeholder by a group, further ones by a reference to the group."""

    def __init__(self, groups: Mapping[str, str]) -> None:
        self._groups = groups
        self._seen: set[str] = set()

    def __call__(self, match: re.Match[str]) -> str:
        name = match[1]
        if name in self._seen:
            return f"(?P={name})"
        self._seen.add(name)
        return f"(?P<{name}>{self._groups[name]})"


def _indexed(
    folder: Path,
    scans: Scans,
    name: tuple[str, str],
    table: tuple[Table | None, Mapping[str, Mapping[str, str]]],
) -> IndexedScan:
    case, patient = name
    columns, rows = table
    row = rows.get(case, {})
    test = scans.test or bool(columns and columns.split and row.get(columns.split) == columns.test)
    return IndexedScan(
        name=case,
        patient=patient or case,
        image=folder / scans.image.format(case=case, patient=patient),
        labels=folder / scans.labels.format(case=case, patient=patient),
        scans=scans,
        age_years=_age(row.get(columns.age, "")) if columns and columns.age else None,
        test=test,
        listed=columns is None or case in rows,
    )


def _age(text: str | None) -> float | None:
    try:
        age = float(text or "")
    except ValueError:
        return None
    return age if 0 <= age < 130 else None  # also drops NaN


def _rows(folder: Path, table: Table) -> dict[str, dict[str, str]]:
    path = folder / table.file
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=table.separator)
            _require(path, reader.fieldnames or (), table)
            return {row[table.case]: row for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table.file} cannot be read; it is needed to know the test split.") from error


def _require(path: Path, columns: Sequence[str], table: Table) -> None:
    missing = [name for name in _columns(table) if name not in columns]
    if missing:
        raise InputError(f"{path.name} has no column {', '.join(missing)}.")


def _columns(table: Table) -> Iterator[str]:
    yield from (name for name in (table.case, table.age, table.split) if name)
