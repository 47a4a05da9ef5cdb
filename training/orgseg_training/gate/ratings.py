"""Ratings of blinded sheets: read by the key of the very sheet, kept with the bundles that they are of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from orgseg_node.durable import make_folder, write_durably
from orgseg_node.errors import StorageError
from orgseg_training.durable import encode_json, read_json
from orgseg_training.errors import RatingsInvalid
from orgseg_training.evaluation.statistics import signed_rank
from orgseg_training.gate.rating_sheet import is_sheet_name, key_file
from orgseg_training.gate.rating_table import TableLine, read_table

_POINTS: Final = ("1", "2", "3", "4", "5")
_Role = Literal["live", "candidate"]


class _File(BaseModel):
    """A file beside the ratings; whatever else it has stays unread."""

    model_config = ConfigDict(frozen=True)

    sheet: str
    bundles: dict[_Role, dict[str, str]]


class _KeyLine(BaseModel):
    case: str
    role: _Role
    organs: list[str]


class _Key(_File):
    lines: dict[str, _KeyLine]


class _Kept(_File):
    organs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganRating:
    """The ratings of one organ.

    Attributes
    ----------
    organ : its key
    pairs : number of scans in which both were rated
    live, candidate : mean ratings over them, 1 to 5; NaN without any
    p : of Wilcoxon's signed-rank test, two-sided; NaN with fewer than 6
    """

    organ: str
    pairs: int
    live: float
    candidate: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRatings:
    """What was rated on one sheet.

    Attributes
    ----------
    sheet : its id
    bundles : ``live`` and ``candidate``, as a gate file names them
    organs : the ratings, organ by organ
    rated : number of lines with a rating
    unrated : places of the lines without one
    """

    sheet: str
    bundles: Mapping[str, Mapping[str, str]]
    organs: tuple[OrganRating, ...]
    rated: int
    unrated: tuple[str, ...]


def ratings_folder(gate: Path) -> Path:
    """The folder of keys and ratings of a site.

    Parameters
    ----------
    gate : folder of the gates of the site
    """
    return gate / "ratings"


def read_sheet(keys: Path, filled: Path) -> SheetRatings:
    """The ratings in a filled CSV, by the key of the sheet that its lines name.

    Parameters
    ----------
    keys : folder of the site's keys and ratings
    filled : the CSV; lines without a rating are left out

    Raises
    ------
    RatingsInvalid
        If there is no key of this sheet, lines are missing, do not belong to it or have no rating of 1 to 5,
        or no scan has a rating of both models; with every line that cannot be used.
    """
    lines = read_table(filled)
    if not lines:
        raise RatingsInvalid(f"{filled.name} has no line below its head.")
    sheet = lines[0].sheet
    key = _key(keys, sheet, lines[0])
    problems = [*_problems(lines, sheet, key.lines)]
    if problems:
        raise RatingsInvalid("\n".join(f"{filled.name}, {problem}" for problem in problems))
    ratings: dict[tuple[str, str], dict[str, int]] = {}
    unrated = []
    for line in lines:
        if line.rating:
            of = key.lines[line.code]
            ratings.setdefault((line.organ, of.case), {})[of.role] = int(line.rating)
        else:
            unrated.append(line.place)
    if all(len(of) < 2 for of in ratings.values()):
        nothing = "has no rating at all" if not ratings else "has no scan with ratings of both contours"
        raise RatingsInvalid(f"{filled.name} {nothing}; without one are {', '.join(unrated)}.")
    return SheetRatings(
        sheet=sheet,
        bundles={role: dict(bundle) for role, bundle in key.bundles.items()},
        organs=tuple(_summary(organ, ratings) for organ in sorted({organ for organ, _ in ratings})),
        rated=len(lines) - len(unrated),
        unrated=tuple(unrated),
    )


def keep_ratings(keys: Path, ratings: SheetRatings) -> Path:
    """Keep the ratings of a sheet, instead of earlier ones of the same sheet; returns the file.

    Parameters
    ----------
    keys : folder of the site's keys and ratings
    ratings : of one sheet

    Raises
    ------
    DiskFull, NotDurable
        If the file cannot be written.
    """
    make_folder(keys)
    file = keys / f"ratings_{ratings.sheet}.json"
    organs = [{k: None if v != v else v for k, v in asdict(one).items()} for one in ratings.organs]  # noqa: PLR0124 (NaN)
    content = {"sheet": ratings.sheet, "bundles": ratings.bundles, "organs": organs}
    write_durably(file, encode_json(content))
    return file


def kept_ratings(keys: Path, live: str, candidate: str) -> list[dict[str, Any]]:
    """The ratings of exactly these two bundles for a gate file, each with the id of its sheet.

    Parameters
    ----------
    keys : folder of the site's keys and ratings
    live, candidate : SHA-256 of the bundles of the gate

    Raises
    ------
    RatingsInvalid
        If a file of ratings is damaged.
    """
    found = []
    for file in sorted(keys.glob("ratings_*.json")):
        try:
            kept = _Kept.model_validate(read_json(file))
            of = kept.bundles["live"]["sha256"], kept.bundles["candidate"]["sha256"]
        except (StorageError, ValidationError, KeyError) as error:
            raise RatingsInvalid(
                f"{file} is damaged: restore or delete it, or read its sheet again."
            ) from error
        if of == (live, candidate):
            found += [{"sheet": kept.sheet, **organ} for organ in kept.organs]
    return found


def _key(keys: Path, sheet: str, line: TableLine) -> _Key:
    if not is_sheet_name(sheet):
        raise RatingsInvalid(f"{line.place}: {sheet!r} is not the id of a sheet.")
    file = key_file(keys, sheet)
    if not file.is_file():
        raise RatingsInvalid(f"There is no key of the sheet {sheet} in this site: {file} is missing.")
    try:
        key = _Key.model_validate(read_json(file))
    except (StorageError, ValidationError) as error:
        raise RatingsInvalid(f"The key of the sheet {sheet} is damaged: {file}.") from error
    if key.sheet != sheet:
        raise RatingsInvalid(f"{file} is the key of the sheet {key.sheet}, not of {sheet}.")
    return key


def _problems(lines: Sequence[TableLine], sheet: str, key: Mapping[str, _KeyLine]) -> Iterator[str]:
    """What is wrong with each line, and the lines that are missing."""
    missing = {(code, organ): None for code, of in key.items() for organ in of.organs}
    seen: set[tuple[str, str]] = set()
    for line in lines:
        cell = (line.code, line.organ)
        if line.sheet != sheet:
            yield f"{line.place}: it is of the sheet {line.sheet or 'without an id'}, not of {sheet}"
        elif cell in seen:
            yield f"{line.place}: it is there twice"
        elif cell not in missing:
            yield f"{line.place}: the sheet {sheet} has no such line"
        elif line.rating and line.rating not in _POINTS:
            yield f"{line.place}: a rating is 1 to 5, not {line.rating!r}"
        seen.add(cell)
    for code, organ in missing:
        if (code, organ) not in seen:
            yield f"{code} {organ}: this line of the sheet {sheet} is missing"


def _summary(organ: str, ratings: Mapping[tuple[str, str], Mapping[str, int]]) -> OrganRating:
    pairs = [of for (name, _), of in ratings.items() if name == organ and len(of) == 2]
    live, candidate = ([one[role] for one in pairs] for role in ("live", "candidate"))
    return OrganRating(
        organ=organ,
        pairs=len(pairs),
        live=statistics.fmean(live) if pairs else math.nan,
        candidate=statistics.fmean(candidate) if pairs else math.nan,
        p=signed_rank([b - a for a, b in zip(live, candidate, strict=True)]),
    )
