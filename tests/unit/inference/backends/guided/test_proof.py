"""A guide that has proved itself on a CT is believed where it finds nothing; any other one is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orgseg_node.core.volume import Mask
from orgseg_node.inference.backends.guided.proof import GuideProof
from orgseg_node.inference.backends.merged_run import NetworkInCt
from orgseg_node.inference.bundles.bundle import Part
from orgseg_node.inference.merging import Merger
from orgseg_node.inference.predictor import GuidedOutcome, SparseOutcome
from orgseg_node.inference.subset import NetworkSelection
from tests.support.models.guided_bench import KEY, SHAPE, GuidedBench, block, make_bench

_ORGAN = block((10, 14, 16), (18, 24, 26))
_CRUMB = block((12, 18, 20), (15, 22, 24))  # of 0.14 ml
_NOTHING: Mask = np.zeros(SHAPE, dtype=bool)


def _proof(confirmed: int = 2, known: int = 3) -> GuideProof:
    names = [f"organ_{n}" for n in range(known - 1)]
    proof = GuideProof(known=frozenset({KEY, *names}), silent=frozenset({KEY}))
    for name in names[:confirmed]:
        proof.add([name], GuidedOutcome.BOX)
    return proof


@pytest.mark.parametrize(
    ("confirmed", "known", "counts"),
    [(2, 4, True), (3, 7, False), (4, 7, True), (1, 2, False), (0, 1, False)],
)
def test_silence_counts_after_two_and_half_of_the_organs(confirmed: int, known: int, *, counts: bool) -> None:
    assert _proof(confirmed, known).silence_counts([KEY]) is counts


@pytest.mark.parametrize("outcome", list(GuidedOutcome))
def test_one_organ_that_is_elsewhere_than_the_guide_says_takes_its_credit(outcome: GuidedOutcome) -> None:
    proof = _proof()
    proof.add(["heart"], outcome)
    assert proof.silence_counts([KEY]) is (
        outcome
        not in {
            GuidedOutcome.GUIDE_DOUBTFUL,
            GuidedOutcome.EMPTY,
            GuidedOutcome.DIFFERENT,
            GuidedOutcome.DOUBTFUL,
        }
    )
    silent = _proof()
    silent.add([KEY], outcome)
    assert silent.silence_counts([KEY]), "a crumb is no claim"


def test_silence_counts_only_for_organs_that_the_guide_was_seen_to_find() -> None:
    proof = _proof()
    assert not proof.silence_counts([KEY, "heart"])
    assert not replace(proof, unproven=frozenset({KEY})).silence_counts([KEY])


def test_networks_of_silent_organs_are_run_when_others_gave_proof() -> None:
    silent, other, contesting = (
        Part(folder=key, configuration="3d_fullres", folds=("0",), labels={1: key})
        for key in (KEY, "organ_0", "heart")
    )
    selection = NetworkSelection(
        requested=frozenset({KEY, "organ_0"}),
        whole=(silent, other),
        contesting=(contesting,),
        not_searched=("heart",),
    )
    assert _proof().in_order(selection) == (other, silent, contesting)


def test_an_organ_that_a_proven_guide_suspects_nowhere_is_not_in_the_ct() -> None:
    result = make_bench(_NOTHING).guided(_NOTHING, suspected=_NOTHING, proof=_proof())
    assert (result.report.outcome, result.report.tiles) == (GuidedOutcome.ABSENT, 0)
    assert result.found.labels is not None
    assert not result.found.labels.any()


def test_an_organ_that_a_proven_guide_only_suspects_is_found_whole_with_few_tiles() -> None:
    bench = make_bench(_ORGAN)
    result = bench.guided(_NOTHING, suspected=block((12, 18, 20), (14, 20, 22)), proof=_proof())
    assert result.report.outcome is GuidedOutcome.SUSPECTED
    assert (bench.all_of(result) == bench.whole()).all()
    assert result.report.tiles < result.report.whole_tiles / 5


def test_all_that_is_suspected_is_searched_however_small() -> None:
    """Two crumbs: the organ lies at the smaller one."""
    bench = make_bench(_ORGAN)
    suspected = block((12, 18, 20), (13, 19, 21)) | block((22, 18, 20), (30, 30, 30))
    result = bench.guided(_NOTHING, suspected=suspected, proof=_proof())
    assert (bench.all_of(result) == bench.whole()).all()


def test_a_crumb_of_a_proven_guide_is_only_a_suspicion() -> None:
    bench = make_bench(_ORGAN)
    crumb = block((12, 18, 20), (14, 20, 22))
    result = bench.guided(crumb, suspected=crumb, proof=_proof())
    assert result.report.outcome is GuidedOutcome.SUSPECTED
    assert (bench.all_of(result) == bench.whole()).all()


@pytest.mark.parametrize("proof", [_proof(1), replace(_proof(), contradicted=True)])
def test_an_unproven_guide_is_not_believed_when_it_suspects_nothing(proof: GuideProof) -> None:
    bench = make_bench(_ORGAN)
    result = bench.guided(_NOTHING, sparse=True, suspected=_NOTHING, proof=proof)
    assert (result.report.outcome, result.report.sparse) == (GuidedOutcome.MISSED, SparseOutcome.AGAIN)
    assert (bench.all_of(result) == bench.whole()).all()


def test_without_leave_silence_does_not_count() -> None:
    result = make_bench(_ORGAN).guided(_NOTHING, proof=_proof())
    assert (result.report.outcome, result.found.labels) == (GuidedOutcome.MISSED, None)


def test_what_is_suspected_nearly_everywhere_is_searched_on_the_whole_ct() -> None:
    bench = make_bench(_ORGAN)
    suspected = np.ones(SHAPE, dtype=bool)
    result = bench.guided(_NOTHING, sparse=True, suspected=suspected, proof=_proof())
    assert (result.report.outcome, result.report.sparse) == (GuidedOutcome.MISSED, SparseOutcome.AGAIN)
    assert (bench.all_of(result) == bench.whole()).all()


def test_each_network_that_followed_the_guide_adds_to_its_proof() -> None:
    proof = GuideProof(known=frozenset({KEY}), silent=frozenset())
    make_bench(_ORGAN).guided(_ORGAN, proof=proof)
    assert proof.confirmed == {KEY}
    make_bench(_NOTHING).guided(_ORGAN, proof=proof)
    assert proof.contradicted


@pytest.mark.parametrize(("key", "counts"), [(KEY, False), ("organ_0", True), ("heart", True)])
def test_an_organ_that_is_there_although_the_guide_was_silent_takes_its_credit(
    key: str, *, counts: bool
) -> None:
    proof = replace(_proof(), silent=frozenset({KEY, "spleen"}))
    assert proof.silence_counts(["spleen"])
    proof.add_found([key])
    assert proof.silence_counts(["spleen"]) is counts


def _run_in_ct(bench: GuidedBench, proof: GuideProof, *, sparse: bool, suspected: Mask) -> Mask:
    """Where the organ is in the merged result."""
    merger = Merger(bench.prepared.volume.grid.shape, {KEY: 1.0})
    one = NetworkInCt(network=bench.network, view=bench.view, limits=bench.limits, merger=merger, place=None)
    one.run(lambda *_: None, bench.places(_NOTHING, suspected=suspected, proof=proof, sparse=sparse), None)
    found: Mask = merger.labels() > 0
    return found


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("confirmed", [0, 2])
def test_wherever_it_is_found_it_contradicts_the_guide(confirmed: int, *, sparse: bool) -> None:
    """By a run on the whole CT, by a sparse pass, or where the guide only suspected it."""
    proof = _proof(confirmed)
    bench = make_bench(_ORGAN)
    found = _run_in_ct(bench, proof, sparse=sparse, suspected=block((12, 18, 20), (14, 20, 22)))
    assert (found == (bench.whole() > 0)).all()
    assert proof.contradicted


@pytest.mark.parametrize("confirmed", [0, 2])
def test_a_crumb_does_not_contradict_the_guide(confirmed: int) -> None:
    proof = _proof(confirmed)
    _run_in_ct(make_bench(_CRUMB), proof, sparse=False, suspected=_CRUMB)
    assert not proof.contradicted


@pytest.mark.parametrize("there", [_NOTHING, _CRUMB])
def test_at_most_a_crumb_around_all_that_is_suspected_is_no_organ(there: Mask) -> None:
    bench = make_bench(there)
    result = bench.guided(_NOTHING, sparse=True, suspected=_CRUMB, proof=_proof())
    assert bench.whole().any() == there.any()
    assert (result.report.outcome, result.report.sparse) == (GuidedOutcome.REFUTED, None)
    assert result.report.tiles < result.report.whole_tiles / 5
    assert not bench.all_of(result).any()


def test_the_tip_of_an_organ_at_the_end_of_the_ct_is_kept() -> None:
    tip = block((0, 18, 20), (3, 22, 24))
    bench = make_bench(tip)
    assert bench.whole().any()
    result = bench.guided(_NOTHING, sparse=True, suspected=tip, proof=_proof())
    assert result.report.outcome is GuidedOutcome.SUSPECTED
    assert (bench.all_of(result) == bench.whole()).all()


def test_what_cannot_be_the_organ_is_searched_on_the_whole_ct() -> None:
    """Too large for a lens, of at most 1 ml."""
    bench = make_bench(_ORGAN, key="lens_left")
    proof = replace(_proof(), known=frozenset({"lens_left"}), silent=frozenset({"lens_left"}))
    result = bench.guided(_NOTHING, key="lens_left", sparse=True, suspected=_ORGAN, proof=proof)
    assert (result.report.outcome, result.report.sparse) == (GuidedOutcome.MISSED, SparseOutcome.AGAIN)
    assert (bench.all_of(result) == bench.whole()).all()
