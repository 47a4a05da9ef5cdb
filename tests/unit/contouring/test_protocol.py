"""A protocol is accepted or refused as a whole, and every problem is described."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from orgseg_node.contouring.protocol import ASK, Protocol, load_protocol, parse_protocol, protocol_names
from orgseg_node.contouring.protocol_entries import DerivedEntry, OrganEntry, margin_of
from orgseg_node.core.margins import Margin
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.postprocess import FillHoles, Postprocessing
from orgseg_node.dicom.tps.tps_names import names_for
from orgseg_node.dicom.tps.tps_profile import PROFILES
from orgseg_node.errors import ConfigError

MEASURED = (
    "brainstem", "spinal_cord", "parotid_right", "parotid_left", "larynx", "esophagus",
)  # fmt: skip
SHIPPED = ("abdomen_pelvis", "default", "head_and_neck", "thorax")


def protocol(text: str) -> Protocol:
    return parse_protocol(tomllib.loads(text), "ours.toml")


def problems(text: str) -> list[str]:
    """The lines of the refusal, without its head."""
    with pytest.raises(ConfigError) as caught:
        protocol(text)
    head, *lines = caught.value.detail.splitlines()
    assert head == "ours.toml:"
    return [line.strip() for line in lines]


def misfits(text: str, table: OrganTable) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        protocol(text).check_organs(table)
    return [line.strip() for line in caught.value.detail.splitlines()[1:]]


def structures(*rows: str) -> str:
    return "".join(f"[[structures]]\n{row}\n" for row in rows)


# ---------------------------------------------------------------------- what comes with the node


def test_these_protocols_come_with_the_node() -> None:
    assert protocol_names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_each_names_known_organs_only_and_describes_itself(name: str, organ_table: OrganTable) -> None:
    shipped = load_protocol(name)
    shipped.check_organs(organ_table)
    assert shipped.description.endswith(".")
    assert shipped.phase == ASK
    assert shipped.external is None, "an outline of the patient is drawn only where a clinic asks for it"


@pytest.mark.parametrize("profile", sorted(PROFILES))
@pytest.mark.parametrize("name", SHIPPED)
def test_names_fit_every_planning_system_as_they_are(
    name: str, profile: str, organ_table: OrganTable
) -> None:
    shipped = load_protocol(name)
    organs = [organ_table[key] for entry in shipped.organs for key in entry.keys]
    names = [organ.name for organ in organs] + [entry.name for entry in shipped.derived]
    assert len({each.casefold() for each in names}) == len(names)
    assert max((len(each) for each in names), default=0) <= PROFILES[profile].max_name
    assert list(names_for(organs, PROFILES[profile]).values()) == [organ.name for organ in organs]
    for entry in shipped.derived:
        assert set(entry.name) <= set(PROFILES[profile].characters)
        assert len(entry.name) <= 16, "TG-263"


def test_the_default_protocol_only_removes_far_pieces_of_the_measured_organs() -> None:
    shipped = load_protocol("default")
    entries = tuple(OrganEntry(organ=entry.organ, max_distance_mm=25) for entry in shipped.organs[:-1])
    mandible = OrganEntry(organ="mandible", max_distance_mm=120)
    assert shipped == Protocol(description=shipped.description, structures=(*entries, mandible))
    assert {entry.organ for entry in entries} == set(MEASURED)


def test_no_protocol_leaves_far_pieces_of_an_organ_whose_pieces_were_measured() -> None:
    for name in ("default", "head_and_neck"):
        tidied = {entry.organ: entry for entry in load_protocol(name).organs}
        for key in MEASURED:
            assert tidied[key].keep_components == 1 or tidied[key].max_distance_mm == 25, (name, key)


def test_a_union_of_left_and_right_is_coded_as_the_pair(organ_table: OrganTable) -> None:
    for name in SHIPPED:
        for entry in load_protocol(name).derived:
            if entry.derive == "union":
                assert entry.like is not None
                assert organ_table[entry.like].side is None


# ---------------------------------------------------------------------- finding and reading


def test_a_protocol_is_found_by_its_name_or_its_path(tmp_path: Path) -> None:
    assert load_protocol("thorax").derived[0].name == "Lungs"
    path = tmp_path / "ours.toml"
    path.write_text('others = "drop"\nphase = "50%"\n')
    ours = load_protocol(str(path))
    assert (ours.others, ours.phase) == ("drop", "50%")


@pytest.mark.parametrize("name", ["thorac", "Thorax"])
def test_for_a_misspelt_name_the_similar_one_is_suggested(name: str) -> None:
    with pytest.raises(ConfigError, match="did you mean 'thorax'"):
        load_protocol(name)


@pytest.mark.parametrize("name", ["zzz", "", "../protocols/thorax", "/etc/passwd"])
def test_for_an_unknown_name_all_names_are_listed(name: str) -> None:
    with pytest.raises(ConfigError, match="there are: abdomen_pelvis, default, head_and_neck, thorax"):
        load_protocol(name)


@pytest.mark.parametrize("content", [b"others = ", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_not_toml_is_reported_as_such(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ours.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not TOML"):
        load_protocol(str(path))


def test_a_file_that_is_not_there_or_is_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for name in ("none.toml", "folder.toml"):
        with pytest.raises(ConfigError, match=name):
            load_protocol(str(tmp_path / name))


def test_every_setting_is_understood() -> None:
    ours = protocol(
        """
        description = "Ours."
        profile = "eclipse"
        phase = "first"
        others = "drop"
        [[structures]]
        organ = "spinal_cord"
        name = "Cord"
        color = [1, 2, 3]
        type = "AVOIDANCE"
        min_ml = 1
        keep_components = 2
        min_island_ml = 0.5
        fill_holes = "3d"
        interpolate_slices = true
        [[structures]]
        organ = "kidneys"
        split = ["kidney_left", "kidney_right"]
        [[structures]]
        name = "Cord_PRV"
        derive = "margin"
        from = ["spinal_cord"]
        margin_mm = { left = 3, superior = 10 }
        inside_body_mm = 0
        like = "spinal_cord"
        [external]
        name = "Outline"
        """
    )
    cord, kidneys = ours.organs
    assert cord.tidying == Postprocessing(
        keep_components=2, min_island_ml=0.5, fill_holes=FillHoles.VOLUME, interpolate_slices=True
    )
    assert (cord.name, cord.color, cord.type, cord.min_ml) == ("Cord", (1, 2, 3), "AVOIDANCE", 1.0)
    assert (cord.keys, kidneys.keys) == (("spinal_cord",), ("kidney_left", "kidney_right"))
    (prv,) = ours.derived
    assert margin_of(prv.margin_mm).values_mm == (3, 0, 0, 0, 10, 0)
    assert prv.inside_body_mm == 0
    assert [type(entry) for entry in ours.structures] == [OrganEntry, OrganEntry, DerivedEntry]
    assert ours.external is not None
    assert ours.external.name == "Outline"
    assert parse_protocol(json.loads(json.dumps(ours.as_json)), "sent") == ours


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        ("5", Margin.uniform(5)),
        ("2.5", Margin.uniform(2.5)),
        ("[1, 2, 3]", Margin.per_axis(1, 2, 3)),
        ("{ inferior = 7 }", Margin(left=0, right=0, anterior=0, posterior=0, superior=0, inferior=7)),
    ],
)
def test_a_margin_is_given_once_in_three_or_in_six(text: str, margin: Margin) -> None:
    row = f'name = "P"\nderive = "margin"\nfrom = ["liver"]\nmargin_mm = {text}'
    assert margin_of(protocol(structures(row)).derived[0].margin_mm) == margin


# ---------------------------------------------------------------------- what is wrong


def test_all_problems_are_reported_at_once() -> None:
    found = problems(
        'profil = "eclipse"\nothers = "some"\n'
        + structures(
            'organ = "liver"\nmin_mll = 1\nkeep_components = 0',
            'name = "PRV"\nderive = "margn"\nfrom = []',
            'name = "Ring"\nderive = "ring"\nfrom = ["liver"]\nmargin_mm = 3\nminus = ["spleen"]',
            "color = [1, 2, 256]",
        )
        + "[external]\nnme = 1\n"
    )
    for start in (
        "profil: there is no such setting; did you mean 'profile'?",
        "others: input should be 'keep' or 'drop', not 'some'",
        "structures.1.min_mll: there is no such setting; did you mean 'min_ml'?",
        "structures.1.keep_components: input should be greater than or equal to 1, not 0",
        "structures.2.derive: input should be 'margin'",
        "structures.2.from: ",
        "structures.3: 'ring' needs outer_mm",
        "structures.3: 'ring' has no margin_mm",
        "structures.3: 'ring' has no minus",
        "structures.4.organ: is missing",
        "structures.4.color.3: input should be less than or equal to 255, not 256",
        "external.nme: there is no such setting; did you mean 'name'?",
    ):
        assert [line for line in found if line.startswith(start)], (start, found)
    assert len(found) == 12


@pytest.mark.parametrize(
    ("row", "start"),
    [
        ("margin_mm = true", "structures.1.margin_mm: input should be a valid number"),
        ('margin_mm = "5"', "structures.1.margin_mm: input should be a valid number"),
        ("margin_mm = -1", "structures.1.margin_mm: input should be greater than or equal to 0"),
        ("margin_mm = 201", "structures.1.margin_mm: input should be less than or equal to 200"),
        ("margin_mm = nan", "structures.1.margin_mm: input should be"),
        ("margin_mm = [1, 2]", "structures.1.margin_mm.3: is missing"),
        ("margin_mm = [1, -2, 3]", "structures.1.margin_mm.2: input should be greater"),
        ("margin_mm = { superor = 1 }", "structures.1.margin_mm.superor: there is no such setting; did you"),
        ("margin_mm = 1\ninside_body_mm = -1", "structures.1.inside_body_mm: input should be greater"),
        ("margin_mm = 1\nfill_holes = '2d'", "structures.1.fill_holes: there is no such setting"),
    ],
)
def test_margins_that_make_no_sense_are_refused(row: str, start: str) -> None:
    (line,) = problems(structures(f'name = "P"\nderive = "margin"\nfrom = ["liver"]\n{row}'))
    assert line.startswith(start)


@pytest.mark.parametrize(
    "row",
    [
        "keep_components = true",
        "keep_components = 1.5",
        'interpolate_slices = "yes"',
        "interpolate_slices = 1",
        "min_ml = true",
        "min_ml = inf",
        "min_island_ml = nan",
        "color = [1, 2]",
        "color = [1.5, 2, 3]",
        'color = "red"',
        'fill_holes = "4d"',
        'type = "PTV"',
        'name = ""',
        'name = " Liver"',
        'name = "Li\\\\ver"',
        'name = "Li\\nver"',
        'name = "Li\\u0000ver"',
        f'name = "{"x" * 65}"',
        'split = ["kidney_left"]',
        'derives = "margin"',
    ],
)
def test_settings_of_organs_that_make_no_sense_are_refused(row: str) -> None:
    (line,) = problems(structures(f'organ = "liver"\n{row}'))
    assert line.startswith("structures.1.")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (structures('organ = "liver"', 'organ = "liver"'), "structures: organ 'liver' is listed twice"),
        (
            structures('organ = "kidneys"\nsplit = ["kidney_left", "kidney_right"]', 'organ = "kidney_left"'),
            "structures: organ 'kidney_left' is listed twice",
        ),
        (
            structures('organ = "kidney_left"\nsplit = ["kidney_left", "kidney_right"]'),
            "structures: organ 'kidney_left' is listed twice",
        ),
        (
            structures('organ = "liver"\nname = "A"', 'name = "A"\nderive = "union"\nfrom = ["liver"]'),
            "structures: the name 'A' is given twice",
        ),
        (
            structures('organ = "kidneys"\nname = "K"\nsplit = ["kidney_left", "kidney_right"]'),
            "structures.1: what is split takes names and colours of the two organs in the organ table",
        ),
        (
            structures(
                'name = "A"\nderive = "union"\nfrom = ["B"]', 'name = "B"\nderive = "union"\nfrom = ["liver"]'
            ),
            "structures: 'A' is made from 'B', which comes after it",
        ),
        (
            structures('name = "A"\nderive = "subtraction"\nfrom = ["liver"]\nminus = ["A"]'),
            "structures: 'A' is made from itself",
        ),
        (
            structures(
                'organ = "lungs"\nsplit = ["lung_left", "lung_right"]',
                'name = "A"\nderive = "margin"\nfrom = ["lungs"]\nmargin_mm = 3',
            ),
            "structures: 'A' is made from 'lungs', which is split; name its parts",
        ),
        (
            structures('organ = "body"\nname = "Outline"\ntype = "EXTERNAL"') + "[external]\n",
            "structures: only one may be the outline of the patient (EXTERNAL), not 'Outline', 'BODY'",
        ),
        (
            structures('name = "A"\nderive = "ring"\nfrom = ["liver"]\ninner_mm = 5\nouter_mm = 5'),
            "structures.1: inner_mm must be less than outer_mm, or nothing is left of the ring",
        ),
        (
            structures('name = "A"\nderive = "intersection"\nfrom = ["liver", "lungs"]\nmargin_mm = 3'),
            "structures.1: 'intersection' has no margin_mm",
        ),
        (
            structures('name = "A"\nderive = "subtraction"\nfrom = ["liver"]'),
            "structures.1: 'subtraction' needs minus",
        ),
    ],
)
def test_contradictions_are_reported(text: str, line: str) -> None:
    assert problems(text) == [line]


def test_names_that_differ_in_case_alone_are_the_same() -> None:
    found = problems(
        structures('organ = "liver"\nname = "Body"', 'organ = "spleen"\nname = "S"') + "[external]\n"
    )
    assert found == [
        "structures: the name 'BODY' is given twice",
        "structures: the name 'Body' is given twice",
    ]


def test_a_ring_may_begin_nearer_to_one_side_than_it_ends() -> None:
    row = 'name = "R"\nderive = "ring"\nfrom = ["liver"]\ninner_mm = [5, 5, 5]\nouter_mm = [5, 5, 9]'
    assert protocol(structures(row)).derived[0].name == "R"


def test_unknown_organs_are_reported_with_suggestions(
    organ_table: OrganTable,
) -> None:
    found = misfits(
        structures(
            'organ = "livr"',
            'organ = "kidneys"\nsplit = ["kidny_left", "kidney_right"]',
            'name = "A"\nderive = "subtraction"\nfrom = ["Liver"]\nminus = ["xxxx"]\nlike = "spinalcord"',
            'name = "B"\nderive = "union"\nfrom = ["A"]',
        ),
        organ_table,
    )
    assert found == [
        "'livr' is no organ; did you mean 'liver'?",
        "'kidny_left' is no organ; did you mean 'kidney_left'?",
        "'Liver' is no organ; did you mean 'liver'?",
        "'xxxx' is no organ",
        "'spinalcord' is no organ; did you mean 'spinal_cord'?",
    ]


def test_parts_are_the_left_and_then_the_right_one(organ_table: OrganTable) -> None:
    """The other way round, the left kidney would be planned as the right one."""
    for parts in ('"kidney_right", "kidney_left"', '"liver", "spleen"', '"kidney_left", "liver"'):
        found = misfits(structures(f'organ = "kidneys"\nsplit = [{parts}]'), organ_table)
        assert found == ["'kidneys' is split into a left and a right organ, in this order"]


def test_names_of_the_table_cannot_be_given_to_others(organ_table: OrganTable) -> None:
    found = misfits(
        structures(
            'organ = "lung_left"',
            'name = "LUNG_L"\nderive = "margin"\nfrom = ["lung_left"]\nmargin_mm = 3',
            'name = "heart"\nderive = "union"\nfrom = ["lung_left"]',
        ),
        organ_table,
    )
    assert found == [
        "'heart' is the key of an organ and no name",
        "the name 'Lung_L' is that of organ 'lung_left', and given to another structure",
    ]
    fine = structures(
        'organ = "lung_left"\nname = "L"', 'name = "Lung_L"\nderive = "union"\nfrom = ["lung_left"]'
    )
    protocol(fine).check_organs(organ_table)


# ---------------------------------------------------------------------- its hash


def test_the_hash_is_of_what_changes_a_result_and_of_nothing_else() -> None:
    row = 'organ = "liver"\nmin_ml = 1'
    base = protocol(structures(row))
    same = [
        protocol('description = "Other words."\n' + structures(row)),
        protocol(structures('min_ml = 1.0\norgan = "liver"')),
        protocol('others = "keep"\nprofile = "generic"\n' + structures(row)),
        parse_protocol(base.as_json, "sent"),
    ]
    assert {each.sha256 for each in same} == {base.sha256}
    others = [
        protocol(""),
        protocol('profile = "eclipse"\n' + structures(row)),
        protocol('phase = "first"\n' + structures(row)),
        protocol('others = "drop"\n' + structures(row)),
        protocol(structures('organ = "liver"\nmin_ml = 1.1')),
        protocol(structures('organ = "spleen"\nmin_ml = 1')),
        protocol(structures(row + '\nname = "L"')),
        protocol(structures(row, 'organ = "spleen"')),
        protocol(structures('organ = "spleen"', row)),
        protocol(structures(row) + "[external]\n"),
    ]
    assert len({each.sha256 for each in [base, *others]}) == len(others) + 1
