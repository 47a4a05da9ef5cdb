"""TotalSegmentator's way and our engine on networks of its folders and label maps: nothing differs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.rivals.__main__ import main

pytestmark = pytest.mark.endurance


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("task", ["total_fast", "total"])
def test_on_the_grid_of_the_networks_no_voxel_differs(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--network", "tiny", "--size", "96", "--slices", "40", "--saving-processes", "1"]
    assert main(["--task", task, *small, "--replica", "--work", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "nnU-Net's predictor as totalsegmentator calls it" in shown
    (same,) = re.findall(r"summary, same grid: .* (\d+) of \d+ voxels differ", shown)
    assert int(same) < 10, "labels that are no organ of the table take few voxels"
    if task == "total_fast":
        assert same == "0"
    labelled = int(re.findall(r"of (\d+) labelled", shown)[0])
    assert labelled > 1000, "networks with random weights find something"
    assert len(re.findall(r"summary, CT: ours, .* time [\d.]+, memory [\d.]+", shown)) == 2
