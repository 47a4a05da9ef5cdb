"""A whole gate on a small site: verdicts, leaks by hash, out of fold, cache, page, PDF."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.contouring.protocol import load_protocol
from orgseg_node.core.volume import Volume
from orgseg_node.inference.bundles.gate_file import GateVerdict, read_gate, render_gate
from orgseg_node.node.config.node_config import ContoursSection
from orgseg_node.signing import make_key
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.datasets.nifti import write_image
from orgseg_training.errors import GateLeak, NothingToJudge
from orgseg_training.evaluation.delivery import NODE_PROTOCOL
from orgseg_training.gate.membership import unchanged_organs
from orgseg_training.gate.page import render_html, render_pdf
from orgseg_training.gate.session import GateSession
from orgseg_training.site.site import Site
from tests.support.models.bundles import a_manifest, write_bundle
from tests.support.models.judged_site import Habit, Networks, session_of, site_of, trained_on

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose cases nobody changes; its cache is used by every test."""
    return site_of(tmp_path_factory.mktemp("site") / "site")


def test_an_equal_candidate_passes_and_the_second_gate_runs_nothing(tmp_path: Path) -> None:
    networks = Networks()
    site = site_of(tmp_path / "site")  # one of its own: no other test may have filled its cache
    session = session_of(site, tmp_path, networks)
    scans = session.scans()
    assert (len(scans), session.uncached_runs(scans)) == (6, 12)
    power = session.power(scans)
    assert power.patients == {"spleen": 6, "liver": 6}
    assert power.needed is not None
    assert power.needed > 6
    assert "patients are needed for each of 2 organs" in power.sentence
    result = session.run(scans, lambda: NOW)
    assert (result.judgement.verdict, len(networks.runs)) == (GateVerdict.PASS, 12)
    again = session_of(site, tmp_path / "again", networks)
    assert again.uncached_runs(again.scans()) == 0
    assert again.run(again.scans(), lambda: NOW).judgement == result.judgement
    assert len(networks.runs) == 12, "everything came from the cache"
    assert not again.power(scans).measured, "differences without a spread measure nothing"


@pytest.mark.parametrize(
    ("habit", "organs"),
    [(Habit(swapped=True), {"spleen", "liver"}), (Habit(shift={"liver": 2}), {"liver"})],
    ids=["swapped sides", "one organ shifted by 8 mm"],
)
def test_sabotage_fails_for_the_organs_concerned(
    shared: Site, tmp_path: Path, habit: Habit, organs: set[str]
) -> None:
    bundle = write_bundle(tmp_path / "sabotage", name="sabotage", title=f"{habit}")
    session = session_of(shared, tmp_path, Networks(habits={"sabotage": habit}), candidate=bundle)
    judged = session.run(session.scans(), lambda: NOW).judgement
    assert judged.verdict is GateVerdict.FAIL
    assert {one.organ for one in judged.organs if one.verdict is GateVerdict.FAIL} == organs


def test_begin_and_end_stand_in_the_gate_file_and_on_its_page(shared: Site, tmp_path: Path) -> None:
    session = session_of(shared, tmp_path, Networks())
    times = iter([NOW, NOW + timedelta(hours=9)])
    content = session.run(session.scans(), lambda: next(times)).content
    assert (content["begun"], content["created"]) == (
        "2026-01-31T12:00:00+00:00",
        "2026-01-31T21:00:00+00:00",
    )
    assert f"Begun {content['begun']}, made {content['created']}".encode() in render_html(content)


def test_pieces_that_the_node_removes_are_not_held_against_a_candidate(shared: Site, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "crumbs", name="crumbs", title="crumbs")
    networks = Networks(habits={"crumbs": Habit(crumbs=frozenset({"liver"}))})
    session = session_of(shared, tmp_path, networks, candidate=bundle)
    raw = session.run(session.scans(), lambda: NOW).judgement
    (liver,) = (one for one in raw.organs if one.organ == "liver")
    assert raw.verdict is GateVerdict.FAIL, "the default protocol does not tidy a liver"
    assert liver.tail.difference_mm > 20
    file = tmp_path / "ours.toml"
    file.write_text(
        'others = "drop"\n[[structures]]\norgan = "liver"\nname = "Leber"\nmax_distance_mm = 25\n'
        '[[structures]]\nname = "PRV"\nderive = "margin"\nfrom = ["liver"]\nmargin_mm = 5\n'
    )
    tidied = session_of(shared, tmp_path / "2", networks, candidate=bundle, protocol=str(file))
    judged = tidied.run(tidied.scans(), lambda: NOW)
    assert judged.judgement.verdict is GateVerdict.PASS, "the spleen is compared although it is not sent"
    assert len(judged.judgement.organs) == 2
    assert judged.content["protocol"]["sha256"] == load_protocol(str(file)).sha256


def test_the_gate_takes_the_protocol_that_a_node_takes_by_default() -> None:
    assert ContoursSection().protocol == NODE_PROTOCOL


def test_a_candidate_that_differs_widely_says_nothing_about_how_many_patients_are_needed(
    shared: Site, tmp_path: Path
) -> None:
    bundle = write_bundle(tmp_path / "wide", name="wide", title="wide")
    networks = Networks(habits={"wide": Habit(crumbs=frozenset({"liver"}))})
    session = session_of(shared, tmp_path, networks, candidate=bundle)
    scans = session.scans()
    before = session.power(scans)
    (liver,) = (o for o in session.run(scans, lambda: NOW).judgement.organs if o.organ == "liver")
    assert liver.dice.sd > 0
    assert session.power(scans) == before


def test_both_models_look_at_a_scan_that_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    volume = StoredCase.volume

    def counted(case: StoredCase) -> Volume:
        read.append(case.key)
        return volume(case)

    site = site_of(tmp_path / "site", patients=6)
    session = session_of(site, tmp_path, Networks())
    monkeypatch.setattr(StoredCase, "volume", counted)
    scans = session.scans()
    session.run(scans, lambda: NOW)
    assert sorted(read) == sorted(scan.case.key for scan in scans)


def test_only_organs_of_the_very_same_network_count_as_unchanged(tmp_path: Path) -> None:
    one, two = (write_bundle(tmp_path / name, name=name) for name in ("one", "two"))
    assert unchanged_organs(one, two) == {"spleen", "liver"}
    (part,) = one.manifest.parts
    swapped = write_bundle(tmp_path / "swapped", parts=(replace(part, labels={1: "liver", 2: "spleen"}),))
    assert unchanged_organs(one, swapped) == frozenset()
    weights = replace(two.manifest, files={**two.manifest.files, part.weights[0]: "f" * 64})
    assert unchanged_organs(one, replace(two, manifest=weights)) == frozenset()
    assert unchanged_organs(one, replace(two, manifest=replace(two.manifest, mirroring=True))) == frozenset()


def test_patients_who_leaked_into_training_are_found_by_hash(shared: Site, tmp_path: Path) -> None:
    locked = set(shared.locked_test_keys())
    one = next(case for case in shared.cases() if case.key in locked)
    leaked = trained_on(write_bundle(tmp_path / "leaked", name="leaked"), [one], "0")
    session = session_of(shared, tmp_path, Networks(), candidate=leaked)
    with pytest.raises(GateLeak, match=one.key):
        session.scans()


def test_training_scans_are_judged_by_the_fold_that_was_not_trained_on_them(
    shared: Site, tmp_path: Path
) -> None:
    training = [case for case in shared.cases() if case.key in set(shared.training_keys())]
    known = trained_on(write_bundle(tmp_path / "tuned", name="tuned"), training[:5], "0")
    networks = Networks()
    session = session_of(shared, tmp_path, networks, candidate=known)
    scans = session.scans()
    assert sum(scan.out_of_fold for scan in scans) == 6, "five held out, one never seen"
    everywhere = trained_on(write_bundle(tmp_path / "all", name="all"), training, None)
    without = session_of(shared, tmp_path / "2", networks, candidate=everywhere)
    assert not any(scan.out_of_fold for scan in without.scans())
    content = session.run(scans, lambda: NOW).content
    assert content["scans"]["patients"] == 12
    assert content["scans"]["training_known"] == {"live": False, "candidate": True}


def test_a_gate_that_was_interrupted_continues(tmp_path: Path) -> None:
    site = site_of(tmp_path / "site", patients=6)
    networks = Networks()

    def killed(_key: str) -> None:
        if len(networks.runs) == 3:
            raise KeyboardInterrupt

    session = session_of(site, tmp_path, networks)
    with pytest.raises(KeyboardInterrupt):
        session.run(session.scans(), lambda: NOW, killed)
    assert session.uncached_runs(session.scans()) == 6 - 3
    damaged = next((site.root / "gate" / "runs").glob("*/*.json"))
    damaged.write_text("{")
    assert session.uncached_runs(session.scans()) == 6 - 2, "a damaged result is made again"
    session.run(session.scans(), lambda: NOW)
    assert len(networks.runs) == 7


def test_a_site_without_contours_of_the_model_is_not_judged(shared: Site, tmp_path: Path) -> None:
    (part,) = a_manifest().parts
    brain = write_bundle(
        tmp_path / "brain", name="brain", parts=(replace(part, labels={1: "brain"}, priorities={}),)
    )
    session = session_of(shared, tmp_path, Networks())
    empty = GateSession(
        site=shared, live=brain, candidate=session.candidate, runner=session.runner, organs=shared.organs
    )
    with pytest.raises(NothingToJudge):
        empty.scans()


def test_an_organ_is_compared_only_in_the_slices_in_which_it_was_drawn(tmp_path: Path) -> None:
    site = site_of(tmp_path / "site", patients=6)
    session = session_of(site, tmp_path, Networks())
    case = session.scans()[0].case
    upper = np.zeros(case.mask("liver").shape, dtype=np.bool_)
    upper[8:] = True
    write_image(
        case.folder / "masks" / "liver.nii.gz",
        (case.mask("liver") & upper).astype(np.uint8),
        case.volume().grid,
    )
    run = session.runner.of_bundle(session.live)
    assert run.contour(case).organs["liver"].comparison.dsc < 0.8
    shutil.rmtree(session.runner.folder)
    partly = replace(case, known_slices={"liver": (8, upper.shape[0])})
    assert run.contour(partly).organs["liver"].comparison.dsc == 1.0


def test_the_gate_file_says_everything_and_is_signed(shared: Site, tmp_path: Path) -> None:
    session = session_of(shared, tmp_path, Networks())
    content = session.run(session.scans(), lambda: NOW).content
    public = make_key(tmp_path / "key.pem")
    gate = read_gate(render_gate(content, tmp_path / "key.pem"), {"A. Physicist": public})
    assert (gate.verdict, gate.signer) == (GateVerdict.PASS, "A. Physicist")
    assert (gate.live, gate.candidate) == (session.live.sha256, session.candidate.sha256)
    page = render_html(content).decode()
    for text in ("PASS", "liver", session.candidate.sha256, "6 patients"):
        assert text in page
    assert render_pdf(content).startswith(b"%PDF")
    assert render_pdf(content) == render_pdf(content)
