"""A reference anatomy in a bundle: made by the command line, and part of the bundle's identity."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from orgseg_node.core.organs import load_organs
from orgseg_node.errors import BundleInvalid, InputError
from orgseg_node.inference.bundles.bundle import ModelBundle, open_bundle, verify_bundle
from orgseg_node.inference.bundles.nnunet_cases import open_case_folder
from orgseg_node.inference.bundles.references import REFERENCE, read_reference
from orgseg_node.shipped import shipped_config
from tests.support.ct.anatomy_patients import KEYS, anatomy_patient
from tests.support.models.bundles import write_bundle
from tests.support.node.command_line import orgseg


def write_cases(folder: Path, count: int) -> Path:
    """A data set in nnU-Net's raw layout; in the first case one organ was not drawn."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    names = ("RightParotid", "LeftParotid", "Brainstem")
    numbers = {"parotid_right": 1, "parotid_left": 2, "brainstem": 3}
    rows = []
    for seed in range(count):
        patient = anatomy_patient(seed)
        labels = np.zeros(patient.grid.shape, dtype=np.uint8)
        for key in KEYS:
            labels[patient.masks[key]] = numbers[key]
        for array, name in ((patient.hu, f"imagesTr/c{seed:02d}_0000"), (labels, f"labelsTr/c{seed:02d}")):
            image = SimpleITK.GetImageFromArray(array)
            image.SetSpacing([float(step) for step in reversed(patient.grid.spacing_mm)])
            SimpleITK.WriteImage(image, str(folder / f"{name}.nii.gz"))
        rows.append({"case": f"c{seed:02d}", "age_years": "50"} | dict.fromkeys(names, "1" if seed else ""))
    labels_by_name = {"background": 0} | {name: n for n, name in enumerate(names, start=1)}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels_by_name}))
    with (folder / "cases.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def bundle_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModelBundle:
    """A bundle that the command line finds."""
    bundle = write_bundle(folder / "bundles" / "a")
    monkeypatch.setenv("ORGSEG_BUNDLES", str(folder / "bundles"))
    return bundle


def test_the_command_writes_a_reference_that_changes_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bundle_in(tmp_path, monkeypatch)
    cases = write_cases(tmp_path / "cases", 18)
    arguments = [
        "models",
        "reference",
        before.manifest.name,
        str(cases),
        "--source",
        "phantoms, public domain",
    ]
    result = orgseg(capsys, *arguments, "--leave-out", "c17")
    assert result.status == 0, result
    after = open_bundle(before.path)
    verify_bundle(after)
    assert after.sha256 != before.sha256
    assert REFERENCE in after.manifest.files
    reference = read_reference(after).anatomy
    assert reference is not None
    group = reference.population(None)
    assert reference.source == "phantoms, public domain"
    assert group.patients == 17
    assert {key: organ.patients for key, organ in group.organs.items()} == dict.fromkeys(KEYS, 16)
    assert reference.scan is not None
    trained = reference.trained
    assert trained is not None
    assert (trained.adults, trained.children, trained.age_unknown) == (17, 0, 0)
    assert 50 < trained.diameters_mm[0] <= trained.diameters_mm[1] <= trained.diameters_mm[2] < 400


def test_a_bundle_without_a_reference_has_none(tmp_path: Path) -> None:
    assert read_reference(write_bundle(tmp_path / "a")).anatomy is None


def test_a_damaged_reference_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_in(tmp_path, monkeypatch)
    (bundle.path / REFERENCE).write_text('{"schema": 9}')
    manifest = bundle.manifest
    damaged = ModelBundle(
        path=bundle.path,
        manifest=type(manifest)(
            **{name: getattr(manifest, name) for name in manifest.__slots__ if name != "files"},
            files={**manifest.files, REFERENCE: "0" * 64},
        ),
        sha256=bundle.sha256,
    )
    with pytest.raises(BundleInvalid, match="schema 9"):
        read_reference(damaged)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    table = load_organs(shipped_config("organs.toml"))
    with pytest.raises(InputError, match=r"dataset\.json"):
        open_case_folder(tmp_path, {}, table)
