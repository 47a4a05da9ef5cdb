"""The life of a model as a physicist types it: first version, shadow, promotion, rollback in a minute."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pydicom
import pytest

from orgseg_node.inference.bundles.bundle import open_bundle
from orgseg_node.inference.bundles.gate_file import model_entry, render_gate
from tests.support.ct.phantom import PhantomOptions, build_ct_series
from tests.support.node.command_line import orgseg
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import NodeProcess, running_node, wait_for
from tests.support.peers.dcmtk import free_port, storescp, storescu

pytestmark = [pytest.mark.endurance, pytest.mark.peer, pytest.mark.timeout(600), *LEAKS]

MODELS = """
[models]
signatures = 2
shadow_cases = 1
[models.persons]
"A. Physicist" = "{a}"
"B. Physicist" = "{b}"
"""


def ct(folder: Path, number: int) -> list[Path]:
    """A CT series of its own."""
    files = list(build_ct_series(folder / f"ct{number}", PhantomOptions(slices=24, slice_spacing_mm=3.0)))
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = f"{dataset.SeriesInstanceUID}.{number}"
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)
    return files


def drawn_by(node: NodeProcess, tps: Path, files: list[Path]) -> str:
    """Push a CT; the model that the delivered structure set names."""
    before = set(tps.iterdir())
    assert storescu(node.port, files, "-aec", "ORGSEG").returncode == 0

    def arrived() -> pydicom.FileDataset | None:
        for path in set(tps.iterdir()) - before:
            dataset = pydicom.dcmread(path, force=True)
            if dataset.get("Modality") == "RTSTRUCT":
                return dataset
        return None

    found = wait_for(arrived, 120, "the structure set arrives")
    return str(found.SoftwareVersions[1])


def test_from_the_first_version_to_the_next_and_back(
    tmp_path: Path, with_bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in "12":
        added = orgseg(capsys, "models", "add", with_bundles / "tiny", "--name", f"head-neck@{version}")
        assert added.status == 0, added.err
    bundles = [open_bundle(with_bundles / f"head-neck@{version}") for version in "12"]
    keys = {
        name: orgseg(capsys, "models", "keygen", tmp_path / f"{name}.pem").out.split()[0] for name in "ab"
    }
    port = free_port()
    section = f'bundles = ["head-neck@live"]\nbundle_folders = ["{with_bundles}"]\ndevice = "cpu"'
    with (
        storescp(tmp_path / "tps", port, "-aet", "TPS") as tps,
        running_node(tmp_path, port, None, section, more=MODELS.format(**keys)) as node,
    ):
        config = ("--config", tmp_path / "node.toml")

        def signed(name: str, bundle: str, *more: object) -> str:
            key = tmp_path / f"{name}.pem"
            answer = orgseg(capsys, "models", "promote", bundle, "--key", key, *more, *config)
            assert answer.status == 0, answer.err
            return answer.out

        first = ("--override", "--why", "the first version, commissioned")
        assert "Not live yet" in signed("a", "head-neck@1", *first)
        assert "live head-neck" in signed("b", "head-neck@1", *first)
        assert drawn_by(node, tps, ct(tmp_path, 1)).startswith("head-neck@1 1 sha256:")

        shadow = orgseg(capsys, "models", "shadow", "head-neck@2", "--by", "A", *config)
        assert shadow.status == 0, shadow.err

        def report() -> dict[str, object]:
            (found,) = json.loads(orgseg(capsys, "models", "shadow", "--json", *config).out)["shadows"]
            return found if found["enough"] else {}

        organs = wait_for(report, 120, "the shadow was compared")["organs"]
        assert [row["mean_dice"] for row in organs] == [1.0] * len(organs), "the same network"
        assert len(list(tps.iterdir())) == 2, "nothing of it was sent"

        gate = tmp_path / "gate.json"
        entries = {"live": model_entry(bundles[0].identity), "candidate": model_entry(bundles[1].identity)}
        gate.write_bytes(render_gate({**entries, "verdict": "PASS", "reasons": []}, tmp_path / "a.pem"))
        signed("a", "head-neck@2", "--gate", gate)
        assert "live head-neck" in signed("b", "head-neck@2")
        assert drawn_by(node, tps, ct(tmp_path, 2)).startswith("head-neck@2 1 sha256:")

        begun = time.monotonic()
        back = orgseg(capsys, "models", "rollback", "head-neck", "--by", "A", "--why", "larynx", *config)
        assert back.status == 0, back.err
        assert drawn_by(node, tps, ct(tmp_path, 3)).startswith("head-neck@1 1 sha256:")
        assert time.monotonic() - begun < 60
        history = orgseg(capsys, "models", "history", "head-neck", *config)
        assert "RETIRED -> LIVE" in history.out
        assert "rollback by A: larynx" in history.out
        assert node.stop() == 0
