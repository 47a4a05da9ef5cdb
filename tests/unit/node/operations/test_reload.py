"""A process ID is only used where it counts: in the container in which the node runs."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from orgseg_node.errors import NodeNotRunning, ReloadRefused
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.operations.reload import (
    PID_FILE,
    Reloader,
    ask_to_reload,
    config_events,
    pid_file,
    revision_in_force,
    running_pid,
)
from orgseg_node.node.routing.revision import revision_of
from orgseg_node.node.store.store import Store


def test_the_running_node_is_found_by_its_lock(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    with pid_file(tmp_path):
        assert running_pid(tmp_path) == os.getpid()
    assert running_pid(tmp_path) is None


def test_a_node_of_another_container_gets_no_signal(tmp_path: Path) -> None:
    config = NodeConfig.model_validate(
        {"node": {"data_dir": tmp_path}, "receiver": {"accept_any_calling_ae": True}}
    )
    store = Store(tmp_path)
    with pytest.raises(NodeNotRunning):
        ask_to_reload(config, store)
    with pid_file(tmp_path):
        (tmp_path / PID_FILE).write_text(json.dumps({"pid": 1, "namespace": "pid:[1]"}))
        assert running_pid(tmp_path) == 0
        with pytest.raises(ReloadRefused, match="another container"):
            ask_to_reload(config, store)
        (tmp_path / PID_FILE).write_text(json.dumps({"pid": 7}))
        assert running_pid(tmp_path) == 7, "as an earlier version wrote it"


def test_a_protocol_that_was_changed_is_a_new_revision_without_a_reload(tmp_path: Path) -> None:
    protocol = tmp_path / "ours.toml"
    protocol.write_text('others = "keep"\n', encoding="utf-8")
    config = NodeConfig.model_validate(
        {
            "node": {"data_dir": tmp_path},
            "receiver": {"accept_any_calling_ae": True},
            "contours": {"protocol": str(protocol)},
        }
    )
    store = Store(tmp_path)
    reloader = Reloader(CurrentConfig(config), store, None, lambda _: None, requested=threading.Event())
    first = reloader.begin()
    reloader.watch()
    assert [one.subject for one in config_events(store)] == [first], "nothing was changed"
    protocol.write_text('others = "drop"\n', encoding="utf-8")
    reloader.watch()
    reloader.watch()
    assert [one.subject for one in config_events(store)] == [first, revision_of(config)]
    assert revision_in_force(store) == revision_of(config) != first
    store.close()
