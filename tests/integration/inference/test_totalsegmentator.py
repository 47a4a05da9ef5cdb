"""TotalSegmentator's folder of weights becomes one bundle: every organ from its own label, on RAS arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orgseg_node.core.body import Body
from orgseg_node.core.geometry import Box, Grid
from orgseg_node.core.organs import OrganTable
from orgseg_node.core.volume import Volume
from orgseg_node.errors import ModelNotImportable, OrganUnknown
from orgseg_node.inference.bundles.bundle import open_bundle
from orgseg_node.inference.bundles.importing import ImportOptions, import_model
from orgseg_node.inference.loading import load_predictor
from orgseg_node.inference.predictor import InferenceSettings
from tests.support.models.totalsegmentator import LABELS, write_totalsegmentator
from tests.support.node.command_line import orgseg

pytestmark = pytest.mark.endurance

_TOTAL = (291, 292, 293, 294, 295)


def test_the_command_that_a_hospital_types_imports_five_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], organ_table: OrganTable
) -> None:
    weights = write_totalsegmentator(tmp_path / "results", (*_TOTAL, 297, 775))
    to = ("--to", tmp_path / "bundles")
    refused = orgseg(capsys, "models", "add", "totalsegmentator", weights, *to)
    assert refused.code == OrganUnknown.code
    added = orgseg(capsys, "models", "add", "totalsegmentator", weights, "--known-only", *to)
    assert added.status == 0
    assert "are no organ of the table and are left out: kidney_cyst_left" in added.err.replace("\n", " ")
    bundle = open_bundle(tmp_path / "bundles" / "totalsegmentator-total")
    manifest = bundle.manifest
    assert manifest.preprocessing.orientation == "RAS"
    assert not manifest.mirroring
    assert "kidney_cyst_left" in bundle.card
    assert manifest.tile_step_size == 0.8
    ranks = [{manifest.priorities[key] for key in part.labels.values()} for part in manifest.parts]
    assert ranks == [{1.0}, {2.0}, {3.0}, {4.0}, {5.0}], "where parts overlap, the later one wins there"
    for part, name in zip(manifest.parts, list(LABELS)[:5], strict=True):
        names = LABELS[name].split()
        for number, key in part.labels.items():
            whole = {"vertebrae": "vertebrae", "rib": "rib", "lung": "lung"}
            stem = next((w for w in whole if names[number - 1].startswith(w)), None)
            side = next((s for s in ("left", "right") if s in names[number - 1]), None)
            assert stem is None or key.startswith(whole[stem])
            assert side is None or key.endswith(side) or stem == "rib"
    labels = manifest.parts[0].labels
    assert (labels[1], labels[2], labels[3], labels[5]) == ("spleen", "kidney_right", "kidney_left", "liver")
    grid = Grid(shape=(20, 24, 24), spacing_mm=(3.0, 3.0, 3.0), origin_mm=(0.0, 0.0, 0.0))
    hu = np.random.default_rng(1).normal(0, 300, grid.shape).astype(np.int16)
    mask = np.ones(grid.shape, dtype=bool)
    body = Body(mask=mask, box=Box.around(mask), effective_diameter_mm=70.0, findings=())
    settings = InferenceSettings(device="cpu", threads=1)
    found = load_predictor(bundle, organ_table, settings).predict(
        Volume(grid=grid, hu=hu), body, lambda *_: None
    )
    assert found.label_map.labels.any()


def test_several_tasks_at_once_are_refused_with_the_command_for_one(
    tmp_path: Path, organ_table: OrganTable
) -> None:
    weights = write_totalsegmentator(tmp_path / "results", (291, 297))
    options = ImportOptions(name="all", folder=tmp_path / "bundles", table=organ_table, known_only=True)
    with pytest.raises(ModelNotImportable, match="orgseg models add totalsegmentator FOLDER --task"):
        import_model(weights, options)


def test_a_single_task_says_that_it_is_cropped_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_totalsegmentator(tmp_path / "results", (297, 775))
    command = ("models", "add", "totalsegmentator", weights, "--known-only", "--to", tmp_path / "bundles")
    added = orgseg(capsys, *command, "--task", "head_glands_cavities")
    assert added.status == 0
    assert "around the skull" in added.err.replace("\n", " ")
    manifest = open_bundle(tmp_path / "bundles" / "totalsegmentator-head_glands_cavities").manifest
    assert manifest.preprocessing.orientation == "RAS", "its name does not say that it is TotalSegmentator's"
    assert {"parotid_left", "parotid_right"} <= set(manifest.organs)
    assert orgseg(capsys, *command, "--task", "total_fast").status == 0
    fast = open_bundle(tmp_path / "bundles" / "totalsegmentator-total_fast").manifest
    assert len(fast.parts) == 1
    assert "spleen" in fast.organs
