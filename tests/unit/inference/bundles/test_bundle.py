"""Bundles are found by name, opened strictly and verified file by file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orgseg_node.errors import BundleHashMismatch, BundleInvalid, UnknownBundle
from orgseg_node.inference.bundles.bundle import (
    broken_bundles,
    check_weights,
    find_bundle,
    list_bundles,
    open_bundle,
    verify_bundle,
)
from orgseg_node.inference.bundles.manifest import MANIFEST
from tests.support.models.bundles import write_bundle


def test_the_identity_is_the_hash_of_the_manifest(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    assert bundle.identity.sha256 == hashlib.sha256((tmp_path / "b" / MANIFEST).read_bytes()).hexdigest()
    assert (bundle.identity.name, bundle.identity.version) == ("paper-bundle", "1.0.0")
    assert bundle.card.startswith("# A card")


def test_an_untouched_bundle_verifies(tmp_path: Path) -> None:
    verify_bundle(write_bundle(tmp_path / "b"))


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    (tmp_path / "b" / "parts/main/fold_0.safetensors").write_text("Weights")
    with pytest.raises(BundleHashMismatch, match=r"fold_0\.safetensors \(changed\)"):
        verify_bundle(bundle)


def test_a_file_that_went_missing_is_found(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    (tmp_path / "b" / "card.md").unlink()
    with pytest.raises(BundleHashMismatch, match=r"card\.md \(missing\)"):
        verify_bundle(bundle)
    with pytest.raises(BundleInvalid, match=r"card\.md"):
        open_bundle(tmp_path / "b")


def test_a_file_that_was_added_is_found(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    (tmp_path / "b" / "parts/main/evil.py").write_text("print()")
    with pytest.raises(BundleHashMismatch, match=r"evil\.py \(added\)"):
        verify_bundle(bundle)


def test_a_manifest_changed_after_opening_is_found(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b")
    write_bundle(tmp_path / "b", version="2.0.0")
    with pytest.raises(BundleHashMismatch, match=r"manifest\.toml \(changed\)"):
        verify_bundle(bundle)


def test_a_bundle_is_found_by_the_name_in_its_manifest(tmp_path: Path) -> None:
    write_bundle(tmp_path / "some-folder")
    assert find_bundle("paper-bundle", [tmp_path]).path == tmp_path / "some-folder"


def test_an_unknown_name_is_refused_with_all_known_names(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    with pytest.raises(UnknownBundle, match="paper-bundle"):
        find_bundle("other", [tmp_path])


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UnknownBundle):
        open_bundle(tmp_path)


def test_the_first_folder_wins_where_two_bundles_have_one_name(tmp_path: Path) -> None:
    write_bundle(tmp_path / "mine" / "b", version="2")
    write_bundle(tmp_path / "theirs" / "b", version="1")
    folders = [tmp_path / "mine", tmp_path / "theirs"]
    assert [b.manifest.version for b in list_bundles(folders) if b.manifest.name == "paper-bundle"] == ["2"]
    assert find_bundle("paper-bundle", folders).manifest.version == "2"


def test_an_invalid_bundle_is_listed_as_invalid_and_does_not_hide_others(tmp_path: Path) -> None:
    write_bundle(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / MANIFEST).write_text("schema = 1")
    assert "paper-bundle" in {b.manifest.name for b in list_bundles([tmp_path])}
    assert [path.name for path, _ in broken_bundles([tmp_path])] == ["bad"]
    with pytest.raises(BundleInvalid):
        find_bundle("bad", [tmp_path])


def test_a_bundle_under_construction_is_not_listed(tmp_path: Path) -> None:
    write_bundle(tmp_path / ".paper-bundle-x1", name="half-done")
    assert "half-done" not in {b.manifest.name for b in list_bundles([tmp_path])}


@pytest.mark.parametrize("length", [0, 2**62, 2**63, 100])
def test_a_header_longer_than_the_file_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "fold_0.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(BundleInvalid, match="states a header of"):
        check_weights(path)
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    check_weights(path)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,1125899906842624]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"X9","shape":[2],"data_offsets":[0,8]}}',
        b"[1]",
    ],
)
def test_a_header_whose_tensors_do_not_fit_into_the_file_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "fold_0.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(BundleInvalid, match="cannot be read"):
        check_weights(path)
