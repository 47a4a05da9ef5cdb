"""For whom the node's files are: its own user alone, or the group that receiver and worker have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from orgseg_node.node.store.model import JobState
from tests.support.node.leaks import LEAKS
from tests.support.node.node_process import CONFIG, NodeProcess
from tests.support.peers.dcmtk import free_port, storescp, storescu

pytestmark = [pytest.mark.endurance, pytest.mark.peer, *LEAKS]


@pytest.mark.parametrize("shared", [False, True])
def test_nothing_is_for_everyone_and_the_group_has_all_or_nothing(
    tmp_path: Path, ct_folder: Path, monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    if shared:
        with_group = CONFIG.replace('data_dir = "data"', 'data_dir = "data"\nshared_with_group = true')
        monkeypatch.setattr("tests.support.node.node_process.CONFIG", with_group)
    port = free_port()
    node = NodeProcess(folder=tmp_path, tps_port=port)
    with storescp(tmp_path / "tps", port, "-aet", "TPS"):
        node.start()
        try:
            assert storescu(node.port, sorted(ct_folder.iterdir()), "-aec", "ORGSEG").returncode == 0
            node.job_in(JobState.DONE, seconds=60)
        finally:
            assert node.stop() == 0
    data = tmp_path / "data"
    found = {path: path.stat().st_mode & 0o777 for path in (data, *data.rglob("*"))}
    assert len(found) > 30
    assert not [path for path, mode in found.items() if mode & 0o007]
    shown = [path for path in found if not path.is_relative_to(data / "db")]  # of one process, not shared
    if shared:
        assert not [path for path in shown if found[path] & 0o060 != 0o060], "the group may read and write"
    else:
        assert not [path for path in shown if found[path] & 0o070]
