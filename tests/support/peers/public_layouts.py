"""Label numbers and places of public data sets, written down from their own papers and not from our maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.ct.body_of_boxes import Mask, label_image, organ_masks, write_ct, write_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where image and labels of one scan lie, its name, and what the numbers mean."""

    image: str
    labels: str
    case: str
    numbers: dict[int, str]
    swaps: tuple[tuple[str, str], ...]
    """Organs that, exchanged, no body has."""


_PAIR = ("kidney_left", "kidney_right")
_ADRENALS = ("adrenal_gland_left", "adrenal_gland_right")
_MIDDLE = ("liver", "spleen")

LABEL_MAPS = {
    "amos22": Layout(
        image="imagesTr/amos_0004.nii.gz",
        labels="labelsTr/amos_0004.nii.gz",
        case="0004",
        numbers={
            6: "liver", 1: "spleen", 2: "kidney_right", 3: "kidney_left", 4: "gall_bladder", 5: "esophagus",
            7: "stomach", 8: "aorta", 10: "pancreas", 11: "adrenal_gland_right", 12: "adrenal_gland_left",
            14: "urinary_bladder",
        },
        swaps=(_PAIR, _ADRENALS, _MIDDLE, ("esophagus", "urinary_bladder"), ("liver", "stomach")),
    ),
    "btcv": Layout(
        image="RawData/Training/img/img0001.nii.gz",
        labels="RawData/Training/label/label0001.nii.gz",
        case="0001",
        numbers={
            6: "liver", 1: "spleen", 2: "kidney_right", 3: "kidney_left", 4: "gall_bladder", 5: "esophagus",
            7: "stomach", 8: "aorta", 11: "pancreas", 12: "adrenal_gland_right", 13: "adrenal_gland_left",
        },
        swaps=(_PAIR, _ADRENALS, _MIDDLE, ("gall_bladder", "esophagus")),
    ),
    "flare22": Layout(
        image="images/FLARE22_Tr_0001_0000.nii.gz",
        labels="labels/FLARE22_Tr_0001.nii.gz",
        case="FLARE22_Tr_0001",
        numbers={
            1: "liver", 2: "kidney_right", 3: "spleen", 4: "pancreas", 5: "aorta", 7: "adrenal_gland_right",
            8: "adrenal_gland_left", 9: "gall_bladder", 10: "esophagus", 11: "stomach", 13: "kidney_left",
        },
        swaps=(_PAIR, _ADRENALS, _MIDDLE, ("gall_bladder", "stomach")),
    ),
    "word": Layout(
        image="imagesTr/word_0002.nii.gz",
        labels="labelsTr/word_0002.nii.gz",
        case="word_0002",
        numbers={
            1: "liver", 2: "spleen", 3: "kidney_left", 4: "kidney_right", 5: "stomach", 6: "gall_bladder",
            7: "esophagus", 8: "pancreas", 10: "colon", 11: "small_bowel", 12: "adrenal_gland_left",
            17: "adrenal_gland_right", 13: "rectum", 14: "urinary_bladder", 15: "femoral_head_left",
            16: "femoral_head_right",
        },
        swaps=(_PAIR, _MIDDLE, ("femoral_head_left", "femoral_head_right"), ("rectum", "urinary_bladder")),
    ),
    "ct-org": Layout(
        image="volume-7.nii.gz",
        labels="labels-7.nii.gz",
        case="7",
        numbers={
            1: "liver", 2: "urinary_bladder", 3: "lung_left", 4: "kidney_left", 5: "vertebrae", 6: "brain",
        },
        swaps=(("urinary_bladder", "brain"), ("liver", "urinary_bladder")),
    ),
    "verse": Layout(
        image="dataset-03test/rawdata/sub-verse004/sub-verse004_ct.nii.gz",
        labels="dataset-03test/derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz",
        case="sub-verse004",
        numbers={20: "vertebrae"},
        swaps=(),
    ),
}  # fmt: skip

MASK_FILES = {
    "liver": ["liver"], "spleen": ["spleen"], "aorta": ["aorta"], "stomach": ["stomach"],
    "pancreas": ["pancreas"], "kidney_left": ["kidney_left"], "kidney_right": ["kidney_right"],
}  # fmt: skip
"""Names that TotalSegmentator and AbdomenAtlas share."""


def write_scan(folder: Path, layout: Layout, masks: dict[str, Mask] | None = None) -> None:
    """One scan of a data set with label images."""
    write_ct(folder / layout.image)
    write_labels(folder / layout.labels, label_image(layout.numbers, masks or organ_masks()))


def write_masks(folder: Path, case: str, files: dict[str, list[str]] = MASK_FILES) -> None:
    """One scan of a data set with an image for each organ; organs of several files are divided."""
    write_ct(folder / case / "ct.nii.gz")
    masks = organ_masks()
    for organ, names in files.items():
        for number, name in enumerate(names):
            part = masks[organ].copy()
            part[[k for k in range(part.shape[0]) if k % len(names) != number]] = False
            write_labels(folder / case / "segmentations" / f"{name}.nii.gz", part)


def write_meta(folder: Path, rows: dict[str, tuple[str, str]]) -> None:
    """TotalSegmentator's table: age and split by scan."""
    lines = ["image_id;age;gender;institute;study_type;split;manufacturer"]
    lines += [f"{case};{age};m;A;ct;{split};x" for case, (age, split) in rows.items()]
    (folder / "meta.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
