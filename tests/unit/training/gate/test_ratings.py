"""Blinded rating sheets: each is read by its own key only, as any spreadsheet saves it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.inference.predictor import ModelIdentity
from orgseg_training.errors import RatingsInvalid
from orgseg_training.gate.page import render_html, render_pdf
from orgseg_training.gate.rating_sheet import RatedContours, RatingSheet, write_sheet
from orgseg_training.gate.ratings import keep_ratings, kept_ratings, read_sheet
from orgseg_training.site.site import Site
from tests.support.models.judged_site import Networks, session_of, site_of

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
LIVE, CANDIDATE = (
    ModelIdentity(name=n, version="1", sha256=c * 64, intended_use="tests only")
    for n, c in (("live", "a"), ("new", "b"))
)
Row = dict[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return site_of(tmp_path_factory.mktemp("site") / "site", patients=6)


@pytest.fixture
def sheet(site: Site, tmp_path: Path) -> RatingSheet:
    return _sheet(site, tmp_path)


def _sheet(site: Site, folder: Path, only_live: str = "") -> RatingSheet:
    numbers = {"spleen": 1, "liver": 2}
    items = [
        RatedContours(
            case=case,
            role=role,
            labels=sum(n * case.mask(o).astype(np.uint8) for o, n in numbers.items()),
            numbers={o: n for o, n in numbers.items() if role == "live" or o != only_live},
        )
        for case in site.cases()
        for role in ("live", "candidate")
    ]
    bundles = {"live": LIVE, "candidate": CANDIDATE}
    return write_sheet(items, ["spleen", "liver"], bundles, folder / "out", folder / "keys")


def _rows(table: Path) -> list[Row]:
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _fill(sheet: RatingSheet, points: Callable[[str, str], str], **style: str) -> Path:
    """Fill the sheet by role and organ, as someone who knows the key."""
    lines = json.loads(sheet.key.read_text())["lines"]
    rows = [r | {"rating": points(lines[r["code"]]["role"], r["organ"])} for r in _rows(sheet.table)]
    return _save(sheet.table.with_name("filled.csv"), rows, **style)


def _save(
    file: Path, rows: list[Row], *, delimiter: str = ",", encoding: str = "utf-8", end: str = "\r\n"
) -> Path:
    with file.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, lineterminator=end)
        writer.writeheader()
        writer.writerows(rows)
    return file


def _better(role: str, organ: str) -> str:
    return {"live": "3", "candidate": "4"}[role] if organ == "liver" else "5"


def test_a_sheet_is_blind_and_its_key_lies_apart_for_its_owner_only(sheet: RatingSheet) -> None:
    page, rows = sheet.page.read_text(), _rows(sheet.table)
    for text in (page, sheet.table.read_text()):
        assert sheet.name in text
        assert "candidate" not in text
    assert (page.count("<section>"), len(rows)) == (12, 24)
    assert {row["sheet"] for row in rows} == {sheet.name}
    assert all(sheet.name in file.name for file in (sheet.page, sheet.table, sheet.key))
    assert sheet.key.parent != sheet.table.parent
    assert sheet.key.stat().st_mode & 0o077 == 0


def test_a_second_sheet_leaves_the_first_as_it_is_and_has_its_own_order(site: Site, tmp_path: Path) -> None:
    first = _sheet(site, tmp_path)
    filled = first.table.with_name("filled.csv")
    first.table.write_bytes(_fill(first, _better).read_bytes())
    filled.unlink()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    second = _sheet(site, tmp_path)
    assert {file: file.read_bytes() for file in before} == before
    assert json.loads(first.key.read_text())["lines"] != json.loads(second.key.read_text())["lines"]
    (liver, _) = read_sheet(tmp_path / "keys", first.table).organs
    assert (liver.live, liver.candidate) == (3.0, 4.0), "the first sheet is read by its own key"


@pytest.mark.parametrize(
    "style",
    [
        {"delimiter": ",", "end": "\n"},
        {"delimiter": ";", "encoding": "utf-8-sig"},
        {"delimiter": ";", "encoding": "cp1252"},
        {"delimiter": "\t", "encoding": "utf-16"},
        {"delimiter": ";", "end": "\r"},
    ],
    ids=str,
)
def test_a_table_is_read_as_any_spreadsheet_saves_it(sheet: RatingSheet, style: dict[str, str]) -> None:
    rows = [row | {"remark": "Größe, Höhe; gut"} for row in _rows(_fill(sheet, _better))]
    found = read_sheet(sheet.key.parent, _save(sheet.table.with_name("saved.csv"), rows, **style))
    liver, spleen = found.organs
    assert (liver.organ, liver.pairs, liver.live, liver.candidate) == ("liver", 6, 3.0, 4.0)
    assert liver.p < 0.05
    assert (spleen.live, spleen.candidate, spleen.p) == (5.0, 5.0, 1.0)
    assert (found.rated, found.unrated) == (24, ())


def test_lines_without_a_rating_are_left_out_and_named(sheet: RatingSheet) -> None:
    found = read_sheet(sheet.key.parent, _fill(sheet, lambda _, organ: "4" if organ == "liver" else ""))
    assert [(one.organ, one.pairs) for one in found.organs] == [("liver", 6)]
    assert found.rated == 12
    assert "line 2 (R001 spleen)" in found.unrated


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [rows[0] | {"rating": "7"}, *rows[1:]], r"line 2 \(R001 spleen\).*'7'"),
        (
            lambda rows: [rows[0] | {"code": "R999"}, *rows[1:]],
            r"line 2 .*no such line\n.*R001 spleen.*missing",
        ),
        (lambda rows: [*rows, rows[3]], r"line 26 \(R002 liver\).*twice"),
        (lambda rows: rows[2:], r"R001 spleen.*missing\n.*R001 liver.*missing"),
        (lambda rows: [*rows[:-1], rows[-1] | {"sheet": "BBBBBBBB"}], r"line 25 .*of the sheet BBBBBBBB"),
        (lambda rows: [row | {"rating": ""} for row in rows], r"no rating at all.*line 2 .*line 25 "),
        (lambda rows: [r | {"rating": r["rating"] if i == 5 else ""} for i, r in enumerate(rows)], "no scan"),
        (lambda rows: [row | {"sheet": "BBBBBBBB"} for row in rows], r"no key of the sheet BBBBBBBB"),
        (lambda rows: [row | {"sheet": "../../x"} for row in rows], r"'../../x' is not the id"),
        (lambda rows: [{k: v for k, v in row.items() if k != "sheet"} for row in rows], r"no columns sheet"),
        (lambda rows: [dict.fromkeys(rows[0], "")], "no line"),
    ],
    ids=[
        "value",
        "code",
        "twice",
        "missing",
        "two sheets",
        "empty",
        "no pair",
        "no key",
        "path",
        "old",
        "head",
    ],
)
def test_what_cannot_be_used_is_refused_with_its_lines(
    sheet: RatingSheet, change: Callable[[list[Row]], list[Row]], said: str
) -> None:
    rows = change(_rows(_fill(sheet, _better)))
    with pytest.raises(RatingsInvalid, match=f"(?s){said}"):
        read_sheet(sheet.key.parent, _save(sheet.table.with_name("changed.csv"), rows))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("sheet,code,organ,rating,remark,rating", "column rating is there twice"),
        ("Sheet,sheet,code,organ,rating", "sheet is there"),
    ],
)
def test_a_second_column_of_ratings_is_refused(sheet: RatingSheet, head: str, said: str) -> None:
    lines = _fill(sheet, _better).read_text().splitlines()
    file = sheet.table.with_name("two.csv")
    file.write_text("\n".join([head, *(f"{line},2" for line in lines[1:])]))
    with pytest.raises(RatingsInvalid, match=said):
        read_sheet(sheet.key.parent, file)


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"sheet": "AAAAAAAA", "bundles": {}, "lines": {"R001": {}}}']
)
def test_a_damaged_key_or_file_of_ratings_is_named(sheet: RatingSheet, content: str) -> None:
    keys, filled = sheet.key.parent, _fill(sheet, _better)
    kept = keep_ratings(keys, read_sheet(keys, filled))
    kept.write_text(content)
    with pytest.raises(RatingsInvalid, match=kept.name):
        kept_ratings(keys, LIVE.sha256, CANDIDATE.sha256)
    sheet.key.write_text(content)
    with pytest.raises(RatingsInvalid, match="is damaged"):
        read_sheet(keys, filled)


def test_the_key_of_another_sheet_under_this_name_is_refused(sheet: RatingSheet) -> None:
    filled = _fill(sheet, _better)
    sheet.key.write_text(json.dumps(json.loads(sheet.key.read_text()) | {"sheet": "AAAAAAAA"}))
    with pytest.raises(RatingsInvalid, match="of the sheet AAAAAAAA"):
        read_sheet(sheet.key.parent, filled)


def test_an_organ_of_one_model_only_does_not_tell_whose_section_it_is(site: Site, tmp_path: Path) -> None:
    sheet = _sheet(site, tmp_path, only_live="spleen")
    assert {row["organ"] for row in _rows(sheet.table)} == {"liver"}


def test_ratings_are_of_exactly_the_two_bundles(sheet: RatingSheet) -> None:
    keys = sheet.key.parent
    keep_ratings(keys, read_sheet(keys, _fill(sheet, _better)))
    (liver, _) = kept_ratings(keys, LIVE.sha256, CANDIDATE.sha256)
    assert (liver["sheet"], liver["organ"], liver["live"], liver["candidate"]) == (sheet.name, "liver", 3, 4)
    assert kept_ratings(keys, CANDIDATE.sha256, LIVE.sha256) == []
    assert kept_ratings(keys, LIVE.sha256, "c" * 64) == []


def test_page_and_pdf_of_a_gate_show_the_ratings(sheet: RatingSheet, site: Site, tmp_path: Path) -> None:
    keys = sheet.key.parent
    keep_ratings(keys, read_sheet(keys, _fill(sheet, _better)))
    session = session_of(site, tmp_path, Networks())
    content = dict(session.run(session.scans(), lambda: NOW).content)
    rated = content | {"ratings": kept_ratings(keys, LIVE.sha256, CANDIDATE.sha256)}
    assert sheet.name in render_html(rated).decode()
    assert len(render_pdf(rated)) > len(render_pdf(content))
