"""Everything in a protocol is done and reported, and nothing else is done."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from orgseg_node.contouring.protocol import Protocol, load_protocol, parse_protocol
from orgseg_node.contouring.structures import AppliedProtocol, apply_protocol
from orgseg_node.core.checks import Level
from orgseg_node.core.geometry import Grid, SliceStack, VoxelGeometry
from orgseg_node.core.organs import OrganTable, Side
from orgseg_node.core.volume import LabelMap, Mask
from orgseg_node.errors import ConfigError

SHAPE = (8, 20, 24)
SPACING = (3.0, 1.0, 1.0)
GRID = Grid(shape=SHAPE, spacing_mm=SPACING, origin_mm=(-12.0, 0.0, 0.0))
VOXEL_ML = 0.003
KEYS = ("liver", "spleen", "kidneys", "rectum", "heart")
LIVER, SPLEEN, KIDNEYS = 1, 2, 3


@pytest.fixture
def body() -> Mask:
    mask = np.zeros(SHAPE, dtype=np.bool_)
    mask[:, 2:18, 2:22] = True
    return mask


@pytest.fixture
def label_map(organ_table: OrganTable) -> LabelMap:
    """Liver with a hole, a crumb and the spleen in it; two kidneys as one; neither rectum nor heart."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:6, 3:10, 3:12] = LIVER
    labels[3, 5, 5] = 0
    labels[3:5, 7:9, 7:9] = SPLEEN
    labels[7, 15, 12] = LIVER
    labels[2:5, 12:16, 3:7] = labels[3:6, 12:16, 17:21] = KIDNEYS
    return LabelMap(grid=GRID, labels=labels, organs=_organs(organ_table))


def _organs(table: OrganTable) -> dict[int, object]:
    return {label: table[key] for label, key in enumerate(KEYS, start=1)}


def protocol(*rows: str, head: str = "", tail: str = "") -> Protocol:
    text = head + "\n" + "".join(f"[[structures]]\n{row}\n" for row in rows) + tail
    return parse_protocol(tomllib.loads(text), "ours.toml")


def derived(derive: str, *sources: str, more: str = "", name: str = "New") -> str:
    return f'name = "{name}"\nderive = "{derive}"\nfrom = {list(sources)}\n{more}'


def codes(applied: AppliedProtocol) -> list[str]:
    return [finding.code for finding in applied.findings]


def mask_of(applied: AppliedProtocol, key: str) -> Mask:
    (label,) = (n for n, organ in applied.label_map.organs.items() if organ.key == key)
    return applied.label_map.mask(label)


def region(applied: AppliedProtocol, number: int = 0) -> Mask:
    return applied.regions[number].full(SHAPE)


def near(mask: Mask, mm: float, place: VoxelGeometry = GRID) -> Mask:
    assert isinstance(place, Grid)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(~mask, sampling=place.spacing_mm)
    return distance <= mm


# ---------------------------------------------------------------------- nothing asked for


def test_the_default_protocol_changes_no_organ_that_it_does_not_list(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    shipped = load_protocol("default")
    applied = apply_protocol(shipped, label_map, body, organ_table)
    assert applied.label_map.labels is label_map.labels
    assert applied.label_map.organs == label_map.organs
    assert applied.label_map.grid is label_map.grid
    assert (applied.regions, applied.findings) == ((), ())
    assert applied.order == tuple(entry.organ for entry in shipped.organs)
    assert {row["done"] for row in applied.recorded} == {"no model looks for it"}


def test_the_input_is_never_changed(label_map: LabelMap, body: Mask, organ_table: OrganTable) -> None:
    labels, organs, patient = label_map.labels.copy(), dict(label_map.organs), body.copy()
    asked = protocol(
        'organ = "liver"\nkeep_components = 1\nfill_holes = "3d"\nname = "L"\nmin_ml = 100',
        'organ = "kidneys"\nsplit = ["kidney_left", "kidney_right"]',
        derived("margin", "spleen", more="margin_mm = 3\ninside_body_mm = 1"),
        head='others = "drop"',
        tail="[external]\n",
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    np.testing.assert_array_equal(label_map.labels, labels)
    np.testing.assert_array_equal(body, patient)
    assert label_map.organs == organs
    assert not np.shares_memory(applied.label_map.labels, label_map.labels)


def test_an_unknown_organ_is_refused_before_anything_is_done(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    with pytest.raises(ConfigError, match="'livr' is no organ"):
        apply_protocol(protocol('organ = "livr"'), label_map, body, organ_table)


# ---------------------------------------------------------------------- organs


def test_names_colours_and_types_are_those_of_the_protocol(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(
        'organ = "liver"\nname = "Leber"\ncolor = [1, 2, 3]\ntype = "AVOIDANCE"', 'organ = "spleen"'
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    liver = applied.label_map.organs[LIVER]
    assert (liver.name, liver.color, liver.interpreted_type) == ("Leber", (1, 2, 3), "AVOIDANCE")
    assert (liver.key, liver.code) == ("liver", organ_table["liver"].code)
    assert applied.label_map.organs[SPLEEN] == organ_table["spleen"]
    assert applied.label_map.labels is label_map.labels, "names change no voxel"
    assert applied.recorded[0] == {"structure": "liver", "name": "Leber"}


def test_black_is_a_colour(label_map: LabelMap, body: Mask, organ_table: OrganTable) -> None:
    applied = apply_protocol(protocol('organ = "liver"\ncolor = [0, 0, 0]'), label_map, body, organ_table)
    assert applied.label_map.organs[LIVER].color == (0, 0, 0)


def test_tidying_removes_islands_and_fills_background_only(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol('organ = "liver"\nname = "Leber"\nkeep_components = 1\nfill_holes = "2d"')
    applied = apply_protocol(asked, label_map, body, organ_table)
    wanted = label_map.labels.copy()
    wanted[7, 15, 12] = 0
    wanted[3, 5, 5] = LIVER
    np.testing.assert_array_equal(applied.label_map.labels, wanted)
    (finding,) = applied.findings
    assert (finding.code, finding.level, finding.organ) == ("ORGAN_TIDIED", Level.INFO, "liver")
    assert finding.message.startswith("Leber: "), "the name that the structure set shows"
    assert applied.recorded == (
        {"structure": "liver", "name": "Leber", "removed_ml": VOXEL_ML, "filled_ml": VOXEL_ML},
    )


def test_tidying_that_changes_much_is_a_warning(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    applied = apply_protocol(protocol('organ = "kidneys"\nkeep_components = 1'), label_map, body, organ_table)
    (finding,) = applied.findings
    assert (finding.code, finding.level) == ("ORGAN_TIDIED", Level.WARNING)
    assert finding.value == pytest.approx(48 * VOXEL_ML)


def test_tidying_without_an_effect_gives_no_finding(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    applied = apply_protocol(protocol('organ = "spleen"\nkeep_components = 1'), label_map, body, organ_table)
    assert applied.findings == ()
    assert applied.recorded[0]["removed_ml"] == applied.recorded[0]["filled_ml"] == 0


def test_skipped_slices_are_filled_on_request(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    labels = label_map.labels.copy()
    labels[4][labels[4] == LIVER] = 0
    gap = LabelMap(grid=GRID, labels=labels, organs=label_map.organs)
    assert not mask_of(apply_protocol(protocol('organ = "liver"'), gap, body, organ_table), "liver")[4].any()
    filled = apply_protocol(protocol('organ = "liver"\ninterpolate_slices = true'), gap, body, organ_table)
    assert mask_of(filled, "liver")[4, 3:7, 3:12].all()
    np.testing.assert_array_equal(filled.label_map.mask(SPLEEN), label_map.mask(SPLEEN))


@pytest.mark.parametrize(("ml", "voxels"), [(8 * VOXEL_ML - 1e-9, 8), (8 * VOXEL_ML + 1e-6, 0)])
def test_organs_below_their_minimum_volume_are_left_out_and_reported(
    ml: float, voxels: int, label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(f'organ = "spleen"\nmin_ml = {ml:.12f}')
    applied = apply_protocol(asked, label_map, body, organ_table)
    assert mask_of(applied, "spleen").sum() == voxels
    assert codes(applied) == ([] if voxels else ["ORGAN_TOO_SMALL"])
    assert ("left_out_ml" in applied.recorded[0]) == (not voxels)
    np.testing.assert_array_equal(applied.label_map.mask(LIVER), label_map.mask(LIVER))


def test_the_minimum_volume_applies_after_tidying(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    kidney = 48 * VOXEL_ML
    asked = protocol(f'organ = "kidneys"\nkeep_components = 1\nmin_ml = {1.5 * kidney}')
    applied = apply_protocol(asked, label_map, body, organ_table)
    assert codes(applied) == ["ORGAN_TIDIED", "ORGAN_TOO_SMALL"]
    assert applied.findings[1].value == pytest.approx(kidney)


def test_the_minimum_volume_does_not_apply_to_an_organ_that_was_not_found(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol('organ = "rectum"\nmin_ml = 5\nkeep_components = 1')
    applied = apply_protocol(asked, label_map, body, organ_table)
    assert applied.findings == ()
    assert applied.label_map.labels is label_map.labels


def test_an_organ_that_no_model_looks_for_is_recorded(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    applied = apply_protocol(protocol('organ = "larynx"\nname = "X"'), label_map, body, organ_table)
    assert applied.recorded == ({"structure": "larynx", "done": "no model looks for it"},)
    assert applied.label_map.organs == label_map.organs


def test_organs_that_are_not_listed_can_be_dropped_and_still_be_sources(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(
        'organ = "liver"', derived("union", "spleen", "kidneys", name="Others"), head='others = "drop"'
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    assert [organ.key for organ in applied.label_map.organs.values()] == ["liver"]
    assert set(np.unique(applied.label_map.labels)) == {0, LIVER}
    np.testing.assert_array_equal(applied.label_map.mask(LIVER), label_map.mask(LIVER))
    assert region(applied).sum() == (label_map.labels > LIVER).sum()
    dropped = [row["structure"] for row in applied.recorded if row.get("done") == "left out: not listed"]
    assert dropped == ["rectum", "heart", "spleen", "kidneys"]


def test_both_parts_of_what_is_split_are_listed(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    applied = apply_protocol(protocol(SPLIT, head='others = "drop"'), label_map, body, organ_table)
    assert [organ.key for organ in applied.label_map.organs.values()] == ["kidney_left", "kidney_right"]
    assert mask_of(applied, "kidney_left").any()
    assert mask_of(applied, "kidney_right").any()


# ---------------------------------------------------------------------- left and right

SPLIT = 'organ = "kidneys"\nsplit = ["kidney_left", "kidney_right"]'


def test_a_pair_is_split_at_the_middle_of_the_patient(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    """Columns run to the patient's left, so the left kidney is the one of the higher columns."""
    applied = apply_protocol(protocol(SPLIT), label_map, body, organ_table)
    keys = [organ.key for organ in applied.label_map.organs.values()]
    assert "kidneys" not in keys
    assert applied.order == ("kidney_left", "kidney_right")
    left, right = mask_of(applied, "kidney_left"), mask_of(applied, "kidney_right")
    assert left[..., 17:21].sum() == left.sum() == 48
    assert right[..., 3:7].sum() == right.sum() == 48
    kidneys = label_map.mask(KIDNEYS)
    np.testing.assert_array_equal(left | right, kidneys)
    np.testing.assert_array_equal(applied.label_map.labels[~kidneys], label_map.labels[~kidneys])
    assert [row["split_from"] for row in applied.recorded] == ["kidneys", "kidneys"]


def test_sides_are_those_of_the_patient_and_not_of_the_picture(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    turned = Grid(
        shape=SHAPE,
        spacing_mm=SPACING,
        origin_mm=(12.0, 0.0, 0.0),
        axes=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
    )
    feet_first = LabelMap(grid=turned, labels=label_map.labels, organs=label_map.organs)
    applied = apply_protocol(protocol(SPLIT), feet_first, body, organ_table)
    assert mask_of(applied, "kidney_left")[..., 3:7].sum() == 48


def test_a_connected_pair_is_cut_at_the_middle_of_the_patient(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    labels = label_map.labels.copy()
    labels[4, 12:14, 3:21] = KIDNEYS
    shifted = np.zeros_like(body)
    shifted[:, 2:18, 0:18] = True  # its middle is between columns 8 and 9
    horseshoe = LabelMap(grid=GRID, labels=labels, organs=label_map.organs)
    applied = apply_protocol(protocol(SPLIT), horseshoe, shifted, organ_table)
    assert mask_of(applied, "kidney_right").any(axis=(0, 1)).nonzero()[0].max() == 8
    assert mask_of(applied, "kidney_left").any(axis=(0, 1)).nonzero()[0].min() == 9


def test_what_is_split_is_tidied_side_by_side(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    labels = label_map.labels.copy()
    labels[6, 17, 18] = KIDNEYS
    crumb = LabelMap(grid=GRID, labels=labels, organs=label_map.organs)
    applied = apply_protocol(protocol(SPLIT + "\nkeep_components = 1"), crumb, body, organ_table)
    assert (mask_of(applied, "kidney_left").sum(), mask_of(applied, "kidney_right").sum()) == (48, 48)
    assert [finding.organ for finding in applied.findings] == ["kidney_left"]


def test_a_side_that_a_model_also_found_is_united_with_the_split_part(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    labels = label_map.labels.copy()
    labels[0, 15, 20] = 6
    organs = dict(label_map.organs) | {6: organ_table["kidney_left"]}
    applied = apply_protocol(
        protocol(SPLIT), LabelMap(grid=GRID, labels=labels, organs=organs), body, organ_table
    )
    assert mask_of(applied, "kidney_left").sum() == 49
    assert [organ.key for organ in applied.label_map.organs.values()].count("kidney_left") == 1


def test_a_pair_that_was_not_found_gives_two_organs_that_were_not_found(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    labels = np.where(label_map.labels == KIDNEYS, 0, label_map.labels).astype(np.uint8)
    without = LabelMap(grid=GRID, labels=labels, organs=label_map.organs)
    applied = apply_protocol(protocol(SPLIT), without, body, organ_table)
    assert not mask_of(applied, "kidney_left").any()
    assert not mask_of(applied, "kidney_right").any()
    assert applied.label_map.labels is labels


# ---------------------------------------------------------------------- structures made from others


def test_every_derivation_does_what_its_name_means(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    liver, spleen, kidneys = (label_map.mask(label) for label in (LIVER, SPLEEN, KIDNEYS))
    asked = protocol(
        derived("margin", "liver", more="margin_mm = 4", name="M"),
        derived("shrink", "liver", more="margin_mm = 1", name="S"),
        derived("ring", "liver", more="inner_mm = 1\nouter_mm = 3", name="R"),
        derived("union", "liver", "spleen", name="U"),
        derived("intersection", "M", "kidneys", name="I"),
        derived("subtraction", "liver", "kidneys", more='minus = ["spleen"]\nmargin_mm = 1', name="D"),
        derived("margin", "liver", "kidneys", more="margin_mm = [0, 0, 3]", name="Up"),
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    wanted = {
        "M": near(liver, 4),
        "S": ~near(~liver, 1),
        "R": near(liver, 3) & ~near(liver, 1),
        "U": liver | spleen,
        "I": near(liver, 4) & kidneys,
        "D": (liver | kidneys) & ~near(spleen, 1),
        "Up": ndimage.binary_dilation(liver | kidneys, np.ones((3, 1, 1))),
    }
    assert [each.organ.name for each in applied.regions] == list(wanted)
    for number, (name, mask) in enumerate(wanted.items()):
        assert mask.any(), name
        np.testing.assert_array_equal(region(applied, number), mask, err_msg=name)
    assert [each.derivation for each in applied.regions] == [
        "Liver + 4 mm",
        "Liver - 1 mm",
        "Liver, ring from 1 mm to 3 mm",
        "Liver + Spleen",
        "M and Kidneys",
        "Liver + Kidneys - Spleen (with 1 mm)",
        "Liver + Kidneys + 0 x 0 x 3 mm",
    ]
    assert applied.findings == ()
    assert applied.label_map.labels is label_map.labels, "the label map knows nothing of them"


def test_a_derived_structure_can_be_kept_inside_the_patient(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(
        derived("margin", "liver", more="margin_mm = 9\ninside_body_mm = 0", name="A"),
        derived("margin", "liver", more="margin_mm = 9\ninside_body_mm = 2", name="B"),
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    grown = near(label_map.mask(LIVER), 9)
    assert (grown & ~body).any(), "the case it is about"
    np.testing.assert_array_equal(region(applied, 0), grown & body)
    np.testing.assert_array_equal(region(applied, 1), grown & ~near(~body, 2))
    assert applied.regions[1].derivation == "Liver + 9 mm, 2 mm inside the body"


def test_names_colours_types_and_codes_of_derived_structures(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(
        'organ = "liver"\ncolor = [9, 9, 9]',
        derived("margin", "liver", more="margin_mm = 3", name="A"),
        derived("union", "liver", "spleen", more='like = "spleen"', name="B"),
        derived("margin", "B", more='margin_mm = 3\ncolor = [1, 1, 1]\ntype = "CONTROL"', name="C"),
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    a, b, c = (each.organ for each in applied.regions)
    assert (a.code, a.color, a.interpreted_type) == (organ_table["liver"].code, (9, 9, 9), "AVOIDANCE")
    assert (b.code, b.color, b.interpreted_type) == (
        organ_table["spleen"].code,
        organ_table["spleen"].color,
        "ORGAN",
    )
    assert (c.code, c.color, c.interpreted_type) == (organ_table["spleen"].code, (1, 1, 1), "CONTROL")
    assert [each.key for each in (a, b, c)] == ["derived a", "derived b", "derived c"]


def test_a_union_of_left_and_right_has_no_side(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(
        SPLIT,
        derived("union", "kidney_left", "kidney_right", name="Both"),
        derived("margin", "kidney_left", more="margin_mm = 2", name="One"),
        derived("union", "Both", "kidney_left", name="More"),
    )
    both, one, more = (each.organ for each in apply_protocol(asked, label_map, body, organ_table).regions)
    assert (both.side, one.side, more.side) == (None, Side.LEFT, None)


def test_the_order_is_that_of_the_protocol(label_map: LabelMap, body: Mask, organ_table: OrganTable) -> None:
    asked = protocol(
        'organ = "spleen"',
        derived("margin", "liver", more="margin_mm = 3", name="PRV"),
        SPLIT,
        'organ = "liver"',
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    assert applied.order == ("spleen", "derived prv", "kidney_left", "kidney_right", "liver")


def test_a_source_that_was_not_found_is_reported_and_the_rest_is_made(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(
        derived("union", "liver", "rectum", name="U"),
        derived("subtraction", "liver", more='minus = ["larynx", "spleen"]', name="D"),
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    assert [(f.code, f.level, f.organ) for f in applied.findings] == [
        ("DERIVED_INCOMPLETE", Level.WARNING, "derived u"),
        ("DERIVED_INCOMPLETE", Level.WARNING, "derived d"),
    ]
    assert "Rectum" in applied.findings[0].message
    assert "Larynx" in applied.findings[1].message
    assert [each.derivation for each in applied.regions] == ["Liver", "Liver - Spleen"], (
        "only what it was made from"
    )
    np.testing.assert_array_equal(region(applied, 0), label_map.mask(LIVER))
    assert [row["without"] for row in applied.recorded] == [["Rectum"], ["Larynx"]]


def test_without_any_source_no_derived_structure_is_made(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(
        derived("margin", "rectum", more="margin_mm = 3", name="PRV"),
        derived("intersection", "liver", "larynx", name="I"),
        derived("margin", "PRV", more="margin_mm = 3", name="More"),
        derived("union", "PRV", "I", name="Even more"),
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    assert applied.regions == ()
    assert [(f.code, f.level) for f in applied.findings] == [("DERIVED_EMPTY", Level.INFO)] * 4
    assert "PRV, I not found" in applied.findings[3].message
    assert {row["done"] for row in applied.recorded} == {"nothing to make it from"}
    assert applied.order == ("derived prv", "derived i", "derived more", "derived even more")


def test_a_structure_that_shrinks_to_nothing_is_reported_and_is_no_source(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(
        derived("shrink", "spleen", more="margin_mm = 9", name="Core"),
        derived("margin", "Core", more="margin_mm = 9", name="Again"),
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    (core,) = applied.regions
    assert not core.mask.any()
    assert codes(applied) == ["DERIVED_EMPTY", "DERIVED_EMPTY"]
    assert "nothing is left of it" in applied.findings[0].message


def test_an_organ_that_is_too_small_is_no_source(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol(
        'organ = "spleen"\nmin_ml = 5', derived("margin", "spleen", more="margin_mm = 3", name="PRV")
    )
    applied = apply_protocol(asked, label_map, body, organ_table)
    assert codes(applied) == ["ORGAN_TOO_SMALL", "DERIVED_EMPTY"]


def test_the_body_contour_is_drawn_on_request(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    tail = '[external]\nname = "Outline"\ncolor = [7, 8, 9]\n'
    organs = dict(label_map.organs) | {9: organ_table["body"]}
    found = LabelMap(grid=GRID, labels=label_map.labels, organs=organs)
    applied = apply_protocol(protocol(tail=tail), found, body, organ_table)
    np.testing.assert_array_equal(region(applied), body)
    organ = applied.regions[0].organ
    assert (organ.name, organ.color, organ.interpreted_type) == ("Outline", (7, 8, 9), "EXTERNAL")
    keys = [each.key for each in (*applied.label_map.organs.values(), organ)]
    assert len(set(keys)) == len(keys), "also where a model found a body"


def test_volumes_are_recorded_in_ml(label_map: LabelMap, body: Mask, organ_table: OrganTable) -> None:
    asked = protocol(derived("union", "spleen", name="U"), tail="[external]\n")
    applied = apply_protocol(asked, label_map, body, organ_table)
    assert applied.recorded == (
        {"structure": "derived u", "name": "U", "made": "Spleen", "ml": pytest.approx(8 * VOXEL_ML)},
        {
            "structure": "external",
            "name": "BODY",
            "made": "outline of the patient",
            "ml": pytest.approx(body.sum() * VOXEL_ML, abs=1e-3),
        },
    )


# ---------------------------------------------------------------------- slices at their own places


@pytest.fixture
def stack() -> SliceStack:
    """Slices 3, 3, 1, 1, ... mm apart, each shifted to the back against the one before."""
    heights = np.array([0.0, 3, 6, 7, 8, 11, 14, 15])
    return SliceStack(
        shape=SHAPE,
        positions_mm=np.stack([np.full(8, -12.0), 0.5 * heights, heights], axis=1),
        orientations=np.tile(np.array([[1.0, 0, 0], [0, 1.0, 0]]), (8, 1, 1)),
        pixel_spacing_mm=(1.0, 1.0),
    )


def test_volumes_on_uneven_slices_are_those_of_each_slice(
    stack: SliceStack, label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    """A kidney with the same number of voxels is smaller where the slices are close together."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[3, 12:16, 3:7] = KIDNEYS  # 1 mm thick
    labels[5, 12:14, 17:21] = KIDNEYS  # 3 mm thick, half as many voxels
    uneven = LabelMap(grid=stack, labels=labels, organs=label_map.organs)
    applied = apply_protocol(protocol('organ = "kidneys"\nkeep_components = 1'), uneven, body, organ_table)
    assert mask_of(applied, "kidneys").any(axis=(1, 2)).nonzero()[0].tolist() == [5]
    assert applied.recorded[0]["removed_ml"] == pytest.approx(16 * 0.001)
    too_small = apply_protocol(protocol('organ = "kidneys"\nmin_ml = 0.0401'), uneven, body, organ_table)
    assert too_small.findings[0].value == pytest.approx(16 * 0.001 + 8 * 0.003)


def test_margins_on_uneven_slices_are_millimetres(
    stack: SliceStack, label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    on_slices = LabelMap(grid=stack, labels=label_map.labels, organs=label_map.organs)
    asked = protocol(derived("margin", "spleen", more="margin_mm = 3.2"), SPLIT)
    applied = apply_protocol(asked, on_slices, body, organ_table)
    voxels = np.argwhere(np.ones(SHAPE, dtype=np.bool_))
    spleen = np.argwhere(label_map.mask(SPLEEN))
    apart = stack.to_lps(voxels)[:, None] - stack.to_lps(spleen)[None]
    wanted = (np.linalg.norm(apart, axis=2).min(axis=1) <= 3.2).reshape(SHAPE)
    np.testing.assert_array_equal(region(applied), wanted)
    assert applied.label_map.grid is stack
    assert mask_of(applied, "kidney_left")[..., 17:21].sum() == 48


# ---------------------------------------------------------------------- pieces far away


def test_pieces_far_from_the_largest_are_removed_near_ones_stay_and_the_report_says_so(
    organ_table: OrganTable, body: Mask
) -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:6, 3:8, 3:8] = 1
    labels[2:6, 3:8, 11] = 1  # 4 mm away
    labels[2:6, 16, 20] = 1  # 15 mm away
    given = LabelMap(grid=GRID, labels=labels, organs={1: organ_table["mandible"]})
    tidy = protocol('organ = "mandible"\nmax_distance_mm = 5')
    applied = apply_protocol(tidy, given, body, organ_table)
    expected = labels == 1
    expected[:, 16, 20] = False
    assert np.array_equal(mask_of(applied, "mandible"), expected)
    assert codes(applied) == ["ORGAN_TIDIED"]
    assert applied.recorded[0]["removed_ml"] == pytest.approx(4 * VOXEL_ML)


def test_an_organ_that_the_protocol_does_not_use_changes_no_other(
    label_map: LabelMap, body: Mask, organ_table: OrganTable
) -> None:
    asked = protocol('organ = "liver"\nfill_holes = "2d"', head='others = "drop"')
    assert asked.needed_organs == {"liver"}
    never_searched = np.where(label_map.labels == SPLEEN, 0, label_map.labels)
    with_it = apply_protocol(asked, label_map, body, organ_table)
    without = apply_protocol(asked, replace(label_map, labels=never_searched), body, organ_table)
    np.testing.assert_array_equal(with_it.label_map.labels, without.label_map.labels)


def test_needed_organs_are_the_listed_ones_and_the_sources_of_others() -> None:
    rows = (
        SPLIT,
        derived("union", "spleen", "liver", name="Both"),
        derived("ring", "Both", name="Around", more="outer_mm = 3"),
    )
    assert protocol(*rows).needed_organs is None
    needed = protocol(*rows, head='others = "drop"').needed_organs
    assert needed == {"kidneys", "kidney_left", "kidney_right", "spleen", "liver"}
