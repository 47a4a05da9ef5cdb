"""Spoiled candidates fail with a reason, an equal candidate passes, few patients give no decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orgseg_node.core.metrics import Comparison, Status
from orgseg_node.inference.bundles.gate_file import GateVerdict
from orgseg_training.gate.judgement import Judgement, Margins, Rules, judge
from orgseg_training.gate.scans import OrganResult, PairedScan, result_from_json, result_to_json
from orgseg_training.gate.subgroups import size_classes, subgroups
from tests.support.models.gate_results import MISSED, SEVEN, Gates, changed, found

RULES = Rules(organs=SEVEN)


@pytest.fixture(scope="module")
def scans() -> tuple[PairedScan, ...]:
    return Gates().equal(1)


def verdict_of(judgement: Judgement, organ: str) -> GateVerdict:
    return next(one.verdict for one in judgement.organs if one.organ == organ)


def test_an_equal_candidate_passes(scans: tuple[PairedScan, ...]) -> None:
    judged = judge(scans, RULES)
    assert (judged.verdict, judged.reasons) == (GateVerdict.PASS, ())


def test_swapped_sides_fail(scans: tuple[PairedScan, ...]) -> None:
    judged = judge(changed(scans, {"parotid_left": found(0.0), "parotid_right": found(0.0)}), RULES)
    assert judged.verdict is GateVerdict.FAIL
    assert [r for r in judged.reasons if r.startswith("parotid_left: Dice is worse by 0.")]
    assert verdict_of(judged, "mandible") is GateVerdict.PASS


def test_one_organ_that_is_shifted_fails_although_all_others_are_better(
    scans: tuple[PairedScan, ...],
) -> None:
    rng = np.random.default_rng(2)
    sabotaged = []
    for scan in scans:
        better = {o: found(r.comparison.dsc + 0.03) for o, r in scan.candidate.items()}
        shifted = found(scan.live["larynx"].comparison.dsc - float(rng.normal(0.2, 0.05)), 9.0)
        sabotaged.append(replace(scan, candidate={**better, "larynx": shifted}))
    judged = judge(sabotaged, RULES)
    assert judged.verdict is GateVerdict.FAIL
    assert {one.organ for one in judged.organs if one.verdict is not GateVerdict.PASS} == {"larynx"}
    assert any("worst HD95 grew from 4.0 to 9.0 mm" in reason for reason in judged.reasons)


def test_a_missing_organ_fails(scans: tuple[PairedScan, ...]) -> None:
    judged = judge(changed(scans, {"esophagus": None}), RULES)
    assert (judged.verdict, judged.reasons) == (
        GateVerdict.FAIL,
        ("esophagus: the candidate does not have it.",),
    )


def test_one_new_miss_fails_and_one_that_the_live_model_misses_too_does_not(
    scans: tuple[PairedScan, ...],
) -> None:
    judged = judge(changed(scans, {"larynx": MISSED}, number=3), RULES)
    assert judged.verdict is GateVerdict.FAIL
    assert "larynx: newly missed in site__003." in judged.reasons
    both = [replace(s, live={**s.live, "larynx": MISSED}) if n == 3 else s for n, s in enumerate(scans)]
    assert judge(changed(both, {"larynx": MISSED}, number=3), RULES).verdict is GateVerdict.PASS


def test_an_organ_that_neither_model_finds_fails(scans: tuple[PairedScan, ...]) -> None:
    nothing = [replace(s, live={**s.live, "larynx": MISSED}) for s in scans]
    judged = judge(changed(nothing, {"larynx": MISSED}), RULES)
    assert (judged.verdict, judged.reasons) == (
        GateVerdict.FAIL,
        ("larynx: the candidate hardly finds it, mean Dice 0.00.",),
    )


def test_a_newly_implausible_organ_fails(scans: tuple[PairedScan, ...]) -> None:
    strange = replace(scans[5].candidate["mandible"], implausible=True)
    judged = judge(changed(scans, {"mandible": strange}, number=5), RULES)
    assert judged.reasons == ("mandible: newly implausible in site__005.",)
    assert judged.verdict is GateVerdict.FAIL


def test_a_scan_that_only_the_candidate_refuses_fails(scans: tuple[PairedScan, ...]) -> None:
    refused = replace(scans[0], candidate={}, refused={"candidate": "REGION_NOT_TRAINED"})
    judged = judge([refused, *scans[1:]], RULES)
    assert judged.verdict is GateVerdict.FAIL
    assert judged.reasons == ("The candidate refuses site__000, which the live model contours.",)


def test_few_patients_are_inconclusive_and_never_pass() -> None:
    few = judge(Gates(patients=5).equal(1), RULES)
    assert few.verdict is GateVerdict.INCONCLUSIVE
    assert few.reasons[0] == "brainstem: 5 patients are too few."
    noisy = judge(Gates(patients=8, sd=0.04).equal(1), RULES)
    assert noisy.verdict is GateVerdict.INCONCLUSIVE
    assert any("8 patients do not decide it" in reason for reason in noisy.reasons)
    assert judge((), RULES).verdict is GateVerdict.INCONCLUSIVE


def test_an_organ_of_the_very_same_network_needs_no_patients_but_is_looked_at(
    scans: tuple[PairedScan, ...],
) -> None:
    few = Gates(patients=3).equal(1)
    assert judge(few, Rules(organs=SEVEN, unchanged=frozenset(SEVEN))).verdict is GateVerdict.PASS
    partly = judge(few, Rules(organs=SEVEN, unchanged=frozenset(SEVEN[1:])))
    assert [reason.partition(":")[0] for reason in partly.reasons] == [SEVEN[0]]
    same = Rules(organs=SEVEN, unchanged=frozenset(SEVEN))
    assert judge(changed(scans, {"larynx": MISSED}, number=3), same).verdict is GateVerdict.FAIL


def test_one_scan_in_which_only_the_live_model_lacks_an_organ_leaves_no_doubt_of_it(
    scans: tuple[PairedScan, ...],
) -> None:
    """The same network, but the live bundle's reference calls the organ implausible in one scan."""
    equal = tuple(replace(scan, candidate=scan.live) for scan in scans[:17])
    first = replace(equal[0], live={**equal[0].live, "larynx": MISSED})
    found_again = (first, *equal[1:])
    assert judge(found_again, RULES).verdict is GateVerdict.PASS, "a single gain does not count against it"
    assert judge(found_again, replace(RULES, unchanged=frozenset(SEVEN))).verdict is GateVerdict.PASS


def test_margins_are_those_of_the_organ(scans: tuple[PairedScan, ...]) -> None:
    worse = tuple(
        replace(s, candidate={**s.candidate, "larynx": found(s.live["larynx"].comparison.dsc - 0.05)})
        for s in scans
    )
    assert judge(worse, RULES).verdict is GateVerdict.FAIL
    wide = Rules(organs=SEVEN, margins={"larynx": Margins(dice=0.1, surface_dice=0.1)})
    assert judge(worse, wide).verdict is GateVerdict.PASS


def test_a_claim_of_being_better_has_to_be_shown(scans: tuple[PairedScan, ...]) -> None:
    better = tuple(
        replace(s, candidate={**s.candidate, "larynx": found(s.live["larynx"].comparison.dsc + 0.05)})
        for s in scans
    )
    claimed = Rules(organs=SEVEN, claimed=("larynx", "mandible"))
    judged = judge(better, claimed)
    assert judged.verdict is GateVerdict.INCONCLUSIVE
    assert [r.partition(":")[0] for r in judged.reasons] == ["mandible"]
    assert judge(better, Rules(organs=SEVEN, claimed=("larynx",))).verdict is GateVerdict.PASS
    assert judge(better, Rules(organs=SEVEN, claimed=("liver",))).verdict is GateVerdict.INCONCLUSIVE


def test_new_organs_are_listed_and_not_compared(scans: tuple[PairedScan, ...]) -> None:
    judged = judge(changed(scans, {"lens_left": found(0.5)}), RULES)
    assert judged.verdict is GateVerdict.PASS
    assert [(one.organ, one.scans, one.mean_dice) for one in judged.new_organs] == [("lens_left", 30, 0.5)]


def test_subgroups_say_too_few(scans: tuple[PairedScan, ...]) -> None:
    grouped = [replace(s, groups={"sex": "F" if n < 4 else "M"}) for n, s in enumerate(scans)]
    rows = [row for row in subgroups(grouped, SEVEN, {}, 1) if row.organ == "larynx"]
    assert [(row.value, row.dice.patients, row.shown.value) for row in rows] == [
        ("F", 4, "too few"),
        ("M", 26, "not worse"),
    ]
    assert list(subgroups(scans, SEVEN, {}, 1)) == []
    assert size_classes({"a": 20.0, "b": 30.0, "c": 40.0, "d": float("nan")})["d"] == "not known"


def test_results_are_read_as_they_were_written() -> None:
    row = OrganResult(comparison=Comparison(status=Status.PRED_EMPTY, dsc=0.0, sdsc=0.0), implausible=True)
    again = result_from_json(result_to_json(row))
    assert again.implausible
    assert again.is_missed
    assert np.isnan(again.comparison.hd95_mm)
