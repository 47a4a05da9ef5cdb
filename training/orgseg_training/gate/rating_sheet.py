"""A blinded rating sheet: contours of both models in random order, without a word of which is whose.

Each sheet has an id, which is in its page, in each line of its CSV, in the names of all its files and in its
key. The key says which line is of which model of which bundles; it lies apart from page and CSV, and only its
owner can read it. `orgseg_training.gate.ratings` reads the CSV back.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib.image
import numpy as np
from numpy.typing import NDArray

from orgseg_node.durable import make_folder, write_durably
from orgseg_node.inference.bundles.gate_file import model_entry
from orgseg_node.inference.predictor import ModelIdentity
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.durable import encode_json

COLUMNS: Final = ("sheet", "code", "organ", "rating", "remark")
_LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"  # no digits, that a spreadsheet takes for a number, and no words
_LETTERS_OF_ID: Final = 8
_LOW_HU, _HIGH_HU = -160.0, 240.0
_MARGIN: Final = 25  # voxels around the organ in a picture
_PLACES: Final = (0.2, 0.5, 0.8)  # along the organ
_OWNER_ONLY: Final = 0o600
_SCALE: Final = (
    "5 use as it is, 4 small changes that do not matter, 3 small changes needed,"
    " 2 large changes needed, 1 not usable; what is 'not found' and is in the scan is 1"
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
class RatingSheet:
    """The files of one sheet.

    Attributes
    ----------
    name : its id, 8 capital letters
    page : HTML to print
    table : CSV to fill in
    key : which line is of which model; never for whoever rates
    """

    name: str
    page: Path
    table: Path
    key: Path


def is_sheet_name(text: str) -> bool:
    """Whether this can be the id of a sheet."""
    return re.fullmatch(f"[{_LETTERS}]{{{_LETTERS_OF_ID}}}", text) is not None


def key_file(keys: Path, name: str) -> Path:
    """The key of a sheet.

    Parameters
    ----------
    keys : folder of the site's keys and ratings
    name : id of the sheet
    """
    return keys / f"key_{name}.json"


def write_sheet(
    items: Sequence[RatedContours],
    organs: Sequence[str],
    bundles: Mapping[str, ModelIdentity],
    folder: Path,
    keys: Path,
) -> RatingSheet:
    """Write the page, the CSV and the key of a new sheet; files of other sheets are left as they are.

    Parameters
    ----------
    items : contours of both models
    organs : that are rated, as far as both models have them
    bundles : ``live`` and ``candidate``
    folder : for page and CSV
    keys : folder of the site's keys and ratings

    Raises
    ------
    StorageError, DiskFull, NotDurable
        If scans cannot be read or files not written.
    """
    chance = random.SystemRandom()  # an order that can be repeated is known after the first sheet
    make_folder(folder)
    make_folder(keys)
    sheet = _new_sheet(folder, keys, chance)
    rated = _of_both(items, organs)
    order = list(items)
    chance.shuffle(order)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    parts, lines = [], {}
    for number, one in enumerate(order, start=1):
        code = f"R{number:03d}"
        writer.writerows((sheet.name, code, organ, "", "") for organ in rated)
        parts.append(_section(code, one, rated))
        lines[code] = {"case": one.case.key, "role": one.role, "organs": rated}
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Rating {sheet.name}</title><style>"
        "body{font:14px sans-serif}img{height:11em;background:#000;margin:1px}"
        "section{page-break-inside:avoid}"
        "td{padding:.2em .6em;border-bottom:1px solid #ccc}</style></head><body>"
        f"<h1>Blinded rating, sheet {sheet.name}</h1><p>{html.escape(_SCALE)}</p>{''.join(parts)}"
        "</body></html>\n"
    )
    key = {
        "sheet": sheet.name,
        "bundles": {role: model_entry(bundle) for role, bundle in bundles.items()},
        "lines": lines,
    }
    write_durably(sheet.key, encode_json(key), mode=_OWNER_ONLY)
    write_durably(sheet.page, page.encode())
    write_durably(sheet.table, table.getvalue().encode())
    return sheet


def _of_both(items: Sequence[RatedContours], organs: Sequence[str]) -> list[str]:
    """The organs that both models have, so that no section tells by its length whose it is."""
    known: dict[str, set[str]] = {}
    for one in items:
        known.setdefault(one.role, set()).update(one.numbers)
    return [organ for organ in organs if all(organ in keys for keys in known.values())]


def _new_sheet(folder: Path, keys: Path, chance: random.SystemRandom) -> RatingSheet:
    """A sheet with an id that no file has yet."""
    while True:
        name = "".join(chance.choices(_LETTERS, k=_LETTERS_OF_ID))
        sheet = RatingSheet(
            name=name,
            page=folder / f"rating_{name}.html",
            table=folder / f"rating_{name}.csv",
            key=key_file(keys, name),
        )
        if not any(file.exists() for file in (sheet.page, sheet.table, sheet.key)):
            return sheet


def _section(code: str, one: RatedContours, organs: Sequence[str]) -> str:
    hu = one.case.volume().hu
    rows = []
    for organ in organs:
        pictures = "".join(
            f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
            for png in _pictures(hu, np.equal(one.labels, one.numbers.get(organ, -1)))
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
