"""One series that holds more than one volume, or more than a volume."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage

from orgseg_node.core.checks import Level
from orgseg_node.dicom.reading.reader import read_slices
from orgseg_node.dicom.reading.series import CtSeries, Reason, files_in, read_series, survey
from orgseg_node.dicom.reading.stacking import MISSING_SLICES
from orgseg_node.errors import (
    DuplicateSlices,
    MixedGeometry,
    NoSeries,
    NotAxial,
    OrgsegError,
    SeveralParts,
    SeveralSeries,
    UndecodablePixels,
)
from tests.support.ct.phantom import CORONAL, PhantomOptions, build_ct_series, uid

SERIES = uid("study", "series")


def small(**settings: object) -> PhantomOptions:
    """A series of a few kilobytes whose slices all differ."""
    given = {
        "slices": 6,
        "rows": 16,
        "columns": 16,
        "pixel_spacing_mm": (16.0, 16.0),
        "noise_hu": 5.0,
    } | settings
    return PhantomOptions(**given)  # type: ignore[arg-type]  # the test's own keywords


def write(folder: Path, name: str, values: dict[str, object] | None = None, **settings: object) -> None:
    """A series of its own pixels and instances, under the one Series Instance UID of these tests."""
    seed = int.from_bytes(name.encode(), "big") % 1000
    attributes = {"SeriesInstanceUID": SERIES} | (values or {})
    build_ct_series(folder / name, small(series=name, seed=seed, attributes=attributes, **settings))


def every_other(change: Callable[[Dataset], None]) -> Callable[[int, Dataset], None]:
    """Change slices 1, 3, 5 and so on."""

    def changed(k: int, dataset: Dataset) -> None:
        if k % 2:
            change(dataset)

    return changed


def setting(**values: object) -> Callable[[Dataset], None]:
    """Set attributes; None deletes."""

    def change(dataset: Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    return change


def codes(series: CtSeries) -> list[str]:
    return [finding.code for finding in series.findings]


# images set aside between the slices


@pytest.mark.parametrize(
    "change",
    [
        setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        setting(SOPClassUID=MRImageStorage),
        setting(SOPClassUID=SecondaryCaptureImageStorage),
    ],
    ids=["localizer", "MR", "capture"],
)
def test_half_of_the_images_set_aside_is_a_series_with_missing_slices(
    tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    build_ct_series(tmp_path, small(slices=8), every_other(change))

    inventory = survey(files_in(tmp_path))

    (series,) = inventory.accepted
    assert len(series.slices) == 4
    assert codes(series).count(MISSING_SLICES) == 1
    (found,) = (one for one in series.findings if one.code == MISSING_SLICES)
    assert found.value == 4  # three in the gaps, one beyond the last slice


def test_images_set_aside_that_go_on_beyond_the_end_are_missing(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k >= 5:
            dataset.SOPClassUID = MRImageStorage

    build_ct_series(tmp_path, small(slices=10), change)

    (series,) = survey(files_in(tmp_path)).accepted

    assert codes(series).count(MISSING_SLICES) == 1


def test_one_image_set_aside_between_slices_is_a_warning(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 4:
            dataset.SOPClassUID = MRImageStorage
            dataset.ImagePositionPatient[2] += 1.0

    build_ct_series(tmp_path, small(slices=9), change)

    (series,) = survey(files_in(tmp_path)).accepted

    assert codes(series).count("SERIES_IMAGES_LEFT_ASIDE") == 1


@pytest.mark.parametrize(("rows", "warned"), [(30, False), (80, True)])
def test_slices_that_cover_little_of_their_localizer_say_so(
    tmp_path: Path, rows: int, *, warned: bool
) -> None:
    write(tmp_path, "ct", slices=12)
    localizer = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    options = {"orientation": CORONAL, "slices": 1, "rows": rows, "pixel_spacing_mm": (2.0, 16.0)}
    write(tmp_path, "localizer", localizer, **options)
    (series,) = survey(files_in(tmp_path)).accepted
    assert codes(series) == ["SERIES_SHORTER_THAN_LOCALIZER"] * warned


def test_a_localizer_across_the_slices_is_no_finding(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 8:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            dataset.ImageOrientationPatient = list(CORONAL)
            dataset.ImagePositionPatient[2] -= 20.0

    build_ct_series(tmp_path, small(slices=9), change)

    (series,) = survey(files_in(tmp_path)).accepted

    assert "SERIES_IMAGES_LEFT_ASIDE" not in codes(series)
    assert MISSING_SLICES not in codes(series)


# the same slice twice


def test_a_copied_file_counts_once(ct_folder: Path) -> None:
    shutil.copy(ct_folder / "slice_003.dcm", ct_folder / "copy.dcm")
    series = read_series(ct_folder)
    assert (len(series.slices), series.findings) == (24, ())
    assert survey(files_in(ct_folder)).set_aside == {Reason.COPY: 1}


def test_slices_sent_again_under_new_uids_count_once_and_are_reported(tmp_path: Path) -> None:
    build_ct_series(tmp_path / "a", small())

    def rename(k: int, dataset: Dataset) -> bool:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{k}"
        return k in {1, 4}

    build_ct_series(tmp_path / "b", small(transfer_syntax="1.2.840.10008.1.2.5"), rename)
    series = read_series(tmp_path)
    (finding,) = series.findings
    assert (finding.code, finding.level, finding.value) == ("SERIES_DUPLICATE_SLICES", Level.INFO, 2.0)
    assert len(series.slices) == 6
    assert series.is_regular
    assert survey(files_in(tmp_path)).set_aside == {Reason.COPY: 2}


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("RescaleIntercept", "-1000"), ("RescaleSlope", "2"), ("PixelPaddingValue", 1000)],
)
def test_the_same_pixels_of_another_meaning_are_not_the_same(
    tmp_path: Path, keyword: str, value: object
) -> None:
    build_ct_series(tmp_path / "a", small())

    def change(k: int, dataset: Dataset) -> bool:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{k}"
        if keyword == "PixelPaddingValue":
            dataset.add_new(keyword, "US", value)
        else:
            setattr(dataset, keyword, value)
        return k == 2

    build_ct_series(tmp_path / "b", small(), change)
    with pytest.raises(DuplicateSlices, match="1 of 7"):
        read_series(tmp_path)


def test_one_uid_with_two_images_is_refused(tmp_path: Path) -> None:
    build_ct_series(tmp_path / "a", small())
    build_ct_series(tmp_path / "b", small(seed=1), lambda k, _: k == 3)
    with pytest.raises(DuplicateSlices, match="same SOP Instance UID"):
        read_series(tmp_path)


def test_slices_at_one_place_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b", transfer_syntax="1.2.840.10008.1.2.5")
    path = tmp_path / "b" / "slice_002.dcm"
    content = path.read_bytes()
    start = content.rindex(b"\xfe\xff\x00\xe0") + 8
    path.write_bytes(content[:start] + b"\xa5" * 64 + content[start + 64 :])
    with pytest.raises(UndecodablePixels):
        read_series(tmp_path)


# phases


@pytest.mark.parametrize(
    ("keyword", "values", "names"),
    [
        ("TemporalPositionIdentifier", [0, 10, 2], ["0", "2", "10"]),
        ("AcquisitionNumber", [7, 3], ["3", "7"]),
        ("AcquisitionTime", ["101617.5", "101616"], ["1 of 2", "2 of 2"]),
        ("ContentTime", ["101617", "101616"], ["1 of 2", "2 of 2"]),
        ("ConvolutionKernel", ["Doe", "B30"], ["1 of 2", "2 of 2"]),
        (
            "ImageType",
            [["ORIGINAL", "PRIMARY", "AXIAL", "A"], ["ORIGINAL", "PRIMARY", "AXIAL"]],
            ["1 of 2", "2"],
        ),
    ],
)
def test_phases_are_parts_and_one_must_be_chosen(
    tmp_path: Path, keyword: str, values: list[object], names: list[str]
) -> None:
    for n, value in enumerate(values):
        write(tmp_path, f"p{n}", {keyword: value})
    with pytest.raises(SeveralParts) as caught:
        read_series(tmp_path)
    parts = survey(files_in(tmp_path)).accepted
    assert len(parts) == len(values)
    assert all(name in part.part for name, part in zip(names, parts, strict=True))
    assert all(part.part in caught.value.sentence for part in parts)
    assert "Doe" not in caught.value.sentence
    first = min(range(len(values)), key=lambda n: (str(values[n]).zfill(9), n))
    chosen = read_series(tmp_path, SERIES, parts[0].part.upper())
    assert {one.path.parent.name for one in chosen.slices} == {f"p{first}"} or keyword == "ImageType"
    assert len({one.path.parent for one in chosen.slices}) == 1
    assert read_series(tmp_path, part="2").part == parts[1].part
    assert len({part.content_sha256 for part in parts}) == len(values)


@pytest.mark.parametrize("part", ["phase 9", "0", "4", "-1"])
def test_a_part_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, part: str) -> None:
    write(tmp_path, "a", {"AcquisitionNumber": 1})
    write(tmp_path, "b", {"AcquisitionNumber": 2})
    with pytest.raises(NoSeries, match="acquisition 1; acquisition 2"):
        read_series(tmp_path, part=part)


def test_a_part_needs_its_series_where_there_are_several(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path, name, {"AcquisitionNumber": 1 + (name == "b")})
        write(
            tmp_path, f"other {name}", {"AcquisitionNumber": 1 + (name == "b"), "SeriesInstanceUID": "1.2.3"}
        )
    with pytest.raises(SeveralSeries, match="There are 2"):
        read_series(tmp_path)
    with pytest.raises(SeveralSeries):
        read_series(tmp_path, part="acquisition 2")
    assert read_series(tmp_path, "1.2.3", "acquisition 2").slices[0].path.parent.name == "other b"


def test_two_attributes_together_may_separate_phases(tmp_path: Path) -> None:
    for n, (number, kernel) in enumerate([(1, "A"), (1, "B"), (2, "A"), (2, "B")]):
        write(tmp_path, f"p{n}", {"AcquisitionNumber": number, "ConvolutionKernel": kernel})
    parts = survey(files_in(tmp_path)).accepted
    assert [len({s.path.parent for s in part.slices}) for part in parts] == [1, 1, 1, 1]
    assert parts[0].part == "acquisition and kernel 1 of 4"


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "SeriesDescription", "ImageComments"])
@pytest.mark.parametrize("heights", [[0, 3, 6, 9], [0, 3, 6, 9, 12, 16], [9, 12, 15, 18, 21, 24, 27, 30]])
def test_phases_of_unequal_length_and_passes_that_overlap_are_parts_with_a_warning(
    tmp_path: Path, heights: list[float], keyword: str
) -> None:
    write(tmp_path, "a", {keyword: "1"}, positions_mm=[0, 3, 6, 9, 12, 15])
    write(tmp_path, "b", {keyword: "2"}, positions_mm=heights, slices=len(heights))
    parts = survey(files_in(tmp_path)).accepted
    assert sorted(len(part.slices) for part in parts) == sorted([6, len(heights)])
    assert all(len({one.path.parent for one in part.slices}) == 1 for part in parts)
    assert all("SERIES_PARTS_DIFFER" in codes(part) for part in parts)


@pytest.mark.parametrize("heights", [[0, 3, 9, 12, 15], [0, 3]])
def test_a_phase_that_lacks_a_slice_inside_or_is_no_volume_is_refused(
    tmp_path: Path, heights: list[float]
) -> None:
    write(tmp_path, "a", {"AcquisitionNumber": 1}, positions_mm=[0, 3, 6, 9, 12, 15])
    write(tmp_path, "b", {"AcquisitionNumber": 2}, positions_mm=heights, slices=len(heights))
    with pytest.raises(DuplicateSlices):
        read_series(tmp_path)


def test_phases_are_told_apart_by_a_percentage_in_their_description(tmp_path: Path) -> None:
    for percent in (0, 50, 90):
        write(tmp_path, f"p{percent}", {"SeriesDescription": f"Doe CT Gated {percent}.0%"})
    names = [part.part for part in survey(files_in(tmp_path)).accepted]
    assert names == ["description 0 %", "description 50 %", "description 90 %"]


def test_one_slice_that_does_not_tell_its_phase_refuses_the_series(tmp_path: Path) -> None:
    write(tmp_path, "a", {"TemporalPositionIdentifier": 1})
    write(tmp_path, "b", {"TemporalPositionIdentifier": 2})

    def forget(k: int, dataset: Dataset) -> bool:
        del dataset.TemporalPositionIdentifier
        return k == 2

    options = small(
        series="b", seed=98, attributes={"SeriesInstanceUID": SERIES, "TemporalPositionIdentifier": 2}
    )
    build_ct_series(tmp_path / "b", options, forget)
    with pytest.raises(DuplicateSlices):
        read_series(tmp_path)


def test_phases_between_each_other_are_not_taken_for_one_fine_volume(tmp_path: Path) -> None:
    write(tmp_path, "a", {"TemporalPositionIdentifier": 1}, positions_mm=[0, 3, 6, 9, 12, 15])
    write(tmp_path, "b", {"TemporalPositionIdentifier": 2}, positions_mm=[1.5, 4.5, 7.5, 10.5, 13.5, 16.5])
    with pytest.raises(SeveralParts, match="temporal position 1; temporal position 2"):
        read_series(tmp_path)


def test_acquisitions_half_a_slice_apart_are_parts(tmp_path: Path) -> None:
    write(tmp_path, "a", {"AcquisitionNumber": 1}, positions_mm=[0, 3, 6, 9, 12, 15])
    write(tmp_path, "b", {"AcquisitionNumber": 2}, positions_mm=[1.5, 4.5, 7.5, 10.5, 13.5, 16.5])
    with pytest.raises(SeveralParts, match="acquisition 1; acquisition 2"):
        read_series(tmp_path)


def test_steps_of_a_scanner_that_reach_into_each_other_by_a_slice_are_one_volume(tmp_path: Path) -> None:
    write(tmp_path, "a", {"AcquisitionNumber": 1}, positions_mm=[0, 3, 6, 9, 12, 18])
    write(tmp_path, "b", {"AcquisitionNumber": 2}, positions_mm=[15, 21, 24, 27, 30, 33])
    assert len(read_series(tmp_path).slices) == 12


def test_phases_that_show_the_same_where_nothing_moves_are_complete(tmp_path: Path) -> None:
    for n in (1, 2):
        name, values = str(n), {"SeriesInstanceUID": SERIES, "TemporalPositionIdentifier": n}

        def still(k: int, dataset: Dataset) -> None:
            if k < 4:
                dataset.PixelData = np.full(256, 24 + k, np.uint16).tobytes()

        build_ct_series(tmp_path / name, small(series=name, seed=n, attributes=values), still)
    parts = survey(files_in(tmp_path)).accepted
    assert [(part.part, len(part.slices)) for part in parts] == [
        ("temporal position 1", 6),
        ("temporal position 2", 6),
    ]


def test_a_series_sent_again_at_another_time_is_a_copy_not_a_phase(tmp_path: Path) -> None:
    for name, time in (("a", "101700"), ("b", "111700")):
        values = {"SeriesInstanceUID": SERIES, "ContentTime": time}
        build_ct_series(tmp_path / name, small(series=name, seed=5, attributes=values))
    series = read_series(tmp_path)
    assert (len(series.slices), series.part) == (6, "")
    assert codes(series) == ["SERIES_DUPLICATE_SLICES"]


def test_acquisitions_that_follow_each_other_are_one_volume(tmp_path: Path) -> None:
    write(tmp_path, "a", {"AcquisitionNumber": 1}, positions_mm=[0, 3, 6, 9, 12, 15])
    write(tmp_path, "b", {"AcquisitionNumber": 2}, positions_mm=[18, 21, 24, 27, 30, 33])
    assert len(read_series(tmp_path).slices) == 12


# other geometry under one series


Make = Callable[[Path], None]


@pytest.mark.parametrize(
    ("settings", "values", "kind"),
    [
        ({"orientation": CORONAL, "slices": 1}, {}, "orientation"),
        ({"orientation": CORONAL, "slices": 8}, {}, "orientation"),
        ({"rows": 20, "slices": 1, "positions_mm": [7.5]}, {}, "size"),
        ({"slices": 2, "positions_mm": [1.5, 4.5]}, {"FrameOfReferenceUID": "1.2"}, "frame of reference"),
    ],
)
def test_images_that_are_no_part_of_the_volume_are_left_out_and_reported(
    tmp_path: Path, settings: dict[str, object], values: dict[str, object], kind: str
) -> None:
    write(tmp_path, "main")
    write(tmp_path, "stray", values, **settings)
    series = read_series(tmp_path)
    assert {one.path.parent.name for one in series.slices} == {"main"}
    (finding,) = series.findings
    assert (finding.code, finding.level) == ("SERIES_IMAGES_LEFT_ASIDE", Level.WARNING)
    assert f"{settings['slices']} of another {kind}" in finding.message
    assert survey(files_in(tmp_path)).set_aside == {Reason.OTHER_GEOMETRY: settings["slices"]}


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({}, {"FrameOfReferenceUID": "1.2.3"}),
        ({"rows": 24, "columns": 24, "pixel_spacing_mm": (8.0, 8.0)}, {}),
        ({"pixel_spacing_mm": (15.0, 15.0), "slices": 5}, {}),
    ],
)
def test_several_axial_volumes_are_parts(
    tmp_path: Path, settings: dict[str, object], values: dict[str, object]
) -> None:
    write(tmp_path, "main")
    write(tmp_path, "other", values, **settings)
    with pytest.raises(SeveralParts, match=r"1 of 2.*; 2 of 2"):
        read_series(tmp_path)
    for part in survey(files_in(tmp_path)).accepted:
        assert len({one.path.parent for one in part.slices}) == 1
        assert read_slices(part).shape == part.stack.shape
        assert part.frame_of_reference_uid in {"1.2.3", uid("study", "frame")}


def test_single_images_that_share_nothing_are_refused(tmp_path: Path) -> None:
    for n in range(4):
        write(tmp_path, f"p{n}", rows=16 + n, slices=1)
    with pytest.raises(OrgsegError) as caught:
        read_series(tmp_path)
    assert caught.value.code == "INPUT_TOO_FEW_SLICES"


def test_a_coronal_volume_with_two_axial_images_is_not_axial(tmp_path: Path) -> None:
    write(tmp_path, "main", orientation=CORONAL)
    write(tmp_path, "stray", slices=2)
    with pytest.raises(NotAxial):
        read_series(tmp_path)


def test_a_slice_of_another_frame_of_reference_in_a_gap_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "main", positions_mm=[0, 3, 6, 12, 15, 18])
    write(tmp_path, "stray", {"FrameOfReferenceUID": "1.2"}, slices=1, positions_mm=[9])
    with pytest.raises(MixedGeometry, match="frame of reference"):
        read_series(tmp_path)


def test_findings_of_how_slices_lie_belong_to_their_part(tmp_path: Path) -> None:
    write(tmp_path, "main", positions_mm=[0, 3, 6, 12, 15, 18])
    write(tmp_path, "other", {"FrameOfReferenceUID": "1.2.3"})
    found = {part.slices[0].path.parent.name: codes(part) for part in survey(files_in(tmp_path)).accepted}
    assert found == {"main": ["SERIES_MISSING_SLICES"], "other": []}


def test_the_hu_of_each_phase_are_its_own(tmp_path: Path) -> None:
    write(tmp_path, "a", {"AcquisitionNumber": 1})
    write(tmp_path, "b", {"AcquisitionNumber": 2})
    for n, name in enumerate("ab", start=1):
        alone = read_slices(read_series(tmp_path / name))
        assert np.array_equal(read_slices(read_series(tmp_path, part=f"acquisition {n}")), alone)


# halves of one volume


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"PixelSpacing": ["16.002", "16.002"]}, "pixel spacing"),
        ({"PatientPosition": None}, "patient position"),
        ({"ImageOrientationPatient": ["1", "0.0004", "0", "-0.0004", "1", "0"]}, "orientation"),
    ],
)
@pytest.mark.parametrize("every", [2, 3])
def test_slices_whose_headers_differ_by_rounding_are_one_volume(
    tmp_path: Path, values: dict[str, object], name: str, every: int
) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k % every:
            setting(**values)(dataset)

    build_ct_series(tmp_path, small(slices=12), change)
    series = read_series(tmp_path)
    assert (len(series.slices), series.is_regular, series.patient_position) == (12, True, "HFS")
    (finding,) = series.findings
    assert (finding.code, finding.level) == ("SERIES_HEADERS_ROUNDED", Level.WARNING)
    assert name in finding.message


def test_the_pixel_spacing_of_most_slices_counts_and_then_the_more_exact_one(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(slices=12), every_other(setting(PixelSpacing=["16.002", "16.002"])))
    assert read_series(tmp_path).pixel_spacing_mm == (16.002, 16.002)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"FrameOfReferenceUID": "1.2.3"}, "frame of reference"),
        ({"PixelSpacing": ["15.5", "15.5"]}, "pixel spacing"),
        ({"PatientPosition": "FFS"}, "patient position"),
        ({"ImageOrientationPatient": ["1", "0.002", "0", "-0.002", "1", "0"]}, "orientation"),
        ({"Rows": 8}, "size"),
    ],
)
def test_slices_that_alternate_in_more_than_rounding_refuse_the_series(
    tmp_path: Path, values: dict[str, object], name: str
) -> None:
    build_ct_series(tmp_path, small(slices=12), every_other(setting(**values)))
    with pytest.raises(MixedGeometry, match=f"alternate along the series differ in {name}"):
        read_series(tmp_path)


def test_a_frame_of_reference_for_each_slice_is_named(tmp_path: Path) -> None:
    build_ct_series(tmp_path, small(), lambda k, one: setattr(one, "FrameOfReferenceUID", f"1.2.{k + 1}"))
    with pytest.raises(MixedGeometry, match="differ in frame of reference"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({"AcquisitionNumber": 2}, True),
        ({"TemporalPositionIdentifier": 2}, True),
        ({"SeriesDescription": "b"}, True),
        ({"AcquisitionTime": "111111"}, True),
        ({"ConvolutionKernel": "B70f"}, True),
        ({"KVP": "80"}, True),
        ({"ContentDate": "20200102"}, False),
    ],
)
def test_acquisitions_that_leave_gaps_alone_are_one_volume(
    tmp_path: Path, values: dict[str, object], *, warned: bool
) -> None:
    others = {"AcquisitionNumber": 1, "TemporalPositionIdentifier": 1, "SeriesDescription": "a"}
    attributes = others | {
        "AcquisitionTime": "101010",
        "ConvolutionKernel": "B30f",
        "ContentDate": "20200101",
    }
    build_ct_series(tmp_path, small(slices=12, attributes=attributes), every_other(setting(**values)))
    series = read_series(tmp_path)
    assert (len(series.slices), series.is_regular) == (12, True)
    assert codes(series) == (["SERIES_ACQUISITIONS_JOINED"] if warned else [])


def test_an_uneven_tube_voltage_divides_no_series(tmp_path: Path) -> None:
    def change(k: int, dataset: Dataset) -> None:
        dataset.KVP = "80" if k in {0, 2, 3, 4, 7, 8, 9, 10} else "120"

    build_ct_series(tmp_path, small(slices=12), change)
    assert len(read_series(tmp_path).slices) == 12


def test_acquisitions_in_each_others_gaps_are_parts_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "a", {"AcquisitionNumber": 1}, positions_mm=[0, 3, 6, 9, 12, 15])
    write(tmp_path, "b", {"AcquisitionNumber": 2}, positions_mm=[1.5, 4.5, 7.5, 10.5, 13.5, 16.5])
    parts = survey(files_in(tmp_path)).accepted
    assert [codes(part) for part in parts] == [["SERIES_PARTS_ALTERNATE"]] * 2


def test_a_volume_that_another_one_continues_says_so(tmp_path: Path) -> None:
    write(tmp_path, "a", positions_mm=[0, 3, 6, 9, 12, 15])
    write(tmp_path, "b", {"FrameOfReferenceUID": "1.2"}, positions_mm=[18, 21, 24, 27, 30, 33])
    parts = survey(files_in(tmp_path)).accepted
    assert [codes(part) for part in parts] == [["SERIES_PART_CONTINUES"]] * 2
