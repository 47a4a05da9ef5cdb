"""What is shown of a case comes from the delivered bytes, and from nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from orgseg_node.core.volume import LabelMap
from orgseg_node.dicom.reading.reader import read_slices
from orgseg_node.dicom.reading.series import CtSeries, read_series
from orgseg_node.node.store.model import Job
from orgseg_node.node.users.roles import Role
from tests.support.web.contoured import contour_case, label_map_of
from tests.support.web.pages_bench import PagesBench
from tests.support.web.returned import MOVED_MM, return_contours


@pytest.fixture
def bench(tmp_path: Path) -> PagesBench:
    return PagesBench(tmp_path)


def test_the_viewer_gets_the_polygons_of_the_delivered_file(bench: PagesBench, ct: Path) -> None:
    job = contour_case(bench.store, bench.jobs.data, ct)
    browser = bench.logged_in(Role.VIEWER)
    shown = browser.get(f"/cases/{job.job_id}/contours").json()
    points = np.frombuffer(browser.get(f"/cases/{job.job_id}/points").content, dtype="<f4").reshape(-1, 2)
    (written,) = bench.store.attempts.objects(job.job_id)
    dataset = pydicom.dcmread(bench.jobs.data / written.path)
    images = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, sorted(ct.iterdir()))}
    places = {str(uid): k for k, uid in enumerate(sorted(images, key=lambda uid: _height(images[uid])))}
    start, organs = 0, {one["number"]: one for one in shown["organs"]}
    for roi in dataset.ROIContourSequence:
        organ = organs[int(roi.ReferencedROINumber)]
        assert organ["color"] == [int(value) for value in roi.ROIDisplayColor]
        contours = roi.get("ContourSequence") or []
        assert organ["counts"] == [int(one.NumberOfContourPoints) for one in contours]
        for contour, k, count in zip(contours, organ["slices"], organ["counts"], strict=True):
            uid = str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
            assert places[uid] == k
            expected = _pixels(images[uid], np.reshape(contour.ContourData, (-1, 3)).astype(float))
            assert np.abs(points[start : start + count] - expected).max() < 1e-3
            start += count
    assert start == len(points) > 100
    assert shown["sha256"] == written.sha256


def _height(image: Dataset) -> float:
    row, column = np.reshape(image.ImageOrientationPatient, (2, 3)).astype(float)
    return float(np.cross(row, column) @ np.asarray(image.ImagePositionPatient, dtype=float))


def _pixels(image: Dataset, points_mm: np.ndarray) -> np.ndarray:
    """Points in LPS mm as (column, row), by PS3.3 C.7.6.2.1.1."""
    row, column = np.reshape(image.ImageOrientationPatient, (2, 3)).astype(float)
    offsets = points_mm - np.asarray(image.ImagePositionPatient, dtype=float)
    between_rows, between_columns = (float(value) for value in image.PixelSpacing)
    return np.stack([offsets @ row / between_columns, offsets @ column / between_rows], axis=1)


def test_a_slice_is_sent_in_hounsfield_units(bench: PagesBench, ct: Path) -> None:
    job = contour_case(bench.store, bench.jobs.data, ct)
    browser = bench.logged_in(Role.VIEWER)
    expected = read_slices(read_series(ct))
    for k in (0, 11, 23):
        plane = np.frombuffer(browser.get(f"/cases/{job.job_id}/slices/{k}").content, dtype="<i2")
        assert np.array_equal(plane.reshape(expected.shape[1:]), expected[k])
    assert browser.get(f"/cases/{job.job_id}/slices/24").status_code == 404
    block = np.frombuffer(browser.get(f"/cases/{job.job_id}/slices/5/9").content, dtype="<i2")
    assert np.array_equal(block.reshape(9, *expected.shape[1:]), expected[5:14])
    for wrong in ("16/9", "0/0", "0/17", "24/1"):
        assert browser.get(f"/cases/{job.job_id}/slices/{wrong}").status_code == 404


def test_the_table_of_slices_says_what_the_headers_say(bench: PagesBench, ct: Path) -> None:
    with_table = contour_case(bench.store, bench.jobs.data, ct, labels_of=_in_the_middle)
    browser = bench.logged_in(Role.VIEWER)
    path = f"/cases/{with_table.job_id}/contours"
    recorded = browser.get(path).json()
    assert recorded["slices"] == 24 > len({k for one in recorded["organs"] for k in one["slices"]})
    table = bench.jobs.data / "jobs" / with_table.job_id / "slices.json"
    for damaged in (
        None,
        "",
        "[]",
        "{}",
        table.read_text()[:-9],
        table.read_text().replace('"format": 1', '"format": 2'),
    ):
        table.unlink(missing_ok=True)
        if damaged is not None:
            table.write_text(damaged)
        bench.new_pages()
        browser = bench.logged_in(Role.VIEWER)
        assert browser.get(path).json() == recorded, damaged


def test_a_file_that_was_changed_is_not_drawn(bench: PagesBench, ct: Path) -> None:
    job = contour_case(bench.store, bench.jobs.data, ct)
    (written,) = bench.store.attempts.objects(job.job_id)
    path = bench.jobs.data / written.path
    path.write_bytes(path.read_bytes() + b"\0")
    browser = bench.logged_in(Role.VIEWER)
    assert "not the one that was proven" in browser.get(f"/cases/{job.job_id}/contours").text
    page = browser.get(f"/cases/{job.job_id}")
    assert page.status_code == 200
    assert 'id="viewer"' not in page.text
    assert "not the one that was proven" in page.text


def test_the_page_lists_organs_with_their_flags_and_findings_with_their_slices(
    bench: PagesBench, ct: Path
) -> None:
    job = contour_case(bench.store, bench.jobs.data, ct)
    text = bench.logged_in(Role.VIEWER).get(f"/cases/{job.job_id}").text
    assert "unusual: look at it" in text
    assert text.count("data-organ=") == 3
    assert "It has far pieces." in text
    assert "data-jump=" in text
    assert "Table of 24 slices" in text


def test_an_object_is_downloaded_as_it_was_written(bench: PagesBench, ct: Path) -> None:
    job = contour_case(bench.store, bench.jobs.data, ct)
    (written,) = bench.store.attempts.objects(job.job_id)
    answer = bench.logged_in(Role.VIEWER).get(f"/cases/{job.job_id}/objects/RTSTRUCT")
    assert answer.content == (bench.jobs.data / written.path).read_bytes()
    assert answer.headers["content-disposition"] == f'attachment; filename="RTSTRUCT-{job.job_id}.dcm"'
    assert bench.events_of("anna")[-1] == f"saw: RTSTRUCT of job {job.job_id}, downloaded"


def test_without_files_the_page_says_so_and_shows_the_rest(bench: PagesBench) -> None:
    job = bench.in_review()
    page = bench.logged_in(Role.VIEWER).get(f"/cases/{job.job_id}")
    assert page.status_code == 200
    assert "There is no picture of this case." in page.text
    assert "A person has to look at it." in page.text


def _in_the_middle(series: CtSeries) -> LabelMap:
    """Organs that leave the first and the last slices without contours."""
    found = label_map_of(series)
    labels = found.labels.copy()
    labels[:4] = labels[-4:] = 0
    return replace(found, labels=labels)


def test_what_came_back_is_a_second_line_with_the_slices_that_differ_most(
    bench: PagesBench, ct: Path
) -> None:
    job = contour_case(bench.store, bench.jobs.data, ct)
    browser = bench.logged_in(Role.VIEWER)
    shown = browser.get(f"/cases/{job.job_id}/contours").json()
    number, moved = return_contours(bench, job, organ=_key(bench, job, shown["organs"][0]["name"]))
    address = f"/cases/{job.job_id}/second/{number}"
    (second,) = browser.get(address).json()["organs"]
    first = shown["organs"][0]
    assert (second["roi"], second["drawn"]) == (first["name"], 0)
    assert (second["slices"], second["counts"]) == (first["slices"], first["counts"])
    before, after = (
        np.frombuffer(browser.get(path).content, dtype="<f4").reshape(-1, 2)[: sum(first["counts"])]
        for path in (f"/cases/{job.job_id}/points", f"{address}/points")
    )
    uids = [one.sop_instance_uid for one in read_series(ct).slices]
    of_moved = np.repeat([uids[k] in moved for k in first["slices"]], first["counts"])
    across = MOVED_MM / shown["spacing"][1]
    assert np.abs(after[of_moved] - before[of_moved] - (across, 0)).max() < 0.01
    assert np.abs(after[~of_moved] - before[~of_moved]).max() < 0.01
    areas = [area for _, area in second["worst"]]
    assert {uids[k] for k, _ in second["worst"]} <= moved
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > 50
    text = browser.get(f"/cases/{job.job_id}").text
    assert f'data-second="{number}"' in text
    assert browser.get(f"/cases/{job.job_id}/second/{number + 1}").status_code == 404


def test_what_was_not_measured_is_no_second_line(bench: PagesBench, ct: Path) -> None:
    job = contour_case(bench.store, bench.jobs.data, ct)
    number, _ = return_contours(bench, job, organ="mandible", state="RECEIVED")
    browser = bench.logged_in(Role.VIEWER)
    assert browser.get(f"/cases/{job.job_id}/second/{number}").status_code == 404
    assert "data-second=" not in browser.get(f"/cases/{job.job_id}").text


def _key(bench: PagesBench, job: Job, name: str) -> str:
    report = json.loads((bench.jobs.data / "jobs" / job.job_id / "out" / "report.json").read_text())
    return next(str(one["key"]) for one in report["organs"] if one["name"] == name)
