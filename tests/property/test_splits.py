"""For any scans: no patient is on two sides, and the same scans are split in the same way."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from orgseg_training.datasets.case import OrganState
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.scan_groups import groups_of
from orgseg_training.errors import NoPositives
from orgseg_training.experiment.config import load_experiment
from orgseg_training.experiment.splits import make_splits, require_positives
from orgseg_training.shipped import training_config

_SMOKE = load_experiment(training_config("experiments/smoke.toml"))
_FIRST = _SMOKE.databases[0].model_copy(update={"name": "a", "test": "fraction", "subset": 1})
_SECOND = _FIRST.model_copy(update={"name": "b", "test": "source", "subset": 2})
EXPERIMENT = _SMOKE.model_copy(update={"databases": (_FIRST, _SECOND), "folds": 2})
_NUMBER = st.integers(0, 40)
_SCAN = st.tuples(
    st.sampled_from("ab"), _NUMBER, _NUMBER, st.sets(st.sampled_from(_SMOKE.strategy_1)), st.booleans()
)


def _case(key: int, scan: tuple[str, int, int, set[str], bool]) -> StoredCase:
    database, patient, voxels, drawn, test = scan
    return StoredCase(
        key=f"{database}__{key:03d}",
        database=database,
        patient=f"P{patient}",
        age_years=None,
        test=test,
        states=dict.fromkeys(sorted(drawn), OrganState.DRAWN),
        voxels_sha256=f"v{voxels}",
        coarse_sha256=f"c{key}",
        folder=Path(),
    )


# two patients that nothing links to the others, so that two folds can always be filled
_SPARE = [_case(900 + n, ("b", 900 + n, 900 + n, {"mandible"}, False)) for n in range(2)]
CASES = st.lists(_SCAN, max_size=30).map(lambda scans: [*map(_case, range(len(scans)), scans), *_SPARE])


@given(cases=CASES, data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_group_is_on_two_sides_and_every_scan_is_on_one(
    cases: list[StoredCase], data: st.DataObject
) -> None:
    keys = [case.key for case in cases if case not in _SPARE]
    links = data.draw(st.lists(st.tuples(*[st.sampled_from(keys)] * 2), max_size=4)) if keys else []
    left_out = data.draw(st.sets(st.sampled_from(keys))) if keys else set()
    splits = make_splits(EXPERIMENT, cases, copies=links, left_out=left_out)
    sides = [splits.tested, *map(frozenset, splits.folds)]
    for group in groups_of(cases, links=links):
        here = {case.key for case in group} - left_out
        assert sum(bool(here & side) for side in sides) == bool(here)
    assert sum(map(len, sides)) == len(cases) - len(left_out)
    assert splits == make_splits(EXPERIMENT, cases[::-1], copies=links, left_out=left_out)
    held = {case.key for case in cases if case.database == "b" and case.test}
    assert held - left_out <= splits.tested, "a data set's own test scans are never trained on"


@given(patients=st.integers(20, 120), fraction=st.sampled_from([0.1, 0.2]))
@settings(max_examples=50, deadline=None)
def test_the_fraction_is_of_the_patients_of_each_data_set(patients: int, fraction: float) -> None:
    first = _FIRST.model_copy(update={"fraction": fraction})
    cases = [_case(n, ("a", n, n, {"mandible"}, False)) for n in range(patients)]
    splits = make_splits(EXPERIMENT.model_copy(update={"databases": (first,)}), cases)
    assert abs(len(splits.subsets[1]) - fraction * patients) <= 0.5
    sizes = [len(fold) for fold in splits.folds]
    assert max(sizes) - min(sizes) <= 1


@given(cases=CASES)
@settings(max_examples=100, deadline=None)
def test_every_fold_has_positives_or_it_is_an_error(cases: list[StoredCase]) -> None:
    splits = make_splits(EXPERIMENT, cases)
    drawn = {case.key: case.drawn for case in cases}
    full = all(
        any(organ in drawn[key] for key in fold) for organ in EXPERIMENT.strategy_1 for fold in splits.folds
    )
    try:
        require_positives(EXPERIMENT, splits, cases)
        refused = False
    except NoPositives:
        refused = True
    assert refused is not full
