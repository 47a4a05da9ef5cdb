"""The reference of the training scans is read from the bundle, for those bundles that have one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.scan_references import REFERENCE, scan_reference, scan_references
from orgseg_node.shipped import shipped_bundles


def with_reference(folder: Path, text: str) -> ModelBundle:
    starter = open_bundle(shipped_bundles() / "starter-hn")
    (folder / REFERENCE).write_text(text)
    files = {**starter.manifest.files, REFERENCE: "0" * 64}
    return replace(starter, path=folder, manifest=replace(starter.manifest, files=files))


def test_a_bundle_without_one_has_none(tmp_path: Path) -> None:
    starter = open_bundle(shipped_bundles() / "starter-hn")
    files = {name: sha for name, sha in starter.manifest.files.items() if name != REFERENCE}
    assert scan_reference(replace(starter, manifest=replace(starter.manifest, files=files))) is None
    assert scan_reference(with_reference(tmp_path, "{}")) is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"scan": 1}', '{"scan": {"scans": 3}}', json.dumps({"scan": []})]
)
def test_one_that_cannot_be_read_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="starter-hn"):
        scan_reference(with_reference(tmp_path, text))


def test_unknown_bundles_are_left_to_who_runs_them(tmp_path: Path) -> None:
    assert scan_references(["no-such-bundle"], [tmp_path]) == {}
