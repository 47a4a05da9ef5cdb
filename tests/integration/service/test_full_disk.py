"""A node that starts on a full disk waits for space, and says so to senders and supervisors meanwhile."""

from __future__ import annotations

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orgseg_node.errors import DiskFull
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.full_disk import PROBLEM, await_space, require_space_to_start
from orgseg_node.node.service import run_node
from orgseg_node.web.http_server import HttpServer
from tests.faults.bench import NotRun, push, small_disk
from tests.support.node.node_process import wait_for
from tests.support.peers.dcmtk import free_port

pytestmark = pytest.mark.endurance


def config_of(data: Path) -> NodeConfig:
    return NodeConfig.model_validate(
        {
            "node": {"host": "127.0.0.1", "port": free_port(), "data_dir": data},
            "receiver": {"min_free_mb": 0, "quiet_seconds": 0.2, "accept_any_calling_ae": True},
            "web": {"host": "127.0.0.1", "port": free_port()},
            "worker": {"spare_child": False},
        }
    )


def answer(config: NodeConfig, path: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{config.web.port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def is_up(config: NodeConfig) -> bool:
    try:
        return answer(config, "/healthz")[0] == 200
    except OSError:
        return False


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with suppress(OSError), path.open("wb") as file:
        while True:
            file.write(bytes(1_000_000))
            file.flush()


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_without_space_images_are_refused_and_readyz_says_why(tmp_path: Path, ct_folder: Path) -> None:
    config, stop, space = config_of(tmp_path), threading.Event(), threading.Event()

    def require(folder: Path) -> None:
        assert folder == tmp_path
        if not space.is_set():
            raise DiskFull("0 MB are free.")

    entry = HttpServer()
    waiting = in_thread(lambda: await_space(config, (entry,), stop, poll_s=0.05, require_space=require))
    wait_for(lambda: is_up(config), 20, "it answers")
    image = min(ct_folder.iterdir())
    assert push(config.node.port, image) == 0xA700
    assert answer(config, "/readyz") == (503, {"ok": False, "problems": [PROBLEM]})
    assert answer(config, "/dicom-web/studies")[0] == 503
    space.set()
    waiting.join(20)
    assert not waiting.is_alive()
    assert not stop.is_set()


def test_a_stop_ends_the_waiting(tmp_path: Path) -> None:
    config, stop = config_of(tmp_path), threading.Event()

    def require(_folder: Path) -> None:
        raise DiskFull

    waiting = in_thread(lambda: await_space(config, (), stop, poll_s=60, require_space=require))
    stop.set()
    waiting.join(20)
    assert not waiting.is_alive()


def test_with_space_nothing_is_opened_and_nothing_is_left(tmp_path: Path) -> None:
    await_space(config_of(tmp_path), (), threading.Event())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_node_on_a_full_disk_starts_once_there_is_space(tmp_path: Path, ct_folder: Path) -> None:
    image, stop, ready = min(ct_folder.iterdir()), threading.Event(), threading.Event()
    try:
        with small_disk(tmp_path / "disk", 40) as disk:
            filler = disk / "filler"
            fill(filler)
            with pytest.raises(DiskFull):
                require_space_to_start(disk)
            config = config_of(disk / "data")
            node = in_thread(
                lambda: run_node(
                    config,
                    tick_s=0.05,
                    stop=stop,
                    ready=lambda _port: ready.set(),
                    entry_points=(HttpServer(),),
                )
            )
            wait_for(lambda: is_up(config), 20, "it answers")
            assert push(config.node.port, image) == 0xA700
            assert not ready.is_set()
            filler.unlink()
            assert ready.wait(60)
            assert push(config.node.port, image) == 0x0000
            stop.set()
            node.join(60)
    except NotRun as error:
        pytest.skip(str(error))
