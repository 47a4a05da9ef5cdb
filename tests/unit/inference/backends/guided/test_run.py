"""A network that is run only where the guide found its organ gives all of the organ, or is run everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orgseg_node.core.anatomy.possible import trusted_organs
from orgseg_node.core.geometry import Box, Grid, Shape
from orgseg_node.core.volume import LabelMap, Mask
from orgseg_node.inference.backends.guided.box_search import touched_borders, widen, working_box
from orgseg_node.inference.engine.layout import Layout, lay_tiles
from orgseg_node.inference.engine.tiles import Tiling
from orgseg_node.inference.engine.working import Regrid
from orgseg_node.inference.predictor import GuidedOutcome
from orgseg_node.organ_table import organ_table
from tests.support.models.guided_bench import KEY, SHAPE, block, make_bench

_ORGAN = ((10, 14, 16), (18, 24, 26))


@pytest.mark.parametrize("layout", list(Layout))
def test_in_the_box_of_its_organ_a_network_finds_all_of_it_with_few_tiles(layout: Layout) -> None:
    bench = make_bench(block(*_ORGAN))
    result = bench.guided(block(*_ORGAN), layout)
    assert result.report.outcome is GuidedOutcome.BOX
    assert result.report.organs == (KEY,)
    whole = bench.whole()
    assert whole.any()
    assert (bench.all_of(result) == whole).all()
    assert result.report.tiles < result.report.whole_tiles / (5 if layout in {Layout.FEW, Layout.ONCE} else 1)


def test_an_organ_that_reaches_beyond_its_box_widens_it_until_nothing_is_cut() -> None:
    organ = block((6, 10, 10), (28, 20, 20))
    bench = make_bench(organ)
    result = bench.guided(block((6, 10, 10), (16, 20, 20)))
    assert result.report.outcome is GuidedOutcome.WIDENED
    assert (bench.all_of(result) == bench.whole()).all()
    assert bench.whole()[26].any()


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_nothing_of_a_connected_organ_is_cut_wherever_the_guide_saw_a_part_of_it(data: st.DataObject) -> None:
    def stretch(size: int, least: int, first: int = 0) -> tuple[int, int]:
        start = data.draw(st.integers(first, size - least))
        return start, data.draw(st.integers(start + least, size))

    organ = [stretch(size, 4) for size in SHAPE]
    seen = [stretch(stop - start, 1) for start, stop in organ]
    mask = block(_three(a for a, _ in organ), _three(b for _, b in organ))
    guide = block(
        _three(a + first for (a, _), (first, _) in zip(organ, seen, strict=True)),
        _three(a + stop for (a, _), (_, stop) in zip(organ, seen, strict=True)),
    )
    bench = make_bench(mask)
    result = bench.guided(guide, data.draw(st.sampled_from(list(Layout))), data.draw(st.floats(0, 6)))
    if result.found.labels is not None:
        assert (bench.all_of(result) == bench.whole()).all()
    else:
        assert not result.report.followed
        assert result.report.tiles >= result.report.whole_tiles


def test_where_the_guide_found_nothing_the_network_is_run_everywhere() -> None:
    result = make_bench(block(*_ORGAN)).guided(np.zeros(SHAPE, dtype=bool))
    assert (result.report.outcome, result.found.labels) == (GuidedOutcome.MISSED, None)


def test_where_the_guide_points_elsewhere_the_network_is_run_everywhere() -> None:
    result = make_bench(block(*_ORGAN)).guided(block((30, 34, 38), (36, 40, 44)))
    assert (result.report.outcome, result.found.labels) == (GuidedOutcome.EMPTY, None)
    assert result.report.tiles > result.report.whole_tiles, "the tiles in vain count"


def test_an_organ_that_hardly_resembles_the_guides_is_searched_everywhere() -> None:
    guide = block((10, 14, 16), (22, 30, 30))
    result = make_bench(block((10, 14, 16), (12, 18, 20))).guided(guide)
    assert (result.report.outcome, result.found.labels) == (GuidedOutcome.DIFFERENT, None)


def test_an_organ_that_the_guide_does_not_know_is_searched_everywhere() -> None:
    result = make_bench(block(*_ORGAN)).guided(block(*_ORGAN), key="spinal_cord")
    assert (result.report.outcome, result.found.labels) == (GuidedOutcome.UNKNOWN, None)
    assert result.report.tiles == result.report.whole_tiles


def test_a_crumb_that_the_guide_took_for_the_organ_is_not_followed() -> None:
    """The network finds a crumb there as well, so that only the volume tells that the organ is elsewhere."""
    organ, crumb = block(*_ORGAN), block((32, 36, 38), (35, 41, 44))
    result = make_bench(organ | crumb).guided(crumb)
    assert (result.report.outcome, result.found.labels) == (GuidedOutcome.GUIDE_DOUBTFUL, None)


def test_a_crumb_that_the_network_found_in_its_box_is_no_result() -> None:
    crumb, guide = block((32, 36, 38), (35, 41, 44)), block((31, 35, 37), (36, 42, 45))
    result = make_bench(block(*_ORGAN) | crumb).guided(guide)
    assert (result.report.outcome, result.found.labels) == (GuidedOutcome.DOUBTFUL, None)


def test_a_crumb_of_the_guide_does_not_enlarge_the_box_and_a_second_piece_does() -> None:
    organ, bench = block(*_ORGAN), make_bench(block(*_ORGAN))
    crumb, piece = block((36, 40, 44), (38, 42, 46)), block((34, 36, 40), (38, 42, 46))
    alone, beside, both = (bench.guided(guide) for guide in (organ, organ | crumb, organ | piece))
    assert alone.report.tiles == beside.report.tiles < both.report.tiles
    assert beside.report.outcome is GuidedOutcome.BOX


def test_organs_that_lie_to_each_other_as_in_no_body_are_not_trusted() -> None:
    grid = Grid(shape=SHAPE, spacing_mm=(4.0, 4.0, 4.0), origin_mm=(0.0, 0.0, 0.0))
    table = organ_table()

    def trusted(right: Mask, left: Mask, cord: Mask) -> frozenset[str]:
        labels = (right + 2 * left + 3 * cord).astype(np.uint8)
        organs = {1: table["parotid_right"], 2: table["parotid_left"], 3: table["spinal_cord"]}
        return trusted_organs(LabelMap(grid=grid, labels=labels, organs=organs))

    one, other, cord = (block((10, 10, first), (16, 16, first + 6)).astype(np.uint8) for first in (4, 36, 20))
    assert trusted(one, other, cord) == {"parotid_right", "parotid_left", "spinal_cord"}
    assert trusted(other, one, cord) == {"spinal_cord"}


def test_a_box_that_needs_as_many_tiles_as_the_whole_ct_is_not_tried() -> None:
    bench = make_bench(block(*_ORGAN))
    result = bench.guided(block((2, 0, 0), SHAPE))
    assert (result.report.outcome, result.found.labels) == (GuidedOutcome.NO_SAVING, None)
    forward: Any = bench.network.forward
    assert forward.tiles == 0


@pytest.mark.parametrize("layout", list(Layout))
def test_a_network_that_finds_organs_everywhere_costs_half_as_much_again_at_most(layout: Layout) -> None:
    bench = make_bench(np.ones(SHAPE, dtype=bool))
    row = bench.guided(block(*_ORGAN), layout, sparse=True).report
    assert (row.outcome, row.sparse) == (GuidedOutcome.NO_SAVING, None)
    assert row.tiles < 1.5 * row.whole_tiles


def test_progress_does_not_fall_while_a_box_is_widened() -> None:
    bench = make_bench(block((6, 10, 10), (34, 20, 20)))
    seen: list[float] = []
    guide = block((6, 10, 10), (16, 20, 20))
    bench.guided(guide, margin_mm=0.0, on_progress=lambda part, _: seen.append(part))
    assert seen == sorted(seen)


def test_only_borders_inside_the_ct_count_as_touched() -> None:
    found = np.zeros((4, 4, 4), dtype=bool)
    found[0, 1, 1] = found[2, 3, 1] = True
    inside = (slice(2, 6), slice(1, 5), slice(0, 4))
    assert touched_borders(found, inside, (8, 8, 8)) == ((True, False), (False, True), (False, False))
    at_the_border = (slice(0, 4), slice(4, 8), slice(0, 4))
    assert touched_borders(found, at_the_border, (8, 8, 8)) == ((False, False),) * 3


def test_a_box_grows_by_half_a_tile_on_the_sides_that_were_reached() -> None:
    shape = (60, 60, 60)
    box = Box(start=(20, 20, 2), stop=(26, 26, 8))
    window = lay_tiles(shape, (16, 16, 16), box, Layout.ONCE, Tiling.covering(shape, (16, 16, 16), 0.5))
    wider = widen(window, ((True, False), (False, True), (True, True)), (16, 16, 16), shape)
    inner = window.inner
    assert wider.start == (inner.start[0] - 8, inner.start[1], max(inner.start[2] - 8, 0))
    assert wider.stop == (inner.stop[0], inner.stop[1] + 8, inner.stop[2] + 8)


def test_the_margin_of_a_box_is_in_millimetres_and_ends_with_the_ct() -> None:
    to_ct = Regrid(source=(20, 20, 20), target=(40, 20, 20), thick_axis=None)
    box = working_box(Box(start=(20, 5, 1), stop=(22, 6, 3)), to_ct, (1.0, 2.0, 4.0), 4.0)
    assert box.start == (7, 3, 0)
    assert box.stop == (14, 8, 4)


def _three(values: Any) -> Shape:
    a, b, c = values
    return a, b, c
