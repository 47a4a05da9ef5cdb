"""A blinded rating sheet: contours of both models in random order, without a word of which is whose.

`write_sheet` makes a page to print, with pictures, and a CSV to fill in; which line is of which model is in a
file of its own, readable only by its owner. `read_sheet` reads the CSV back.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import math
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib.image
import numpy as np
from numpy.typing import NDArray

from orgseg_node.durable import make_folder, write_durably
from orgseg_node.errors import StorageError
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.durable import encode_json, read_json
from orgseg_training.errors import RatingsInvalid
from orgseg_training.evaluation.statistics import signed_rank

SHEET, CSV, KEY = "rating.html", "rating.csv", "rating_key.json"
_COLUMNS: Final = ("code", "organ", "rating", "remark")
_LOW_HU, _HIGH_HU = -160.0, 240.0
_MARGIN: Final = 25  # voxels around the organ in a picture
_PLACES: Final = (0.2, 0.5, 0.8)  # along the organ
_OWNER_ONLY: Final = 0o600
_SCALE: Final = (
    "5 use as it is, 4 small changes that do not matter, 3 small changes needed,"
    " 2 large changes needed, 1 not usable"
)

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedContours:
    """The contours of one model in one scan, to be rated.

    Attributes
    ----------
    case : the scan
    role : ``live`` or ``candidate``
    labels : (K, J, I) label numbers on the grid of the scan
    numbers : label number of each organ
    """

    case: StoredCase
    role: str
    labels: Labels
    numbers: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganRating:
    """The ratings of one organ.

    Attributes
    ----------
    organ : its key
    pairs : number of scans in which both were rated
    live, candidate : mean ratings over them
    p : of Wilcoxon's signed-rank test, two-sided; NaN with fewer than 6
    """

    organ: str
    pairs: int
    live: float
    candidate: float
    p: float


def write_sheet(items: Sequence[RatedContours], organs: Sequence[str], folder: Path, seed: int) -> None:
    """Write the page, the CSV and the key.

    Parameters
    ----------
    items : contours of both models
    organs : that are rated
    folder : for the files
    seed : of the random order

    Raises
    ------
    StorageError, DiskFull, NotDurable
        If scans cannot be read or files not written.
    """
    order = list(items)
    chance = random.Random(seed)  # noqa: S311 (an order, no secret)
    chance.shuffle(order)
    codes = [f"R{n:03d}" for n in range(1, len(order) + 1)]
    key = {code: {"case": one.case.key, "role": one.role} for code, one in zip(codes, order, strict=True)}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    parts = []
    for code, one in zip(codes, order, strict=True):
        rated = [organ for organ in organs if organ in one.numbers]
        writer.writerows((code, organ, "", "") for organ in rated)
        parts.append(_section(code, one, rated))
    make_folder(folder)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Rating</title><style>'
        "body{font:14px sans-serif}img{height:11em;background:#000;margin:1px}"
        "section{page-break-inside:avoid}"
        "td{padding:.2em .6em;border-bottom:1px solid #ccc}</style></head><body>"
        f"<h1>Blinded rating</h1><p>{html.escape(_SCALE)}</p>{''.join(parts)}</body></html>\n"
    )
    write_durably(folder / KEY, encode_json(key), mode=_OWNER_ONLY)
    write_durably(folder / SHEET, page.encode())
    write_durably(folder / CSV, table.getvalue().encode())


def read_sheet(folder: Path, filled: Path) -> tuple[OrganRating, ...]:
    """The ratings in a filled CSV, organ by organ.

    Parameters
    ----------
    folder : with the key
    filled : the CSV; lines without a rating are left out

    Raises
    ------
    RatingsInvalid
        With every line that cannot be used.
    """
    try:
        key: Mapping[str, Mapping[str, str]] = read_json(folder / KEY)
        rows = list(csv.DictReader(io.StringIO(filled.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error, StorageError) as error:
        raise RatingsInvalid(f"{filled.name} or {KEY} cannot be read.") from error
    ratings: dict[tuple[str, str], dict[str, int]] = {}
    problems = []
    for number, row in enumerate(rows, start=2):
        text = (row.get("rating") or "").strip()
        if not text:
            continue
        known = key.get((row.get("code") or "").strip())
        if known is None:
            problems.append(f"line {number}: there is no {row.get('code')!r}")
        elif text not in {"1", "2", "3", "4", "5"}:
            problems.append(f"line {number}: a rating is 1 to 5, not {text!r}")
        else:
            of_scan = ratings.setdefault((str(row.get("organ")), known["case"]), {})
            if known["role"] in of_scan:
                problems.append(f"line {number}: {row.get('code')} {row.get('organ')} is rated twice")
            of_scan[known["role"]] = int(text)
    if problems:
        raise RatingsInvalid("\n".join(problems))
    return tuple(_summary(organ, ratings) for organ in sorted({organ for organ, _ in ratings}))


def ratings_content(ratings: Sequence[OrganRating]) -> list[dict[str, Any]]:
    """The ratings for the gate file."""
    return [{k: None if v != v else v for k, v in asdict(one).items()} for one in ratings]  # noqa: PLR0124 (NaN)


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


def _section(code: str, one: RatedContours, organs: Sequence[str]) -> str:
    hu = one.case.volume().hu
    rows = []
    for organ in organs:
        pictures = "".join(
            f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
            for png in _pictures(hu, np.equal(one.labels, one.numbers[organ]))
        )
        boxes = " ".join(f"&#9633; {n}" for n in range(1, 6))
        rows.append(
            f"<tr><td>{html.escape(organ)}</td><td>{pictures or 'not found'}</td><td>{boxes}</td></tr>"
        )
    return f"<section><h2>{code}</h2><table>{''.join(rows)}</table></section>"


def _pictures(hu: NDArray[Any], mask: NDArray[np.bool_]) -> Iterator[bytes]:
    """Axial slices of an organ with its outline."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    if not slices.size:
        return
    rows, columns = (np.flatnonzero(mask.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    top, left = max(0, rows[0] - _MARGIN), max(0, columns[0] - _MARGIN)
    box = (slice(top, rows[-1] + _MARGIN), slice(left, columns[-1] + _MARGIN))
    for k in dict.fromkeys(int(slices[round(place * (slices.size - 1))]) for place in _PLACES):
        grey = np.clip((hu[k][box] - _LOW_HU) / (_HIGH_HU - _LOW_HU), 0, 1)
        picture = np.repeat(grey[:, :, np.newaxis], 3, axis=2)
        picture[_outline(mask[k][box])] = (1.0, 0.9, 0.0)
        png = io.BytesIO()
        matplotlib.image.imsave(png, picture, format="png")
        yield png.getvalue()


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    edge: NDArray[np.bool_] = mask & ~inner
    return edge
