"""``orgseg protocols``: output, files and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orgseg_node.contouring.protocol import load_protocol, parse_protocol, protocol_names
from orgseg_node.core.contours import trace
from orgseg_node.core.organs import OrganTable
from orgseg_node.dicom.objects.rtstruct import write_rtstruct
from tests.support.ct.objects import PROVENANCE, awkward_label_map, series_of
from tests.support.node.command_line import orgseg

Capsys = pytest.CaptureFixture[str]
WRONG = 'other = "drop"\n[[structures]]\norgan = "liver"\nmin_ml = -1\n'
UNKNOWN = '[[structures]]\norgan = "livr"\n'


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    path = tmp_path / "ours.toml"
    path.write_text(
        'profile = "eclipse"\nphase = "50%"\nothers = "drop"\n'
        '[[structures]]\norgan = "liver"\nname = "[Leber]"\nmin_ml = 2\n'
        '[[structures]]\norgan = "kidneys"\nsplit = ["kidney_left", "kidney_right"]\n'
        '[[structures]]\nname = "Leber_PRV"\nderive = "margin"\nfrom = ["liver"]\nmargin_mm = [1, 2, 3]\n'
        '[external]\nname = "[red]Outline"\n'
    )
    return path


@pytest.fixture
def rtstruct(tmp_path: Path, organ_table: OrganTable) -> Path:
    series = series_of(tmp_path / "ct")
    path = tmp_path / "RTSTRUCT.dcm"
    structures = trace(awkward_label_map(series.grid, organ_table))
    write_rtstruct(structures, series, PROVENANCE).save_as(path)
    return path


def test_list_names_each_with_its_description(capsys: Capsys) -> None:
    answer = orgseg(capsys, "protocols", "list")
    assert (answer.status, answer.err) == (0, "")
    for name in protocol_names():
        (line,) = (line for line in answer.out.splitlines() if line.startswith(name))
        assert load_protocol(name).description[:20] in line


def test_list_as_json_gives_description_and_hash(capsys: Capsys) -> None:
    listed = json.loads(orgseg(capsys, "protocols", "list", "--json").out)
    assert tuple(listed) == protocol_names()
    for name, row in listed.items():
        assert row == {
            "description": load_protocol(name).description,
            "sha256": load_protocol(name).sha256,
        }


def test_show_prints_all_settings_of_a_protocol(capsys: Capsys, ours: Path) -> None:
    answer = orgseg(capsys, "protocols", "show", ours)
    assert answer.status == 0
    for words in ("eclipse", "50%", "drop", "[Leber]", "min_ml 2.0", "kidney_left+kidney_right", "Leber_PRV"):
        assert words in answer.out, words
    assert "margin of liver" in answer.out
    assert "[red]Outline" in answer.out, "names are text and no markup"


@pytest.mark.parametrize("name", ["default", "thorax", None])
def test_show_as_json_can_be_read_as_the_same_protocol(capsys: Capsys, ours: Path, name: str | None) -> None:
    protocol = load_protocol(name or str(ours))
    answer = orgseg(capsys, "protocols", "show", name or ours, "--json")
    content = json.loads(answer.out)
    assert answer.status == 0
    assert content.pop("sha256") == protocol.sha256
    assert parse_protocol(content, "shown") == protocol


def test_check_confirms_a_correct_protocol(capsys: Capsys, ours: Path) -> None:
    for name in (*protocol_names(), ours):
        answer = orgseg(capsys, "protocols", "check", name)
        assert (answer.status, answer.err) == (0, "")
        assert "is correct" in answer.out


@pytest.mark.parametrize("verb", ["check", "show"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WRONG, ["other: there is no such setting; did you mean 'others'?", "structures.1.min_ml"]),
        (UNKNOWN, ["'livr' is no organ; did you mean 'liver'?"]),
        ("a = ", ["is not TOML"]),
        (None, ["No such file"]),
    ],
)
def test_a_wrong_protocol_is_exit_code_3_with_every_problem(
    capsys: Capsys, tmp_path: Path, verb: str, content: str | None, words: list[str]
) -> None:
    path = tmp_path / "wrong.toml"
    if content is not None:
        path.write_text(content)
    answer = orgseg(capsys, "protocols", verb, path)
    assert (answer.status, answer.code, answer.out) == (3, "CONFIG_PROTOCOL", "")
    output = " ".join(answer.err.split())
    for each in words:
        assert each in output
    assert "Next step: " in answer.err


def test_a_protocol_that_does_not_exist_is_exit_code_3(capsys: Capsys) -> None:
    answer = orgseg(capsys, "protocols", "check", "thorx")
    assert (answer.status, answer.code) == (3, "CONFIG_PROTOCOL")
    assert "did you mean 'thorax'?" in answer.err


def test_import_writes_a_protocol_that_is_right(capsys: Capsys, tmp_path: Path, rtstruct: Path) -> None:
    target = tmp_path / "ours.toml"
    answer = orgseg(capsys, "protocols", "import", rtstruct, "--out", target)
    assert answer.status == 0
    assert "eyeball_left" in answer.out
    assert orgseg(capsys, "protocols", "check", target).status == 0
    keys = {entry.organ for entry in load_protocol(str(target)).organs}
    assert keys == {"aorta", "eyeball_left", "liver", "kidney_right", "rectum"}


def test_import_prints_how_many_structures_were_left_out(capsys: Capsys, tmp_path: Path) -> None:
    template = tmp_path / "t.xml"
    template.write_text('<T><Structure ID="Liver"/><Structure ID="Xyz"/><Structure ID="Cord_PRV"/></T>')
    target = tmp_path / "ours.toml"
    answer = orgseg(capsys, "protocols", "import", template, "--out", target)
    assert answer.status == 0
    assert "2 structures were left out" in answer.err
    assert "#   Xyz\n#   Cord_PRV\n" in target.read_text(encoding="utf-8")


def test_import_never_overwrites(capsys: Capsys, ours: Path, rtstruct: Path) -> None:
    before = ours.read_text()
    answer = orgseg(capsys, "protocols", "import", rtstruct, "--out", ours)
    assert (answer.status, answer.code) == (2, "USAGE")
    assert "exists already" in answer.err
    assert ours.read_text() == before


@pytest.mark.parametrize(
    ("name", "words"), [("ours", "must end with .toml"), ("none/ours.toml", "cannot be written")]
)
def test_import_reports_where_it_cannot_write(
    capsys: Capsys, tmp_path: Path, rtstruct: Path, name: str, words: str
) -> None:
    answer = orgseg(capsys, "protocols", "import", rtstruct, "--out", tmp_path / name)
    assert (answer.status, answer.code) == (2, "USAGE")
    assert words in " ".join(answer.err.split())
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("content", "status"), [(b"no template", 1), (b"<T><Structure", 1), (b'<T><Structure ID="Xyz"/></T>', 3)]
)
def test_import_of_another_file_writes_nothing(
    capsys: Capsys, tmp_path: Path, content: bytes, status: int
) -> None:
    file, target = tmp_path / "file", tmp_path / "ours.toml"
    file.write_bytes(content)
    answer = orgseg(capsys, "protocols", "import", file, "--out", target)
    assert answer.status == status
    assert answer.code
    assert not target.exists()


@pytest.mark.parametrize(
    "arguments",
    [("show",), ("check",), ("import", "none.dcm", "--out", "x.toml"), ("import",), ("nonsense",)],
)
def test_wrong_usage_is_exit_code_2(capsys: Capsys, arguments: tuple[str, ...]) -> None:
    assert orgseg(capsys, "protocols", *arguments).status == 2
