"""A patient's part is decided once: who was ever in the test is never trained on, and the other way round."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Volume
from orgseg_training.datasets.case import Contents, SourceCase
from orgseg_training.errors import (
    CaseUnknown,
    LedgerDamaged,
    LockChanged,
    LockDamaged,
    NoSite,
    NotLocked,
    PatientsMixed,
    SiteExists,
    TooFewPatients,
)
from orgseg_training.site.lock import Part, divide_patients
from orgseg_training.site.locking import lock_site
from orgseg_training.site.patients import patient_hash
from orgseg_training.site.settings import SiteSettings
from orgseg_training.site.site import Site

_GRID = Grid(shape=(12, 20, 20), spacing_mm=(4.0, 4.0, 4.0), origin_mm=(0.0, 0.0, 0.0))
_TODAY = date(2026, 1, 31)


def _case(site: Site, number: int, *, seed: int | None = None) -> SourceCase:
    """A patient of noise with a liver of one voxel."""
    rng = np.random.default_rng(number if seed is None else seed)
    hu = np.full(_GRID.shape, -1000, np.int16)
    hu[2:10, 4:16, 4:16] = rng.normal(40, 200, (8, 12, 12)).astype(np.int16)
    mask = np.zeros(_GRID.shape, bool)
    mask[5, 9, 9] = True
    contents = Contents(volume=Volume(grid=_GRID, hu=hu), masks={"liver": mask})
    return SourceCase(
        database="site",
        name=f"{number:03d}",
        patient=patient_hash(site.secret(), f"H{number}"),
        annotated=frozenset({"liver"}),
        read=lambda: contents,
    )


def _site(folder: Path, numbers: Iterable[int]) -> Site:
    site = Site.create(folder / "site", SiteSettings())
    site.store.ingest(_case(site, number) for number in numbers)
    return site


def _test_patients(site: Site) -> set[str]:
    lock = site.lock()
    return {lock.patients[key] for key in lock.test}


def test_added_patients_move_nobody_to_the_other_part(tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    test, training = set(site.locked_test_keys()), set(site.training_keys())
    assert (len(test), len(training)) == (2, 6)
    site.store.ingest(_case(site, number) for number in range(8, 14))
    lock_site(site, _TODAY)
    assert test < set(site.locked_test_keys())
    assert training < set(site.training_keys())
    assert len(site.locked_test_keys()) == 4
    assert site.lock().number == 2


def test_each_organ_is_in_the_test_and_in_training() -> None:
    rare = {f"r{n}": frozenset({"cord", "chiasm"}) for n in range(3)}
    common = {f"c{n}": frozenset({"cord", "parotid"}) for n in range(17)}
    for number in range(20):
        parts = divide_patients(rare | common, {}, fraction=0.25, secret=bytes([number]) * 32)
        tested = [one for one, part in parts.items() if part is Part.TEST]
        assert len(tested) == 5
        assert 1 <= sum(one in rare for one in tested) <= 2
    secrets = [bytes([number]) * 32 for number in range(9)]
    choices = {str(divide_patients(common, {}, fraction=0.2, secret=one)) for one in secrets}
    assert len(choices) > 3, "the choice is random for everybody"


def test_the_only_patient_with_an_organ_is_trained_on() -> None:
    drawn = {f"c{n}": frozenset({"cord"}) for n in range(9)} | {"one": frozenset({"cord", "lens"})}
    for number in range(20):
        parts = divide_patients(drawn, {}, fraction=0.2, secret=bytes([number]) * 32)
        assert parts["one"] is Part.TRAINING


def test_a_test_patient_who_was_away_is_still_a_test_patient(tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    key = site.locked_test_keys()[0]
    (site.root / "cases" / key).rename(tmp_path / key)
    lock_site(site, _TODAY)
    assert key not in site.locked_test_keys()
    (tmp_path / key).rename(site.root / "cases" / key)
    site.lock_file.unlink()  # only the ledger knows
    lock_site(site, _TODAY)
    assert key in site.locked_test_keys()


def test_locking_the_same_cases_again_changes_nothing(tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    files = site.lock_file.read_bytes(), site.ledger_file.read_bytes()
    lock_site(site, date(2026, 2, 28))
    assert (site.lock_file.read_bytes(), site.ledger_file.read_bytes()) == files


def test_the_ledger_names_no_patient(tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    for file in (site.ledger_file, site.lock_file):
        assert not any(f"H{number}" in file.read_text() for number in range(8))


def test_few_patients_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    site = _site(tmp_path, range(3))
    with pytest.raises(TooFewPatients, match="3 can be used, 6 are needed"):
        lock_site(site, _TODAY)
    assert not site.lock_file.exists()
    assert not site.ledger_file.exists()


@pytest.mark.parametrize("damage", ["cut", "edited", "empty", "list"])
def test_a_damaged_lock_is_refused_and_the_ledger_restores_it(damage: str, tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    before, text = _test_patients(site), site.lock_file.read_text()
    damaged = {
        "cut": text[: len(text) // 2],
        "edited": text.replace('"number": 1', '"number": 2'),
        "empty": "",
        "list": "[]",
    }
    site.lock_file.write_text(damaged[damage])
    for use in (site.training_keys, lambda: lock_site(site, _TODAY)):
        with pytest.raises(LockDamaged):
            use()
    site.lock_file.unlink()
    lock_site(site, _TODAY)
    assert _test_patients(site) == before


@pytest.mark.parametrize("damage", ['{"patient": 1', "nonsense", '{"patient": "x", "part": "both"}'])
def test_a_damaged_ledger_is_refused(damage: str, tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    with site.ledger_file.open("a") as stream:
        stream.write(damage + "\n")
    with pytest.raises(LedgerDamaged):
        lock_site(site, _TODAY)


def test_a_ledger_that_was_changed_is_noticed(tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    site.ledger_file.write_text(site.ledger_file.read_text().replace('"test"', '"training"'))
    with pytest.raises(LedgerDamaged, match="disagree"):
        lock_site(site, _TODAY)


def test_cases_changed_after_the_lock_are_not_used(tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    key = site.training_keys()[0]
    mask = site.root / "cases" / key / "masks" / "liver.nii.gz"
    mask.write_bytes(mask.read_bytes() + b"x")
    with pytest.raises(LockChanged, match=key):
        site.training_keys()


def test_copies_of_a_scan_under_two_patient_ids_are_one_patient(tmp_path: Path) -> None:
    site = _site(tmp_path, range(7))
    site.store.ingest([_case(site, 7, seed=3)])
    locked = lock_site(site, _TODAY)
    assert len(locked.lock.patients) == 7
    assert any("1 copies" in line for line in locked.summary)


def test_a_copy_of_a_test_case_is_never_trained_on(tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    number = int(site.locked_test_keys()[0].removeprefix("site__"))
    site.store.ingest([_case(site, 50, seed=number)])
    lock_site(site, _TODAY)
    assert "site__050" not in site.training_keys()
    assert f"site__{number:03d}" in site.locked_test_keys()


def test_a_copy_in_both_parts_is_refused(tmp_path: Path) -> None:
    site = _site(tmp_path, range(8))
    lock_site(site, _TODAY)
    test, training = site.locked_test_keys()[0], site.training_keys()[0]
    number = int(test.removeprefix("site__"))
    again = replace(_case(site, 50, seed=number), patient=site.lock().patients[training])
    site.store.ingest([again])
    with pytest.raises(PatientsMixed):
        lock_site(site, _TODAY)


def test_an_unlocked_folder_and_a_foreign_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoSite):
        Site.open(tmp_path)
    site = Site.create(tmp_path / "site", SiteSettings())
    with pytest.raises(NotLocked):
        site.training_keys()
    with pytest.raises(SiteExists):
        Site.create(tmp_path / "site", SiteSettings())


def test_the_way_back_to_the_patient_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    site = Site.create(tmp_path / "site", SiteSettings())
    site.patients.add({"site__0a1b": "H1000", "site__2c3d": "H1001"})
    site.patients.add({"site__4e5f": "H1002"})
    assert site.patients.patient_id("site__0a1b") == site.patients.patient_id("0a1b") == "H1000"
    for file in (site.patients.path, site.secret_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(CaseUnknown):
        site.patients.patient_id("site__ffff")


def test_settings_survive_writing_and_reading(tmp_path: Path) -> None:
    settings = SiteSettings(name="clinic", archive=(tmp_path,), label="^PLAN", test_fraction=0.2)
    made = Site.create(tmp_path / "site", settings)
    assert Site.open(made.root).settings == settings
