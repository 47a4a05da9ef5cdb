"""Public layouts are read as published, exchanged labels are detected, and the three states stay distinct."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.geometry import Grid
from orgseg_node.core.organs import PAIRS
from orgseg_node.errors import ConfigError, InputError, OrgsegError
from orgseg_training.datasets.case import OrganState, SourceCase
from orgseg_training.datasets.case_store import CaseStore
from orgseg_training.datasets.description import described_data_sets, load_data_set, read_description
from orgseg_training.datasets.registry import kinds, open_database
from orgseg_training.durable import read_json
from orgseg_training.errors import AnatomyContradicted
from orgseg_training.experiment.config import load_experiment
from orgseg_training.shipped import training_config
from tests.support.ct.body_of_boxes import GRID, label_image, organ_masks, write_ct, write_labels
from tests.support.peers.public_layouts import LABEL_MAPS, MASK_FILES, write_masks, write_meta, write_scan

WITHOUT_SIDES = {"lung_left": "lungs", "kidney_left": "kidneys", "vertebrae": "whole_bones"}
"""CT-ORG has these as one organ each; the body lends it one side."""


def only(kind: str, folder: Path, **options: object) -> SourceCase:
    """The one scan of a data set."""
    (case,) = open_database(kind, "db", folder, options)
    return case


def stored(kind: str, folder: Path, out: Path, **options: object) -> CaseStore:
    """An ingested data set."""
    store = CaseStore(out)
    store.ingest(open_database(kind, "db", folder, options))
    return store


def rejected(store: CaseStore) -> dict[str, str]:
    """Code of each rejected scan; nothing else and nothing incomplete may be in the store."""
    assert not list(store.root.rglob(".*"))
    return {key: why["code"] for key, why in read_json(store.root / "rejected.json").items()}


@pytest.mark.parametrize("kind", sorted(LABEL_MAPS))
def test_every_number_is_the_organ_of_the_paper(kind: str, tmp_path: Path) -> None:
    layout = LABEL_MAPS[kind]
    write_scan(tmp_path, layout)
    case = only(kind, tmp_path)
    assert (case.name, case.patient, case.key) == (layout.case, layout.case, f"db__{layout.case}")
    labels = label_image(layout.numbers, organ_masks())
    masks = case.read().masks
    for number, organ in layout.numbers.items():
        key = WITHOUT_SIDES.get(organ, organ) if kind == "ct-org" else organ
        if key in masks:
            assert np.array_equal(masks[key], labels == number), organ
        else:  # WORD's release with one number for both adrenal glands
            assert organ.startswith("adrenal_gland_"), organ
    for both, (left, right) in PAIRS.items():
        if left in layout.numbers.values() and right in layout.numbers.values():
            numbers = [number for number, organ in layout.numbers.items() if organ in {left, right}]
            assert np.array_equal(masks[both], np.isin(labels, numbers))
    assert set(masks) == case.annotated == load_data_set(kind).organs


SWAPS = [(kind, swap) for kind, layout in sorted(LABEL_MAPS.items()) for swap in layout.swaps]


@pytest.mark.parametrize(("kind", "swap"), SWAPS, ids=[f"{kind}:{a}-{b}" for kind, (a, b) in SWAPS])
def test_exchanged_labels_are_seen_and_listed(kind: str, swap: tuple[str, str], tmp_path: Path) -> None:
    masks = organ_masks()
    first, second = swap
    masks[first], masks[second] = masks[second], masks[first]
    write_scan(tmp_path / "data", LABEL_MAPS[kind], masks)
    store = stored(kind, tmp_path / "data", tmp_path / "store")
    assert set(rejected(store).values()) == {"TRAINING_ANATOMY"}
    assert store.cases() == ()


def test_an_organ_without_voxels_is_outside_and_one_without_number_was_not_drawn(tmp_path: Path) -> None:
    masks = organ_masks()
    masks["urinary_bladder"][:] = False
    write_scan(tmp_path / "data", LABEL_MAPS["amos22"], masks)
    (case,) = stored("amos22", tmp_path / "data", tmp_path / "store").cases()
    assert case.state("liver") is OrganState.DRAWN
    assert case.state("urinary_bladder") is OrganState.OUTSIDE
    assert case.state("heart") is OrganState.NOT_DRAWN


def test_magnetic_resonance_is_no_scan_of_amos_and_validation_is_held_back(tmp_path: Path) -> None:
    write_scan(tmp_path, LABEL_MAPS["amos22"])
    for case, part in (("0507", "Tr"), ("0008", "Va")):
        write_ct(tmp_path / f"images{part}" / f"amos_{case}.nii.gz")
        write_labels(tmp_path / f"labels{part}" / f"amos_{case}.nii.gz", np.zeros(GRID.shape, np.uint8))
    assert [(c.name, c.test) for c in open_database("amos22", "db", tmp_path, {})] == [
        ("0004", False),
        ("0008", True),
    ]


@pytest.mark.parametrize(
    ("number", "options", "test", "drawn"),
    [(20, {}, True, True), (21, {}, False, False), (21, {"automatic": True}, False, True)],
)
def test_what_a_program_labelled_in_ct_org_was_drawn_by_nobody(
    number: int,
    options: dict[str, bool],
    test: bool,  # noqa: FBT001
    drawn: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    layout = LABEL_MAPS["ct-org"]
    write_ct(tmp_path / f"volume-{number}.nii.gz")
    write_labels(tmp_path / f"labels-{number}.nii.gz", label_image(layout.numbers, organ_masks()))
    case = only("ct-org", tmp_path, **options)
    assert case.test is test
    assert ({"lungs", "whole_bones"} <= case.annotated) is drawn
    assert ("lungs" in case.read().masks) is drawn
    assert "liver" in case.annotated


def test_verse_scans_of_one_subject_are_one_patient(tmp_path: Path) -> None:
    for orientation in ("ax", "sag"):
        name = f"sub-verse500_dir-{orientation}"
        part = tmp_path / "dataset-01training"
        write_ct(part / "rawdata" / "sub-verse500" / f"{name}_ct.nii.gz")
        write_labels(
            part / "derivatives" / "sub-verse500" / f"{name}_seg-vert_msk.nii.gz",
            label_image({8: "vertebrae"}, organ_masks()),
        )
    cases = open_database("verse", "db", tmp_path, {})
    assert [case.patient for case in cases] == ["sub-verse500"] * 2
    assert len({case.name for case in cases}) == 2


TOTAL = {
    **MASK_FILES,
    "lung_left": ["lung_upper_lobe_left", "lung_lower_lobe_left"],
    "lung_right": ["lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"],
    "rib_left": [f"rib_left_{n}" for n in range(1, 13)],
    "rib_right": [f"rib_right_{n}" for n in range(1, 13)],
    "clavicle_left": ["clavicula_left"],
    "gall_bladder": ["gallbladder"],
}


@pytest.mark.parametrize(
    ("kind", "heart", "cord"),
    [
        ("totalsegmentator", ["heart"], True),
        (
            "totalsegmentator-v1",
            ["heart_myocardium"]
            + [f"heart_{c}_{s}" for c in ("atrium", "ventricle") for s in ("left", "right")],
            False,
        ),
    ],
)
def test_totalsegmentator(kind: str, heart: list[str], cord: bool, tmp_path: Path) -> None:  # noqa: FBT001
    files = {**TOTAL, "heart": heart, "spinal_cord": ["spinal_cord"]}
    write_masks(tmp_path, "s0011", files)
    some = {"liver": ["liver"], "kidney_left": ["kidney_left"], "lung_left": ["lung_upper_lobe_left"]}
    write_masks(tmp_path, "s0864", some)
    write_meta(tmp_path, {"s0011": ("17", "train"), "s0864": ("", "test")})
    first, second = open_database(kind, "db", tmp_path, {})
    assert (first.age_years, first.test, second.age_years, second.test) == (17.0, False, None, True)
    masks, read = organ_masks(), first.read().masks
    for organ in ("heart", "lung_left", "lung_right", "rib_right", "gall_bladder"):
        assert np.array_equal(read[organ], masks[organ]), organ
    assert np.array_equal(read["lungs"], masks["lung_left"] | masks["lung_right"])
    assert ("spinal_cord" in first.annotated) is cord
    # a mask file that is missing was not drawn: neither clavicles with one side, nor a heart without chambers
    assert "clavicle_left" in first.annotated
    assert "clavicles" not in first.annotated
    assert second.annotated == {"liver", "kidney_left"}


def test_an_empty_mask_is_outside_and_a_missing_one_not_drawn(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_masks(data, "BDMAP_00000001")
    masks = data / "BDMAP_00000001" / "segmentations"
    write_labels(masks / "spleen.nii.gz", np.zeros(GRID.shape, bool))
    (masks / "pancreas.nii.gz").unlink()
    (case,) = stored("abdomen-atlas", data, tmp_path / "store").cases()
    assert case.state("liver") is OrganState.DRAWN
    assert case.state("spleen") is OrganState.OUTSIDE
    assert case.state("pancreas") is OrganState.NOT_DRAWN


def test_exchanged_mask_files_are_seen(tmp_path: Path) -> None:
    write_masks(
        tmp_path,
        "BDMAP_00000001",
        MASK_FILES | {"kidney_left": ["kidney_right"], "kidney_right": ["kidney_left"]},
    )
    with pytest.raises(AnatomyContradicted, match="kidney_right is not right of kidney_left"):
        only("abdomen-atlas", tmp_path).read()


def _amos(folder: Path) -> Path:
    write_scan(folder, LABEL_MAPS["amos22"])
    return folder / "labelsTr" / "amos_0004.nii.gz"


def _other_size(folder: Path) -> None:
    write_labels(_amos(folder), np.ones((76, 28, 41), np.uint8))


def _elsewhere(folder: Path) -> None:
    away = Grid(shape=GRID.shape, spacing_mm=GRID.spacing_mm, origin_mm=(-160.0, -108.0, -270.0))
    write_labels(_amos(folder), label_image(LABEL_MAPS["amos22"].numbers, organ_masks()), away)


def _cut_off(folder: Path) -> None:
    path = _amos(folder)
    path.write_bytes(path.read_bytes()[:200])


def _ct_cut_off(folder: Path) -> None:
    _amos(folder)
    path = folder / "imagesTr" / "amos_0004.nii.gz"
    path.write_bytes(path.read_bytes()[:200])


def _no_labels(folder: Path) -> None:
    _amos(folder).unlink()


def _no_image(folder: Path) -> None:
    _amos(folder)
    (folder / "imagesTr" / "amos_0004.nii.gz").unlink()


def _unknown_number(folder: Path) -> None:
    labels = label_image(LABEL_MAPS["amos22"].numbers, organ_masks())
    labels[0, 0, 0] = 16
    write_labels(_amos(folder), labels)


def _nothing_drawn(folder: Path) -> None:
    write_labels(_amos(folder), np.zeros(GRID.shape, np.uint8))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_other_size, "TRAINING_CASE_REJECTED"),
        (_elsewhere, "TRAINING_CASE_REJECTED"),
        (_cut_off, "INPUT"),
        (_ct_cut_off, "INPUT"),
        (_no_labels, "TRAINING_CASE_REJECTED"),
        (_no_image, "TRAINING_CASE_REJECTED"),
        (_unknown_number, "TRAINING_CASE_REJECTED"),
        (_nothing_drawn, "TRAINING_CASE_REJECTED"),
    ],
)
def test_a_spoilt_scan_is_listed_and_the_others_come_in(
    spoil: Callable[[Path], None], code: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    spoil(data)
    write_ct(data / "imagesTr" / "amos_0005.nii.gz", seed=1)
    good = label_image(LABEL_MAPS["amos22"].numbers, organ_masks())
    write_labels(data / "labelsTr" / "amos_0005.nii.gz", good)
    store = stored("amos22", data, tmp_path / "store")
    assert rejected(store) == {"db__0004": code}
    assert [case.key for case in store.cases()] == ["db__0005"]


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("nothing", {}, ConfigError, "kind 'nothing' must be"),
        ("amos22", {"rois": {}}, ConfigError, "rois: automatic, outside are known"),
        ("ct-org", {"automatic": "perhaps"}, ConfigError, "automatic"),
        ("amos22", {}, InputError, "no scan of AMOS22"),
        ("totalsegmentator", {}, InputError, "meta.csv"),
        ("nnunet", {}, InputError, "dataset.json"),
        ("dicom-rtstruct", {}, InputError, "no CT series"),
    ],
)
def test_a_folder_or_option_that_cannot_be_used_is_refused(
    kind: str, options: dict[str, object], error: type[OrgsegError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        open_database(kind, "db", tmp_path, options)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        open_database("amos22", "db", tmp_path / "away", {})


def test_every_description_is_whole_and_every_kind_of_the_study_is_there() -> None:
    for name in described_data_sets():
        data_set = load_data_set(name)
        assert all((data_set.title, data_set.licence, data_set.citation, data_set.source, data_set.drawn))
        numbers = [n for group in data_set.labels.values() for n in group]
        assert len(set(numbers)) == len(numbers), name
        assert not set(numbers) & set(data_set.others), name
    study = load_experiment(training_config("experiments/study.toml"))
    assert {database.kind for database in study.databases} <= set(kinds())
    given = set().union(*(load_data_set(database.kind).organs for database in study.databases))
    assert set(study.strategy_1) - given == {
        "eyeballs",
        "rectus_abdominis",
    }  # as the comment of the file says


def test_the_documentation_counts_the_organs_of_the_study_as_they_are() -> None:
    page = Path(__file__).parents[4] / "docs" / "training.md"
    study = load_experiment(training_config("experiments/study.toml"))
    rows = {
        line.split("|")[1].split("`")[1]: line.split("|")[3].split()[0].strip(",;")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and line.count("|") == 7
    }
    assert set(rows) == set(kinds()) - {"totalsegmentator-v1"}  # which shares a row
    for kind in set(rows) - {"nnunet", "dicom-rtstruct", "openkbp", "ct"}:
        assert int(rows[kind]) == len(load_data_set(kind).organs & set(study.strategy_1)), kind


def test_a_description_with_faults_is_refused_with_all_of_them(tmp_path: Path) -> None:
    text = (training_config("datasets") / "amos22.toml").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace("spleen = [1]", "spleeen = [1]"), encoding="utf-8")
    with pytest.raises(ConfigError, match="spleeen"):
        read_description(wrong)


def _nnunet(folder: Path, document: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(document), encoding="utf-8")
    numbers = {1: "liver", 2: "spleen", 3: "kidney_left"}
    for case, part in (("a", "Tr"), ("b", "Ts")):
        write_ct(folder / f"images{part}" / f"{case}_0000.nii.gz", seed=ord(case))
        write_labels(folder / f"labels{part}" / f"{case}.nii.gz", label_image(numbers, organ_masks()))


NEW = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "Liver": 1, "milz": 2, "tumour": 3},
    "file_ending": ".nii.gz",
}
OLD = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "Liver", "2": "milz", "3": "tumour"}}


@pytest.mark.parametrize("document", [NEW, OLD], ids=["new", "old"])
def test_any_folder_of_nnunet(document: dict[str, object], tmp_path: Path) -> None:
    _nnunet(tmp_path, document)
    first, second = open_database("nnunet", "db", tmp_path, {"organs": {"milz": "spleen"}})
    assert (first.name, first.test, second.name, second.test) == ("a", False, "b", True)
    assert first.annotated == {"liver", "spleen"}
    assert first.unused == ("tumour",)
    assert np.array_equal(first.read().masks["spleen"], organ_masks()["spleen"])


def test_only_what_was_looked_for_counts_in_a_folder_of_nnunet(tmp_path: Path) -> None:
    _nnunet(tmp_path, NEW)
    first, _ = open_database("nnunet", "db", tmp_path, {"organs": {"milz": "spleen"}, "drawn": ["liver"]})
    assert set(first.read().masks) == first.annotated == {"liver"}


def test_a_scan_with_ignored_voxels_is_rejected(tmp_path: Path) -> None:
    _nnunet(tmp_path / "data", NEW | {"labels": {"background": 0, "liver": 1, "spleen": 2, "ignore": 3}})
    assert set(rejected(stored("nnunet", tmp_path / "data", tmp_path / "out")).values()) == {
        "TRAINING_CASE_REJECTED"
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_names": {"0": "T1"}}, "not one CT"),
        ({"labels": {"background": 0, "tumour": 1}}, "no label means an organ: tumour"),
        ({"labels": None}, "cannot be read"),
    ],
)
def test_a_folder_of_nnunet_that_cannot_be_used_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    _nnunet(tmp_path, NEW | change)
    with pytest.raises(InputError, match=message):
        open_database("nnunet", "db", tmp_path, {})
