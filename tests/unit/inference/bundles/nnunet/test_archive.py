"""What people give instead of a folder: zips of every maker, and files that are no zip."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from orgseg_node.errors import ModelDamaged, ModelNotImportable
from orgseg_node.inference.bundles.nnunet.archive import unpack

_FILES = ("D/T__P__C/plans.json", "D/T__P__C/fold_0/checkpoint_final.pth")


def _zip(path: Path, *names: str, content: bytes = b"{}") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name in names:
            member = zipfile.ZipInfo("x")
            member.filename, member.compress_type = name, zipfile.ZIP_DEFLATED
            opened.writestr(member, content)
    return path


def _unpack(archive: Path, folder: Path) -> set[str]:
    folder.mkdir()
    unpack(archive, folder, {"plans.json", "checkpoint_final.pth"}, {"checkpoint_latest.pth"})
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("prefix", ["", "nnUNet_results/x/", "./"])
def test_only_what_is_wanted_is_unpacked_wherever_it_is(prefix: str, tmp_path: Path) -> None:
    more = ("./", "D/", "D/progress.png", "__MACOSX/D/plans.json", "D/T__P__C/fold_1/checkpoint_latest.pth")
    archive = _zip(tmp_path / "a.zip", *more, *(prefix + name for name in _FILES))
    place = prefix.removeprefix("./")
    noted = "D/T__P__C/fold_1/checkpoint_latest.pth"
    assert _unpack(archive, tmp_path / "out") == {place + name for name in _FILES} | {noted}
    assert (tmp_path / "out" / noted).stat().st_size == 0


def test_backslashes_of_windows_are_folders(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", *(name.replace("/", "\\") for name in _FILES))
    assert _unpack(archive, tmp_path / "out") == set(_FILES)


@pytest.mark.parametrize(
    "name", ["../plans.json", "a/../../plans.json", "/plans.json", "C:\\plans.json", "..\\x"]
)
def test_a_path_that_leads_outside_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotImportable, match="outside its folder"):
        _unpack(_zip(tmp_path / "a.zip", *_FILES, name), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_zip_is_called_damaged(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", *_FILES, content=os.urandom(20_000))
    whole = archive.read_bytes()
    archive.write_bytes(whole[:2000] + os.urandom(3000) + whole[5000:])
    with pytest.raises(ModelDamaged, match="not a readable zip"):
        _unpack(archive, tmp_path / "out")
    archive.write_bytes(whole[:9000])
    with pytest.raises(ModelDamaged, match="not a zip"):
        _unpack(archive, tmp_path / "cut")


def test_a_name_that_no_file_system_holds_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ModelDamaged, match="name too long"):
        _unpack(_zip(tmp_path / "a.zip", f"{'x' * 300}/plans.json"), tmp_path / "out")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("b/configs/metadata.json",), "MONAI"),
        (("T/plans.pkl",), "nnU-Net v1"),
        (("net/data.pkl", "net/version"), "single checkpoint"),
        (("net/data.pkl", "net/constants.pkl"), "TorchScript"),
        (("export.zip",), "give the zip itself"),
        (("Dataset1/imagesTr/a.nii.gz",), "data set for training"),
        (("fold_0/checkpoint_best.pth",), "no plans.json; give the folder above"),
    ],
)
def test_a_zip_of_another_kind_is_called_by_its_name(
    names: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotImportable, match=said):
        _unpack(_zip(tmp_path / "a.zip", *names), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.tar.gz", b"\x1f\x8b", "another archive than a zip"),
        ("net.onnx", b"\x08\x07", "exported as ONNX"),
        ("checkpoint_final.pth", b"\x80\x02", "single checkpoint"),
        ("plans.json", b"{}", "give its folder"),
        ("m.zip", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.zip", b"<!DOCTYPE html><html>", "web page"),
        ("m.zip", b"", "0 bytes"),
    ],
)
def test_a_file_that_is_no_zip_is_called_by_its_name(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelNotImportable, match=said):
        _unpack(tmp_path / name, tmp_path / "out")
