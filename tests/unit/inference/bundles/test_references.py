"""The reference of the training scans is read from the bundle, for those bundles that have one."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orgseg_node.errors import BundleInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle
from orgseg_node.inference.bundles.references import (
    REFERENCE,
    BundleReference,
    References,
    open_references,
    read_reference,
)
from orgseg_node.shipped import shipped_bundles


def with_reference(folder: Path, text: str) -> ModelBundle:
    starter = open_bundle(shipped_bundles() / "starter-hn")
    (folder / REFERENCE).write_text(text)
    files = {**starter.manifest.files, REFERENCE: "0" * 64}
    return replace(starter, path=folder, manifest=replace(starter.manifest, files=files))


def test_a_bundle_without_one_has_none(tmp_path: Path) -> None:
    starter = open_bundle(shipped_bundles() / "starter-hn")
    files = {name: sha for name, sha in starter.manifest.files.items() if name != REFERENCE}
    assert (
        read_reference(replace(starter, manifest=replace(starter.manifest, files=files))) == BundleReference()
    )
    assert read_reference(with_reference(tmp_path, "{}")) == BundleReference()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"scan": 1}', '{"scan": {"scans": 3}}', json.dumps({"scan": []})]
)
def test_one_that_cannot_be_read_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="starter-hn"):
        read_reference(with_reference(tmp_path, text))


def test_unknown_bundles_are_left_to_who_runs_them(tmp_path: Path) -> None:
    assert open_references(["no-such-bundle"], [tmp_path]) == References()


def test_the_file_is_read_once_for_scans_and_organs() -> None:
    opened: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).endswith(REFERENCE):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    references = open_references(["starter-hn"], [])
    watching.clear()
    assert len(opened) == 1
    assert references.scans.keys() == references.anatomy.keys() != set()
