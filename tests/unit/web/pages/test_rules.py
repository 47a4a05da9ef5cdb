"""The rules tester says what the node would do, and shows no patient."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orgseg_node.errors import OptionInvalid
from orgseg_node.node.routing.typed_header import typed_header
from orgseg_node.node.users.roles import Role
from orgseg_node.web.pages.configuration.licences import software
from tests.support.web.contoured import contour_case
from tests.support.web.pages_bench import PagesBench

RULES = [
    {"name": "heads", "when": {"BodyPartExamined": {"like": "HEAD*"}}, "action": "contour", "review": True},
    {"name": "from-archive", "when": {"calling_ae": "ARCHIVE"}, "action": "ignore"},
    {"name": "few", "when": {"slices": {"less_than": 20}}, "action": "hold"},
]


@pytest.fixture
def bench(tmp_path: Path) -> PagesBench:
    return PagesBench(tmp_path, rule=RULES)


def _tried(bench: PagesBench, **fields: str) -> str:
    browser = bench.logged_in(Role.ADMINISTRATOR)
    answer = bench.command(browser, "/node/rules", **fields)
    assert answer.status_code in {200, 422}
    return str(answer.text)


def test_a_typed_header_is_decided_as_the_node_decides(bench: PagesBench) -> None:
    text = _tried(bench, header="Modality = CT\nBodyPartExamined = HEADNECK", slices="80", calling="CT1")
    assert "Rule heads decides." in text
    assert "Earlier rules" not in text
    text = _tried(bench, header="BodyPartExamined = CHEST", slices="80", calling="ARCHIVE")
    assert "Rule from-archive decides." in text
    assert re.search(r"<strong>heads</strong>: BodyPartExamined must be [^,]*HEAD[^,]*, and is CHEST", text)
    text = _tried(bench, header="", slices="9", calling="CT1")
    assert "Rule few decides." in text
    assert "and is no value" in text
    assert "needs an AE title" in _tried(bench, header="BodyPartExamined = CHEST", slices="80")


@pytest.mark.parametrize(
    ("header", "slices", "said"),
    [
        ("Modality", "9", "Line 1 is not an attribute"),
        ("Modality = CT\nNoSuchThing = 1", "9", "Line 2 is not an attribute"),
        ("Rows = many", "9", "Line 1: this is no value of Rows"),
        ("PixelData = 1", "9", "PixelData has no value that can be typed"),
        ("Modality = CT", "-1", "number of images"),
        ("Modality = CT", "1" * 30, "number of images"),
    ],
)
def test_what_is_no_header_is_said(bench: PagesBench, header: str, slices: str, said: str) -> None:
    assert said in _tried(bench, header=header, slices=slices)


def test_a_typed_script_stays_text(bench: PagesBench) -> None:
    text = _tried(bench, header="BodyPartExamined = <script>alert(1)</script>", slices="9")
    assert "<script>alert" not in text


def test_a_series_of_the_node_is_explained_without_its_patient(bench: PagesBench, ct: Path) -> None:
    job = contour_case(bench.store, bench.jobs.data, ct)
    text = bench.logged_in(Role.PHYSICIST).get(f"/node/rules?series={job.series_uid}").text
    assert "data-result" in text

    assert "Phantom" not in text
    assert bench.logged_in(Role.PHYSICIST).get("/node/rules?series=9.9.9").status_code == 422


def test_a_header_has_several_values_between_backslashes() -> None:
    header = typed_header(
        "ImageType = ORIGINAL\\PRIMARY\nRows = 512\nSliceThickness = 2.5\nStudyDescription ="
    )
    assert list(header.ImageType) == ["ORIGINAL", "PRIMARY"]
    assert header.Rows == 512
    assert float(header.SliceThickness) == 2.5
    with pytest.raises(OptionInvalid):
        typed_header("Modality = CT\n" * 101)


def test_every_package_of_the_node_is_listed_with_its_licence(bench: PagesBench) -> None:
    names = {one.name for one in software()}
    assert {"orgseg-node", "pydicom", "torch", "starlette", "htmx", "pylibjpeg-openjpeg"} <= names
    assert "pytest" not in names
    assert [one.name for one in software() if not one.licence] == []
    text = bench.logged_in(Role.ADMINISTRATOR).get("/node").text
    assert "pylibjpeg-openjpeg" in text
