"""Scans are ingested completely or not at all, with the state of each organ; unusable ones are listed."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import Grid
from orgseg_node.core.volume import Volume
from orgseg_node.durable import atomic_folder
from orgseg_node.errors import StorageError
from orgseg_training.datasets.case import Contents, OrganState, SourceCase, states_of
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.stored_form import coarse_hash
from orgseg_training.durable import read_json

GRID = Grid(shape=(12, 20, 20), spacing_mm=(4.0, 4.0, 4.0), origin_mm=(0.0, 0.0, 0.0))


def volume(seed: int = 0, **changes: object) -> Volume:
    """A patient of noise."""
    hu = np.full(GRID.shape, -1000, np.int16)
    hu[2:10, 4:16, 4:16] = np.random.default_rng(seed).normal(40, 200, (8, 12, 12)).astype(np.int16)
    return Volume(grid=changes.get("grid", GRID), hu=changes.get("hu", hu))  # type: ignore[arg-type]


def mask(*voxel: int) -> np.ndarray:
    """One voxel, or none."""
    made = np.zeros(GRID.shape, bool)
    if voxel:
        made[voxel] = True
    return made


def source(name: str = "a", annotated: tuple[str, ...] = ("liver",), **changes: object) -> SourceCase:
    """A scan whose voxels are given."""
    contents = Contents(
        volume=changes.pop("volume", volume()), masks=changes.pop("masks", {"liver": mask(5, 9, 9)})
    )  # type: ignore[arg-type]
    return SourceCase(
        database="db", name=name, patient=name, annotated=frozenset(annotated), read=lambda: contents
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AttributeError("no ReferencedROINumber of Mr. Smith"), "TRAINING_CASE_UNEXPECTED"),
        (IndexError(), "TRAINING_CASE_UNEXPECTED"),
        (RecursionError(), "TRAINING_CASE_UNEXPECTED"),
        (MemoryError(), "TRAINING_CASE_NOT_READ"),
        (OSError(errno.EIO, "Mr. Smith"), "TRAINING_CASE_NOT_READ"),
    ],
)
def test_whatever_happens_with_one_scan_the_others_are_stored(
    error: Exception, code: str, tmp_path: Path
) -> None:
    def fails() -> Contents:
        raise error

    store = CaseStore(tmp_path)
    store.ingest([source("a"), replace(source("b"), read=fails), source("c")])
    assert store.keys() == ("db__a", "db__c")
    entry = read_json(tmp_path / "rejected.json")["db__b"]
    assert entry["code"] == code
    assert "Smith" not in entry["why"]


def test_what_may_pass_is_tried_again_only_if_wanted(tmp_path: Path) -> None:
    def fails() -> Contents:
        raise MemoryError

    store = CaseStore(tmp_path)
    store.ingest([replace(source("a"), read=fails), replace(source("b"), read=lambda: 1 / 0)])  # type: ignore[arg-type, return-value]
    store.ingest([source("a"), source("b")])
    assert store.keys() == ()
    store.ingest([source("a"), source("b")], again=True)
    assert store.keys() == ("db__a",)
    assert list(read_json(tmp_path / "rejected.json")) == ["db__b"]


def test_of_an_organ_whose_contours_cannot_be_used_nothing_is_known(tmp_path: Path) -> None:
    case = source(annotated=("liver", "spleen"))
    finding = Finding(level=Level.WARNING, code="ROI_LEFT_OUT", message="spleen: damaged.", organ="spleen")
    contents = replace(case.read(), unusable=frozenset({"spleen"}), findings=(finding,))
    store = CaseStore(tmp_path)
    store.ingest([replace(case, read=lambda: contents)])
    (stored,) = store.cases()
    assert stored.states == {"liver": OrganState.DRAWN}
    assert stored.findings == (finding,)
    assert read_json(tmp_path / "findings.json") == {"db__a": ["spleen: damaged."]}


def test_a_scan_that_lies_otherwise_is_stored_upright_with_its_organs(tmp_path: Path) -> None:
    turned = Grid(
        shape=GRID.shape,
        spacing_mm=GRID.spacing_mm,
        origin_mm=(76.0, 0.0, 44.0),
        axes=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
    )
    feet_first = Volume(grid=turned, hu=volume().hu[::-1, :, ::-1])
    store = CaseStore(tmp_path)
    store.ingest([source(volume=feet_first, masks={"liver": mask(5, 9, 9)[::-1, :, ::-1]})])
    (case,) = store.cases()
    assert np.array_equal(case.volume().hu, volume().hu)
    assert case.volume().grid == GRID
    assert np.array_equal(case.mask("liver"), mask(5, 9, 9))


def test_three_states_are_never_confused() -> None:
    known = states_of(frozenset({"liver", "spleen"}), {"liver": mask(5, 9, 9), "spleen": mask()})
    assert known == {"liver": OrganState.DRAWN, "spleen": OrganState.OUTSIDE}


def test_a_scan_comes_back_as_it_was(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.ingest([source(annotated=("liver", "spleen"))])
    (case,) = store.cases()
    assert (case.key, case.drawn) == ("db__a", {"liver"})
    assert case.state("spleen") is OrganState.OUTSIDE
    assert case.state("aorta") is OrganState.NOT_DRAWN
    assert np.array_equal(case.volume().hu, volume().hu)
    assert np.array_equal(case.mask("liver"), mask(5, 9, 9))
    with pytest.raises(StorageError, match="not drawn"):
        case.mask("spleen")


def test_what_would_teach_something_wrong_is_listed_and_the_others_come_in(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    raw = Volume(grid=GRID, hu=np.full(GRID.shape, 500, np.int16))
    other_grid = {"liver": np.ones((3, 3, 3), bool)}
    store.ingest(
        [
            source("good"),
            source("raw", volume=raw),
            source("grid", masks=other_grid),
            source("none", masks={}),
        ]
    )
    assert [case.key for case in store.cases()] == ["db__good"]
    rejected = read_json(tmp_path / "rejected.json")
    assert {key: why["code"] for key, why in rejected.items()} == dict.fromkeys(
        ("db__raw", "db__grid", "db__none"), "TRAINING_CASE_REJECTED"
    )


def test_a_folder_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def cut_off() -> None:
        with atomic_folder(tmp_path / "case") as part:
            (part / "ct.nii.gz").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut_off()
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_known_though_it_was_padded_and_rounded() -> None:
    padded = np.full((16, 26, 26), -1000, np.int16)
    padded[2:14, 3:23, 3:23] = volume().hu
    grid = Grid(shape=(16, 26, 26), spacing_mm=GRID.spacing_mm, origin_mm=GRID.origin_mm)
    assert coarse_hash(Volume(grid=grid, hu=padded)) == coarse_hash(volume())
    assert coarse_hash(volume(seed=1)) != coarse_hash(volume())


@pytest.mark.parametrize("damaged", ["case.json", "ct.nii.gz", "masks/liver.nii.gz"])
def test_a_damaged_scan_is_stored_again(damaged: str, tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.ingest([source("a")])
    file = tmp_path / "cases" / "db__a" / damaged
    if damaged == "case.json":
        file.write_text("{")
    else:
        file.unlink()
    store.ingest([source("a")])
    (case,) = store.cases()
    assert np.array_equal(case.mask("liver"), mask(5, 9, 9))
    assert np.array_equal(case.volume().hu, volume().hu)
