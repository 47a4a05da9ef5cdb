"""The verdict on a stable series."""

from __future__ import annotations

from pathlib import Path

from orgseg_node.dicom.reading.series import files_in, survey
from orgseg_node.node.routing.verdict import Verdict, judge_images
from orgseg_node.node.store.model import SeriesState
from tests.support.ct.phantom import PhantomOptions, build_ct_series, uid


def small(**settings: object) -> PhantomOptions:
    """A series of a few kilobytes."""
    given = {"slices": 6, "rows": 16, "columns": 16, "pixel_spacing_mm": (16.0, 16.0)} | settings
    return PhantomOptions(**given)  # type: ignore[arg-type]  # the test's own keywords


def verdict(folder: Path) -> Verdict:
    return judge_images(survey(files_in(folder)))


def test_a_clean_series_is_ready(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small())
    found = verdict(tmp_path)
    assert (found.state, found.slices, len(found.content_sha256)) == (SeriesState.READY, 6, 64)


def test_a_tilted_series_of_changing_distances_is_ready(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(positions_mm=[0, 2, 4, 7, 10, 13], shear=0.2))
    assert verdict(tmp_path).state is SeriesState.READY


def test_a_series_with_a_missing_slice_is_held_since_it_may_still_arrive(tmp_path: Path) -> None:
    paths = build_ct_series(tmp_path, small())
    late = paths[2].read_bytes()
    paths[2].unlink()
    found = verdict(tmp_path)
    assert (found.state, found.reason) == (SeriesState.HOLD, "INPUT_MISSING_SLICES")
    assert "1" in found.note
    assert not found.content_sha256
    paths[2].write_bytes(late)
    assert verdict(tmp_path).state is SeriesState.READY


def test_phases_are_held_and_named(tmp_path: Path) -> None:
    for n in (1, 2):
        attributes = {"SeriesInstanceUID": uid("study", "series"), "AcquisitionNumber": n}
        options = small(series=str(n), attributes=attributes, noise_hu=5.0, seed=n)
        build_ct_series(tmp_path / str(n), options)
    found = verdict(tmp_path)
    assert (found.state, found.reason) == (SeriesState.HOLD, "INPUT_SEVERAL_PARTS")
    assert "acquisition 1; acquisition 2" in found.note


def test_a_refused_series_is_held_with_its_reason(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(slices=2))
    found = verdict(tmp_path)
    assert (found.state, found.reason) == (SeriesState.HOLD, "INPUT_TOO_FEW_SLICES")


def test_a_localizer_is_ignored(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(attributes={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}))
    assert verdict(tmp_path).state is SeriesState.IGNORED
