"""What a tuned bundle says it was trained on: also what its networks had seen before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.core.organs import load_organs
from orgseg_node.core.scan.reference import ScanReference
from orgseg_node.errors import InputError
from orgseg_node.inference.bundles.bundle import open_bundle
from orgseg_node.inference.bundles.training_cases import TrainingCase, add_training_cases
from orgseg_node.shipped import shipped_bundles, shipped_config
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.tuning import bundles
from orgseg_training.tuning.bundles import add_reference, trained_cases
from orgseg_training.tuning.recipe import RECIPES
from orgseg_training.tuning.request import TuneRequest
from orgseg_training.tuning.start import Start, choose_start
from tests.support.models.bundles import write_bundle
from tests.support.models.judged_site import site_of


def _seen(case: StoredCase, held_out: str | None) -> TrainingCase:
    return TrainingCase(
        voxels_sha256=case.voxels_sha256,
        coarse_sha256=case.coarse_sha256,
        patient=case.patient,
        held_out=held_out,
    )


def _request(start: Start) -> TuneRequest:
    return TuneRequest(site="s", name="a@2", start=start, recipe=RECIPES["cpu"])


def test_a_scan_is_held_out_only_if_it_was_held_out_of_every_training(tmp_path: Path) -> None:
    a, b, c, d, e = site_of(tmp_path / "site", patients=6).cases()[:5]
    past = [_seen(a, "0"), _seen(b, None), _seen(e, "0")]
    old = add_training_cases(write_bundle(tmp_path / "old", name="old"), {"parts/main": past})
    start = choose_start(old, ["liver", "spleen"])
    new = write_bundle(tmp_path / "new", name="new")
    fold = {"train": [c.key], "val": [a.key, b.key, d.key]}
    (found,) = trained_cases(_request(start), new, [a, b, c, d], [fold]).values()
    assert {one.voxels_sha256: one.held_out for one in found} == {
        a.voxels_sha256: "0",  # held out twice
        b.voxels_sha256: None,  # the old network was trained on it
        c.voxels_sha256: None,
        d.voxels_sha256: "0",
        e.voxels_sha256: None,  # of the past alone: nothing says that the new network was kept from it
    }


def test_a_network_that_stays_keeps_what_it_was_trained_on(tmp_path: Path) -> None:
    a, b = site_of(tmp_path / "site", patients=6).cases()[:2]
    old = add_training_cases(write_bundle(tmp_path / "old", name="old"), {"parts/main": [_seen(a, None)]})
    start = choose_start(old, ["liver"], separate=True)
    written = write_bundle(tmp_path / "new", name="new")
    (tuned,) = written.manifest.parts
    parts = (tuned, replace(tuned, folder="parts/copied"))
    new = replace(written, manifest=replace(written.manifest, parts=parts))
    found = trained_cases(_request(start), new, [b], [{"train": [b.key], "val": []}])
    assert [one.voxels_sha256 for one in found["parts/copied"]] == [a.voxels_sha256]


def test_what_the_old_bundle_knows_of_scans_is_at_hand_when_the_new_one_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[ScanReference | None] = []

    def learn(*_: Any, **given: Any) -> None:
        known.append(given["known"])
        raise InputError("too few cases")

    monkeypatch.setattr(bundles, "learn_anatomy", learn)
    starter, plain = open_bundle(shipped_bundles() / "starter-hn"), write_bundle(tmp_path / "new", name="new")
    table = load_organs(shipped_config("organs.toml"))
    for start in (starter, plain):
        assert add_reference(plain, start, (), table) == (plain, False)
    of_starter, of_plain = known
    assert of_starter is not None
    assert of_starter.sides is not None
    assert of_plain is None
