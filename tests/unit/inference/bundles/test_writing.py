"""A bundle is there completely or not at all, and its draft is checked before anything is converted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orgseg_node.errors import BundleExists, BundleInvalid, ModelNotImportable
from orgseg_node.inference.bundles.writing import (
    BundleDraft,
    PartDraft,
    _unused_folder,
    export_trained,
    new_bundle_folder,
)


def _draft(name: str = "new", title: str = "x") -> BundleDraft:
    return BundleDraft(
        name=name, version="1", title=title, intended_use="x", trained_on="x", licence="x", card="# x"
    )


def _trained(folder: Path) -> Path:
    (folder / "fold_0").mkdir(parents=True)
    (folder / "fold_0" / "checkpoint_final.pth").touch()
    plans = {"dataset_name": "D", "configurations": {"3d_fullres": {"patch_size": [8, 8, 8]}}}
    (folder / "plans.json").write_text(json.dumps(plans))
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": 1}}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def test_a_folder_under_construction_becomes_the_target_at_the_end(tmp_path: Path) -> None:
    with new_bundle_folder(tmp_path / "models" / "new") as work:
        (work / "file").write_text("x")
        assert not (tmp_path / "models" / "new").exists()
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["new"]
    assert (tmp_path / "models" / "new" / "file").read_text() == "x"


def test_a_failure_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _stop_half_way(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def _stop_half_way(target: Path) -> None:
    with new_bundle_folder(target) as work:
        (work / "file").write_text("x")
        raise KeyboardInterrupt


def _be_overtaken(target: Path) -> None:
    with new_bundle_folder(target):
        target.mkdir()
        (target / "first").touch()


def test_the_second_writer_does_not_overwrite_the_first(tmp_path: Path) -> None:
    with pytest.raises(BundleExists):
        _be_overtaken(tmp_path / "new")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["first"]
    with pytest.raises(BundleExists), new_bundle_folder(tmp_path / "new"):
        pytest.fail("it is there")
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("draft", "expected"), [(_draft("a/b"), "name 'a/b'"), (_draft(title=" "), "title must be text")]
)
def test_an_invalid_draft_is_refused_before_anything_is_converted(
    draft: BundleDraft, expected: str, tmp_path: Path
) -> None:
    part = PartDraft(folder=_trained(tmp_path / "t"), label_map={1: "spleen"})
    with pytest.raises(BundleInvalid, match=expected):
        export_trained([part], draft, tmp_path / "out" / "new")
    assert not (tmp_path / "out").exists()


def test_a_label_the_model_does_not_have_is_refused(tmp_path: Path) -> None:
    part = PartDraft(folder=_trained(tmp_path / "t"), label_map={1: "spleen", 9: "liver"})
    with pytest.raises(ModelNotImportable, match="'D' has no label 9"):
        export_trained([part], _draft(), tmp_path / "out" / "new")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bundle_without_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotImportable, match="No part"):
        export_trained([], _draft(), tmp_path / "new")


def test_parts_of_one_name_get_folders_of_their_own() -> None:
    assert _unused_folder("Dataset1 Ä/x", set()) == "parts/Dataset1___x"
    assert _unused_folder("a", {"parts/a", "parts/a_2"}) == "parts/a_3"
    assert _unused_folder("..", set()) == "parts/part"
