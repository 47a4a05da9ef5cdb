"""A bundle of networks of several bundles: the same files, with the organs that are named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orgseg_node.errors import BundleExists, ConfigError, OptionInvalid
from orgseg_node.inference.bundles.bundle import ModelBundle, find_bundle, open_bundle, verify_bundle
from orgseg_node.inference.bundles.manifest import Part, Preprocessing
from orgseg_node.inference.bundles.references import REFERENCE
from orgseg_node.inference.bundles.training_cases import TrainingCase, add_training_cases, training_cases
from orgseg_node.inference.bundles.writing import replace_manifest
from orgseg_training.cli.app import app
from orgseg_training.cli.compose import require_unseen
from orgseg_training.datasets.case_store import StoredCase
from orgseg_training.shipped import training_config
from orgseg_training.tuning.compose import CompositionFile
from orgseg_training.tuning.data_sets import read_data_sets_file
from tests.support.models.bundles import write_bundle

FILE = """
licence = "none"
intended_use = "Test only."

[[sources]]
name = "first"
organs = ["spleen"]

[[sources]]
name = "second"
organs = ["liver"]

[[databases]]
name = "openkbp"
kind = "openkbp"
folder = "openkbp"
test = "source"

[bundle]
name = "composed"
version = "2.0.0"
title = "Composed"
trained_on = "See the sources."
"""
PART = Part(
    folder="parts/main",
    configuration="3d_fullres",
    folds=("0",),
    labels={1: "spleen", 2: "liver"},
    priorities={"spleen": 0.9, "liver": 0.8},
)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, ModelBundle]:
    first = write_bundle(tmp_path / "first", parts=(PART,))
    second = write_bundle(tmp_path / "second", parts=(PART,))
    case = TrainingCase(voxels_sha256="1" * 64, coarse_sha256="2" * 64, patient="p", held_out=None)
    return {"first": first, "second": add_training_cases(second, {"parts/main": (case,)})}


def _compose(root: Path, sources: dict[str, ModelBundle], text: str = FILE) -> ModelBundle:
    (root / "file.toml").write_text(text)
    given = [f"--source={name}={bundle.path}" for name, bundle in sources.items()]
    command = ["compose", "--config", str(root / "file.toml"), "--out", str(root / "out"), *given]
    done = CliRunner().invoke(app, [*command, "--validate-only"])
    if done.exception is not None:
        raise done.exception
    return open_bundle(root / "out" / "composed")


def test_each_network_contours_what_it_is_named_for(tmp_path: Path, sources: dict[str, ModelBundle]) -> None:
    bundle = _compose(tmp_path, sources)
    verify_bundle(bundle)
    assert (bundle.manifest.name, bundle.manifest.version) == ("composed", "2.0.0")
    one, other = bundle.manifest.parts
    assert (one.labels, one.priorities) == ({1: "spleen"}, {"spleen": 0.9})
    assert (other.labels, other.priorities) == ({2: "liver"}, {"liver": 0.8})
    assert one.folder != other.folder
    assert list(training_cases(bundle)) == [other.folder], "of the first nothing is known"


@pytest.mark.parametrize("named", ["first", "second"])
def test_the_anatomy_is_that_of_the_source_that_is_named(tmp_path: Path, named: str) -> None:
    starter = find_bundle("starter-hn", [])
    shutil.copytree(starter.path, tmp_path / "copy")
    manifest = replace(starter.manifest, files={**starter.manifest.files})
    del manifest.files["reference.json"]
    plain = replace_manifest(open_bundle(tmp_path / "copy"), manifest)
    text = FILE.replace('"spleen"', '"mandible", "larynx"').replace('"liver"', '"esophagus"')
    sources = {"first": plain, "second": plain} | {named: starter}
    bundle = _compose(tmp_path, sources, f'reference = "{named}"\n{text}')
    verify_bundle(bundle)
    assert set(bundle.manifest.organs) == {"mandible", "larynx", "esophagus"}
    assert (bundle.path / REFERENCE).read_bytes() == (starter.path / REFERENCE).read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('"liver"', '"spleen"', ConfigError, "spleen: named twice"),
        ('"liver"', '"pancreas"', ConfigError, "sources.second: the bundle has no pancreas"),
        ('name = "second"', 'name = "third"', ConfigError, "--source third=FOLDER is missing"),
        ('name = "second"', 'name = "first"', ConfigError, "a name is given twice"),
        (
            'licence = "none"',
            'licence = "none"\nreference = "x"',
            ConfigError,
            "--source x=FOLDER is missing",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path,
    sources: dict[str, ModelBundle],
    old: str,
    new: str,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        _compose(tmp_path, sources, FILE.replace(old, new))
    assert not (tmp_path / "out" / "composed").exists()


def test_networks_that_see_a_ct_differently_are_not_composed(
    tmp_path: Path, sources: dict[str, ModelBundle]
) -> None:
    other = Preprocessing(outside_to_air=True, body_margin_mm=3.0)
    strange = write_bundle(tmp_path / "strange", parts=(PART,), preprocessing=other)
    with pytest.raises(ConfigError, match="differently"):
        _compose(tmp_path, {**sources, "second": strange})


def test_the_recipe_that_comes_with_the_package_names_each_organ_once() -> None:
    file = read_data_sets_file(training_config("experiments") / "starter-compose.toml", CompositionFile, {})
    organs = [organ for source in file.sources for organ in source.organs]
    assert sorted(organs) == sorted(find_bundle("starter-hn", []).manifest.organs)


def test_two_data_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    text = (training_config("experiments") / "starter-compose.toml").read_text(encoding="utf-8")
    table = text[text.index("[[databases]]") :].split("\n\n")[0]
    (tmp_path / "wrong.toml").write_text(f"{text}\n{table}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="databases: a name is given twice"):
        read_data_sets_file(tmp_path / "wrong.toml", CompositionFile, {})


def test_a_finished_bundle_is_not_replaced(tmp_path: Path, sources: dict[str, ModelBundle]) -> None:
    (tmp_path / "out" / "models" / "composed").mkdir(parents=True)
    with pytest.raises(BundleExists):
        _compose(tmp_path, sources)


def test_a_source_without_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.toml").write_text(FILE)
    command = [
        "compose",
        "--config",
        str(tmp_path / "file.toml"),
        "--out",
        str(tmp_path),
        "--source",
        "first",
    ]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, OptionInvalid)
    assert "--source first: write NAME=FOLDER" in str(done.exception)


def test_no_bundle_is_measured_on_scans_that_its_networks_were_trained_on(
    tmp_path: Path, sources: dict[str, ModelBundle]
) -> None:
    bundle = _compose(tmp_path, sources)
    new, seen = (
        StoredCase(
            key=f"db__{number}",
            database="db",
            patient=number,
            age_years=None,
            test=True,
            states={},
            voxels_sha256=number * 64,
            coarse_sha256=coarse * 64,
            folder=tmp_path,
        )
        for number, coarse in (("5", "6"), ("3", "2"))
    )
    require_unseen(bundle, [new])
    with pytest.raises(ConfigError, match="trained on scans of the test: db__3"):
        require_unseen(bundle, [new, seen])
