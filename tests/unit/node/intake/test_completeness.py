"""Sources are asked in parallel, as the configuration in force defines."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from orgseg_node.errors import Unreachable
from orgseg_node.node.config.current import CurrentConfig
from orgseg_node.node.config.node_config import NodeConfig
from orgseg_node.node.intake.completeness import CompletenessChecker, SourcePoller
from tests.support.node.node_process import wait_for


def config_with(folder: Path, *sources: str) -> NodeConfig:
    """A configuration in which each source has one sender."""
    place = {"host": "127.0.0.1", "port": 1}
    return NodeConfig.model_validate(
        {
            "node": {"data_dir": folder},
            "peers": [{"ae_title": f"FROM_{name}".upper(), "source": name} for name in sources],
            "sources": {name: {"ae_title": name.upper(), **place} for name in sources},
            "completeness": {"expect": "ask"},
        }
    )


class Asked:
    """Replaces the checker: counts the calls, and behaves as the name of the source says."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.silent = threading.Event()

    def check(self, name: str) -> int:
        self.counts[name] += 1
        if name == "silent":
            self.silent.wait(30)
        if name == "broken":
            raise Unreachable("BROKEN.")
        if name == "odd":
            raise ValueError(name)
        return 1


@pytest.fixture
def asked() -> Any:
    asked = Asked()
    yield asked
    asked.silent.set()


def test_a_source_that_does_not_answer_holds_up_no_other(asked: Asked, tmp_path: Path) -> None:
    poller = SourcePoller(
        CurrentConfig(config_with(tmp_path, "silent", "pacs")), cast("CompletenessChecker", asked)
    )
    for expected in (1, 2, 3):
        poller.poll()
        wait_for(
            lambda expected=expected: asked.counts["pacs"] == expected and poller.busy == {"silent"},
            10,
            "the round",
        )
    assert asked.counts["silent"] == 1, "and is not asked again meanwhile"
    asked.silent.set()
    poller.stop()
    assert poller.busy == set(), "stop() waits for it"


@pytest.mark.parametrize("kind", ["broken", "odd"])
def test_what_goes_wrong_with_a_source_is_tried_again(asked: Asked, tmp_path: Path, kind: str) -> None:
    poller = SourcePoller(CurrentConfig(config_with(tmp_path, kind)), cast("CompletenessChecker", asked))
    for expected in (1, 2):
        poller.poll()
        wait_for(
            lambda expected=expected: asked.counts[kind] == expected and not poller.busy, 10, "the round"
        )
    poller.stop()


def test_a_source_that_a_reload_brings_is_asked_and_one_that_it_removes_is_not(
    asked: Asked, tmp_path: Path
) -> None:
    current = CurrentConfig(config_with(tmp_path, "old"))
    poller = SourcePoller(current, cast("CompletenessChecker", asked))
    poller.poll()
    wait_for(lambda: asked.counts["old"] == 1 and not poller.busy, 10, "round")
    current.replace(config_with(tmp_path, "new"))
    poller.poll()
    wait_for(lambda: asked.counts["new"] == 1, 10, "round")
    poller.stop()
    assert asked.counts["old"] == 1
