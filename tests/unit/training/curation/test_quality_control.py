"""Quality control finds the introduced errors and nothing else, draws every scan, and can be continued."""

from __future__ import annotations

import re
import struct
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from orgseg_node.core.checks import Finding, Level
from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import Organ, OrganTable
from orgseg_node.core.volume import Mask, Volume
from orgseg_training.cli.app import app
from orgseg_training.curation.checks import CHECKS, MIN_SCANS, Cohort, check_scan
from orgseg_training.curation.measurements import ScanMeasurements, measure, read_case
from orgseg_training.curation.quality_control import FINDINGS, quality_lines, review_scans
from orgseg_training.curation.quality_page import suggested_rejects, write_page
from orgseg_training.curation.rejects import read_rejects
from orgseg_training.datasets.case_store import CaseStore, StoredCase
from orgseg_training.datasets.nifti import write_image
from orgseg_training.datasets.registry import open_database
from orgseg_training.datasets.synthetic import write_patients
from orgseg_training.durable import read_json, write_json
from orgseg_training.errors import NoScans
from orgseg_training.experiment.config import load_experiment
from orgseg_training.experiment.report import _page
from orgseg_training.experiment.steps import ingest, lock
from orgseg_training.experiment.workspace import Workspace
from orgseg_training.shipped import training_config

PATIENTS = 10
WHEN = date(2026, 1, 31)
Scan = tuple[Volume, dict[str, Mask]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> CaseStore:
    """Synthetic patients as ingested; never changed."""
    root = tmp_path_factory.mktemp("qc")
    write_patients(root / "patients", patients=PATIENTS)
    store = CaseStore(root / "store")
    store.ingest(open_database("openkbp", "synthetic", root / "patients", {}))
    return store


@pytest.fixture(scope="module")
def scans(sound: CaseStore) -> Mapping[str, Scan]:
    """Their voxels."""
    return {case.key: read_case(case) for case in sound.ingested()}


@pytest.fixture
def store(tmp_path: Path) -> CaseStore:
    """Three patients in a working folder, in which a test introduces errors."""
    write_patients(tmp_path / "patients", patients=3, tests=1)
    store = CaseStore(tmp_path / "work" / "store")
    store.ingest(open_database("openkbp", "synthetic", tmp_path / "patients", {}))
    return store


def measurements_of(scan: Scan, organs: OrganTable) -> ScanMeasurements:
    return measure(*scan, organs)


def codes(scan: Scan, cohort: Cohort, organs: OrganTable) -> set[str]:
    return {finding.code for finding in check_scan(measurements_of(scan, organs), cohort)}


@pytest.fixture(scope="module")
def cohort(scans: Mapping[str, Scan], organ_table: OrganTable) -> Cohort:
    """What is usual among the sound ones."""
    return Cohort.of(measurements_of(scan, organ_table) for scan in scans.values())


def with_hu(scan: Scan, change: Callable[[np.ndarray], None]) -> Scan:
    """The scan with other voxels."""
    hu = scan[0].hu.copy()
    change(hu)
    return Volume(grid=scan[0].grid, hu=hu), scan[1]


def with_spacing(scan: Scan, *spacing_mm: float) -> Scan:
    grid = replace(scan[0].grid, spacing_mm=spacing_mm)
    return Volume(grid=grid, hu=scan[0].hu), scan[1]


def with_mandible(scan: Scan, change: Callable[[Mask], Mask]) -> Scan:
    """The scan with another contour of the mandible."""
    return scan[0], {**scan[1], "mandible": change(scan[1]["mandible"].copy())}


def grown(mask: Mask) -> Mask:
    """Twice as thick from front to back: too large."""
    return mask | np.roll(mask, 6, axis=1) | np.roll(mask, -3, axis=1)


def in_two(mask: Mask) -> Mask:
    """A second piece next to it."""
    mask[18:22, 40:43, 4:8] = True
    return mask


def cut(mask: Mask) -> Mask:
    """Up to the last slice."""
    mask[20:, 14:18, 22:26] = True
    return mask


def over_border(mask: Mask) -> Mask:
    """Up to the border of the image."""
    mask[20, 16, :24] = True
    return mask


def half_outside(mask: Mask) -> Mask:
    """The scan ends in the middle of it."""
    moved = np.roll(mask, 8, axis=0)
    moved[:8] = False
    return moved


def every_second(mask: Mask) -> Mask:
    """Drawn on every second slice, as by hand."""
    mask[::2] = False
    return mask


def darkened(hu: np.ndarray) -> None:
    """Where the mandible is there is soft tissue."""
    hu[hu > 600] = 40


def filled_in(hu: np.ndarray) -> None:
    """A slice that was missing is a copy of the one before."""
    hu[9] = hu[8]


def blank(hu: np.ndarray) -> None:
    """A slice that was missing is air."""
    hu[3] = -1000


ERRORS: Mapping[str, tuple[str, Callable[[Scan], Scan]]] = {
    "exchanged": (
        "ANATOMY_ORDER",
        lambda scan: (scan[0], {"mandible": scan[1]["larynx"], "larynx": scan[1]["mandible"]}),
    ),
    "too large": ("VOLUME_OUTLIER", lambda scan: with_mandible(scan, grown)),
    "in pieces": ("ORGAN_IN_PIECES", lambda scan: with_mandible(scan, in_two)),
    "at the end": ("ORGAN_AT_SCAN_END", lambda scan: with_mandible(scan, cut)),
    "at the border": ("ORGAN_AT_PICTURE_BORDER", lambda scan: with_mandible(scan, over_border)),
    "too dark": ("HU_OUTLIER", lambda scan: with_hu(scan, darkened)),
    "thick slices": ("SCAN_SPACING", lambda scan: with_spacing(scan, 8.0, 4.0, 4.0)),
    "large pixels": ("SCAN_SPACING", lambda scan: with_spacing(scan, 4.0, 5.5, 5.5)),
    "oblong pixels": ("SCAN_SPACING", lambda scan: with_spacing(scan, 4.0, 4.0, 4.5)),
    "filled in": ("SCAN_SLICES_REPEATED", lambda scan: with_hu(scan, filled_in)),
    "blank": ("SCAN_SLICES_EMPTY", lambda scan: with_hu(scan, blank)),
    "skipped": ("SLICES_SKIPPED", lambda scan: with_mandible(scan, every_second)),
}


def test_sound_scans_have_no_findings(
    scans: Mapping[str, Scan], cohort: Cohort, organ_table: OrganTable
) -> None:
    for scan in scans.values():
        assert codes(scan, cohort, organ_table) == set()


@pytest.mark.parametrize("how", ERRORS)
def test_what_was_spoiled_is_found(
    how: str, scans: Mapping[str, Scan], cohort: Cohort, organ_table: OrganTable
) -> None:
    code, introduce_error = ERRORS[how]
    assert code in codes(introduce_error(scans["synthetic__SYN_000"]), cohort, organ_table)


def test_every_check_can_find_something(
    scans: Mapping[str, Scan], cohort: Cohort, organ_table: OrganTable
) -> None:
    measured = [
        measurements_of(introduce_error(scans["synthetic__SYN_000"]), organ_table)
        for _, introduce_error in ERRORS.values()
    ]
    silent = [check.__name__ for check in CHECKS if not any(any(check(one, cohort)) for one in measured)]
    assert silent == []


def test_the_median_of_too_few_scans_says_nothing(scans: Mapping[str, Scan], organ_table: OrganTable) -> None:
    large = ERRORS["too large"][1](scans["synthetic__SYN_000"])
    few = Cohort.of(measurements_of(scan, organ_table) for scan in [*scans.values()][: MIN_SCANS - 1])
    assert "VOLUME_OUTLIER" not in codes(large, few, organ_table)


def test_a_cut_organ_says_nothing_about_volumes(
    scans: Mapping[str, Scan], cohort: Cohort, organ_table: OrganTable
) -> None:
    """Half an organ at the end of the scan is no small organ, and does not move the median."""
    volume, masks = scans["synthetic__SYN_000"]
    half = with_mandible((volume, masks), half_outside)
    assert "VOLUME_OUTLIER" not in codes(half, cohort, organ_table)
    many = Cohort.of([measurements_of(half, organ_table)] * 30)
    assert "mandible" not in many.log_volumes
    assert "mandible" in many.mean_hu


def test_a_pair_may_have_a_gap_and_a_single_organ_not(cohort: Cohort, organ_table: OrganTable) -> None:
    grid = Grid(shape=(30, 20, 20), spacing_mm=(3.0, 3.0, 3.0), origin_mm=(0.0, 0.0, 0.0))
    volume = Volume(grid=grid, hu=np.random.default_rng(0).normal(40, 9, grid.shape).astype(np.int16))
    mask = np.zeros(grid.shape, bool)
    mask[4:10, 5:9, 2:6] = mask[14:20, 5:9, 13:17] = True
    found = {
        organ: codes((volume, {organ: mask}), cohort, organ_table) & {"SLICES_SKIPPED"}
        for organ in ("kidneys", "liver")
    }
    assert found == {"kidneys": set(), "liver": {"SLICES_SKIPPED"}}


def test_the_worst_comes_first_with_a_picture_of_each(store: CaseStore, tmp_path: Path) -> None:
    worst, bad = (store.ingested_case(key) for key in ("synthetic__SYN_002", "synthetic__SYN_001"))
    swap(worst)
    change_masks(bad, every_second)
    page, folder = qc(tmp_path)
    rows = re.findall(r'<tr id="(.*?)">', page)
    assert rows == [worst.key, bad.key, "synthetic__SYN_000"]
    assert re.search(r"ANATOMY_ORDER: [\w ]+", page)
    assert "http" not in page
    assert "<script" not in page
    for key in rows:
        assert f'src="{key}.png"' in page
        picture = (folder / f"{key}.png").read_bytes()
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", picture[16:24])
        assert 600 < width < 3000
        assert 300 < height < 3000
    assert [*folder.rglob(".*")] == []  # nothing half-written
    assert {file.name for file in folder.iterdir()} == {
        *(f"{key}.png" for key in rows), "measurements", FINDINGS, "index.html"
    }  # fmt: skip


def test_entries_of_the_page_are_a_list_of_rejects(store: CaseStore, tmp_path: Path) -> None:
    change_masks(store.ingested_case("synthetic__SYN_000"), every_second)
    page, _ = qc(tmp_path)
    file = tmp_path / "rejects.toml"
    file.write_text("\n".join(unescape(entry) for entry in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)))
    rejects = {one.case: one for one in read_rejects(file)}
    assert set(rejects) == set(store.keys())
    one = rejects["synthetic__SYN_000"]
    assert (one.organ, one.who) == ("mandible", "A. Physicist")
    assert rejects["synthetic__SYN_001"].organ is None


def test_an_organ_that_was_not_drawn_rejects_the_whole_scan(
    store: CaseStore, tmp_path: Path, organ_table: OrganTable
) -> None:
    """A finding of a pair cannot be rejected by the name of the pair: only its sides were drawn."""
    first, *_ = review_scans(store, tmp_path / "out", organ_table)
    pair = replace(
        check_scan(*some(store, every_second, organ_table))[0], organ="parotids", level=Level.ERROR
    )
    entries = tomllib.loads(suggested_rejects(replace(first, findings=(pair,)), who="A", when=WHEN))["reject"]
    assert [(entry["case"], entry.get("organ")) for entry in entries] == [(first.key, None)]


def test_what_is_left_out_already_rejects_nothing_more(
    store: CaseStore, tmp_path: Path, organ_table: OrganTable
) -> None:
    """An organ that ingest left out must not suggest to reject the others of its scan."""
    first, *_ = review_scans(store, tmp_path / "out", organ_table)
    level, message = Level.WARNING, "why"
    findings = (
        Finding(level=level, code="ROI_LEFT_OUT", message=message, organ="parotid_left"),
        Finding(level=level, code="HU_OUTLIER", message=message, organ="mandible"),
    )
    entries = tomllib.loads(suggested_rejects(replace(first, findings=findings), who="A", when=WHEN))[
        "reject"
    ]
    assert [(entry.get("organ"), entry["reason"]) for entry in entries] == [("mandible", "unusual HU")]


def some(
    store: CaseStore, change: Callable[[Mask], Mask], organs: OrganTable
) -> tuple[ScanMeasurements, Cohort]:
    """Measurements of a scan with an error, without other scans to compare it with."""
    scan = with_mandible(read_case(store.ingested()[0]), change)
    return measurements_of(scan, organs), Cohort.of(())


def test_what_was_drawn_is_kept_and_what_changed_is_drawn_anew(
    store: CaseStore, tmp_path: Path, organ_table: OrganTable
) -> None:
    out = tmp_path / "out"
    review_scans(store, out, organ_table)
    first, second, third = keys = store.keys()
    times = {key: (out / f"{key}.png").stat().st_mtime_ns for key in keys}
    change_masks(store.ingested_case(first), every_second)
    (out / "measurements" / f"{third}.json").write_text("{")
    (out / f"{third}.png").unlink()
    reviews = {one.key: one for one in review_scans(store, out, organ_table)}
    again = {key: (out / f"{key}.png").stat().st_mtime_ns for key in keys}
    assert [key for key in times if times[key] == again[key]] == [second]
    assert "SLICES_SKIPPED" in {finding.code for finding in reviews[first].findings}


def damage_ct(case: StoredCase) -> None:
    case.image.write_bytes(case.image.read_bytes()[:2000])


def damage_mask(case: StoredCase) -> None:
    (case.folder / "masks" / "mandible.nii.gz").unlink()


def damage_note(case: StoredCase) -> None:
    (case.folder / "case.json").write_text('{"patient": 1}')


def another_grid(case: StoredCase) -> None:
    grid = Grid(shape=(4, 5, 6), spacing_mm=(4.0, 4.0, 4.0), origin_mm=(0.0, 0.0, 0.0))
    write_image(case.folder / "masks" / "mandible.nii.gz", np.ones(grid.shape, np.uint8), grid)


@pytest.mark.parametrize("damage", [damage_ct, damage_mask, damage_note, another_grid])
def test_a_damaged_scan_is_listed_first_and_the_others_are_reviewed(
    damage: Callable[[StoredCase], None], store: CaseStore, tmp_path: Path, organ_table: OrganTable
) -> None:
    damage(store.ingested_case("synthetic__SYN_001"))
    reviews = review_scans(store, tmp_path / "out", organ_table)
    assert [one.key for one in reviews] == ["synthetic__SYN_001", "synthetic__SYN_000", "synthetic__SYN_002"]
    assert [finding.code for finding in reviews[0].findings] == ["SCAN_UNREADABLE"]
    assert reviews[0].picture is None
    page = tmp_path / "out" / "index.html"
    write_page(reviews, page, who="A", when=WHEN)
    assert "SCAN_UNREADABLE" in page.read_text()
    assert "no picture" in page.read_text()


def test_overlapping_organs_keep_their_own_volumes_and_outlines(
    store: CaseStore, tmp_path: Path, organ_table: OrganTable
) -> None:
    case = store.ingested_case("synthetic__SYN_000")
    volume, masks = read_case(case)
    write_image(case.folder / "masks" / "larynx.nii.gz", masks["mandible"].astype(np.uint8), volume.grid)
    (one,) = (one for one in review_scans(store, tmp_path / "out", organ_table) if one.key == case.key)
    assert one.measurements is not None
    sizes = {organ: measured.volume_ml for organ, measured in one.measurements.organs.items()}
    assert sizes["larynx"] == sizes["mandible"] > 0


def test_the_page_says_what_is_left_out_already(
    store: CaseStore, tmp_path: Path, organ_table: OrganTable
) -> None:
    scans, parts = {"synthetic__SYN_001": "copy"}, {"synthetic__SYN_000": {"larynx": "wrong side"}}
    store.save_decisions({**store.decisions, "cases": scans, "organs": parts}, final=False)
    page = tmp_path / "out" / "index.html"
    write_page(review_scans(store, tmp_path / "out", organ_table), page, who="A", when=WHEN)
    assert "Already left out: the whole scan, “copy”" in page.read_text()
    assert "Already left out: larynx, “wrong side”" in page.read_text()


def test_the_report_counts_what_was_found(store: CaseStore, tmp_path: Path, organ_table: OrganTable) -> None:
    assert "was not run" in quality_lines(tmp_path / "out")[0]
    change_masks(store.ingested_case("synthetic__SYN_000"), every_second)
    review_scans(store, tmp_path / "out", organ_table)
    said = quality_lines(tmp_path / "out")
    assert "checked 3 scans; 2 have neither errors nor warnings" in said[0]
    assert "SLICES_SKIPPED: 1 findings." in said
    assert set(read_json(tmp_path / "out" / FINDINGS)) == set(store.keys())


def test_the_volume_of_an_organ_drawn_in_part_says_nothing(
    scans: dict[str, Scan], organ_table: OrganTable
) -> None:
    volume, masks = next(iter(scans.values()))
    organ = next(iter(masks))
    tiny = dict(masks) | {organ: np.zeros_like(masks[organ])}
    tiny[organ][tuple(n // 2 for n in volume.grid.shape)] = True
    whole = measure(volume, tiny, organ_table)
    part = measure(volume, tiny, organ_table, in_part={organ})
    assert whole.organs[organ].complete
    assert not part.organs[organ].complete
    warned = [{one.code for one in found.anatomy if one.organ == organ} for found in (whole, part)]
    assert warned == [{"ANATOMY_VOLUME"}, set()]


def test_the_page_of_the_report_has_a_part_on_quality_control(tmp_path: Path) -> None:
    write_patients(tmp_path / "patients")
    smoke = load_experiment(training_config("experiments/smoke.toml"))
    database = smoke.databases[0].model_copy(update={"folder": tmp_path / "patients"})
    work = Workspace(experiment=smoke.model_copy(update={"databases": (database,)}), root=tmp_path / "work")
    ingest(work)
    lock(work)
    write_json(
        work.quality_folder / FINDINGS, {"a": [{"level": "warning", "code": "HU_OUTLIER"}], "b": [], "c": []}
    )
    page = _page(work, {"scans": 0}, [], [])
    assert "<h2>Quality control</h2>" in page
    assert "checked 3 scans; 2 have neither" in page
    assert "HU_OUTLIER: 1 findings." in page


def test_a_folder_without_scans_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["qc", "--out", str(tmp_path)])
    assert isinstance(result.exception, NoScans)
    assert [*tmp_path.iterdir()] == []


def change_masks(case: StoredCase, change: Callable[[Mask], Mask]) -> None:
    """Another contour of the mandible."""
    volume, masks = read_case(case)
    write_image(
        case.folder / "masks" / "mandible.nii.gz",
        change(masks["mandible"].copy()).astype(np.uint8),
        volume.grid,
    )


def swap(case: StoredCase) -> None:
    """Names of two organs exchanged."""
    masks = case.folder / "masks"
    (masks / "mandible.nii.gz").rename(masks / "x.nii.gz")
    (masks / "larynx.nii.gz").rename(masks / "mandible.nii.gz")
    (masks / "x.nii.gz").rename(masks / "larynx.nii.gz")


def qc(root: Path) -> tuple[str, Path]:
    """The command line's page, and its folder."""
    out = root / "work"
    result = CliRunner().invoke(app, ["qc", "--out", str(out), "--who", "A. Physicist"])
    assert result.exit_code == 0, result.output
    return (out / "qc" / "index.html").read_text(encoding="utf-8"), out / "qc"


def test_findings_of_the_contours_are_shown_with_those_of_the_checks(
    store: CaseStore, tmp_path: Path, organ_table: OrganTable
) -> None:
    note = store.ingested_case("synthetic__SYN_001").folder / "case.json"
    finding = {"level": "warning", "code": "ROI_LEFT_OUT", "message": "larynx: open.", "organ": "larynx"}
    write_json(note, read_json(note) | {"findings": [finding]})
    reviews = review_scans(store, tmp_path / "out", organ_table)
    (found,) = [one for one in reviews if "ROI_LEFT_OUT" in [finding.code for finding in one.findings]]
    assert found.key == "synthetic__SYN_001"


class _FailingTable:
    """An organ table with a fault that nobody expected."""

    def __init__(self, table: OrganTable) -> None:
        self._table = table
        self.left = 1

    def __getitem__(self, key: str) -> Organ:
        if self.left:
            self.left -= 1
            raise RecursionError("Mr. Smith")
        return self._table[key]


def test_whatever_fails_with_one_scan_the_others_are_reviewed(
    store: CaseStore, tmp_path: Path, organ_table: OrganTable
) -> None:
    table: Any = _FailingTable(organ_table)
    first, *others = review_scans(store, tmp_path / "out", table)
    assert [finding.code for finding in first.findings] == ["SCAN_UNREADABLE"]
    assert "Smith" not in first.findings[0].message
    assert len(others) == 2
    assert all(one.picture is not None for one in others)
